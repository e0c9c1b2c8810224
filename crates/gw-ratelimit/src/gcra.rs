//! The decision alone: a state, a time and a cost in; a verdict out.
//!
//! GCRA keeps one number per key, the *theoretical arrival time* (TAT): when the key's debt will have run off. It is
//! time and not tokens, so it needs no refill, and it keeps its meaning when the rate changes.
//!
//! Times are nanoseconds on one clock that starts at 0. A TAT at or before now means no debt, whatever its value;
//! so 0 stands for a key that was never seen without being a special case.

use std::time::Duration;

use crate::config::ConfigError;
use crate::quota::Quota;
use crate::verdict::{Balance, Verdict};

/// A quota as the two numbers that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gcra {
    /// What one cell costs. Rounded up, so that rounding never lets more through than the quota says.
    interval: u64,
    burst: u32,
}

impl Gcra {
    /// The longest period of a quota.
    pub const MAX_PERIOD: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    /// The longest time that winning back a whole burst may take.
    pub const MAX_RESET: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

    /// The numbers for `quota`.
    ///
    /// The interval is rounded up to whole nanoseconds, so the rate enforced is below the one asked for by at most
    /// the factor `1 - rate/1e9`: nothing at 1,000 a second, a thousandth at a million. A limiter is not built of what would
    /// be more than a hundredth, such as 300 million a second.
    ///
    /// # Errors
    ///
    /// If the quota is a sliding window, the rate is 0 or above a cell a nanosecond, the period is 0 or above [`Gcra::MAX_PERIOD`], the burst is 0,
    /// or winning it back takes longer than [`Gcra::MAX_RESET`].
    pub fn new(quota: Quota) -> Result<Self, ConfigError> {
        if quota.is_sliding_window() {
            return Err(ConfigError::new("quota", "must be a rate"));
        }
        let cells = u64::from(quota.cells());
        if cells == 0 {
            return Err(ConfigError::new("rate", "must be above 0"));
        }
        let period = nanos(quota.period());
        if period == 0 || quota.period() > Self::MAX_PERIOD {
            return Err(ConfigError::new(
                "period",
                "must be above 0 and at most 366 days",
            ));
        }
        if cells > period {
            return Err(ConfigError::new(
                "rate",
                "must be at most one cell a nanosecond",
            ));
        }
        let (interval, burst) = (period.div_ceil(cells), quota.max_burst());
        if burst == 0 {
            return Err(ConfigError::new("burst", "must be at least 1"));
        }
        match interval.checked_mul(u64::from(burst)) {
            Some(tolerance) if tolerance <= nanos(Self::MAX_RESET) => Ok(Self { interval, burst }),
            _ => Err(ConfigError::new(
                "burst",
                "must be won back at the rate within 3660 days",
            )),
        }
    }

    /// Whether more than a hundredth of the rate is lost by rounding.
    pub(crate) fn loses_of(&self, quota: Quota) -> bool {
        let enforced = u128::from(self.interval) * u128::from(quota.cells());
        quota.period().as_nanos() * 100 < enforced * 99
    }

    /// The same with an interval of whole steps, so that all times are, if the clock's are.
    pub(crate) const fn in_steps_of(self, nanos: u64) -> Self {
        Self {
            interval: self.interval.next_multiple_of(nanos),
            burst: self.burst,
        }
    }

    /// What a store counts in whose numbers have 53 bits, in nanoseconds: coarser than one if winning back the burst takes longer than 52
    /// days.
    pub(crate) const fn unit_of_stores(&self) -> u64 {
        const MOST: u64 = 1 << 52;
        match self.tolerance() {
            ..=MOST => 1,
            _ => 1000,
        }
    }

    /// From what was checked before: the interval, and the burst in the low half of a word.
    pub(crate) const fn of_words([interval, burst]: [u64; 2]) -> Self {
        Self {
            interval,
            burst: burst as u32,
        }
    }

    /// The cost of one cell in nanoseconds.
    pub const fn interval(&self) -> u64 {
        self.interval
    }

    /// How many cells may come at once.
    pub const fn burst(&self) -> u32 {
        self.burst
    }

    /// The cost of the whole burst in nanoseconds: the largest debt a key can have.
    pub const fn tolerance(&self) -> u64 {
        self.cost(self.burst)
    }

    /// Decides on a request of `cost` cells at `now` for a key with the state `tat`. A cost of 0 always passes.
    ///
    /// A clock that stands still or steps back is harmless: the debt is what counts, and it does not shrink.
    #[inline(always)]
    pub fn decide(&self, tat: u64, now: u64, cost: u32) -> Verdict {
        if cost == 0 {
            return Verdict::Allow { state: tat };
        }
        let after = tat.max(now).saturating_add(self.cost(cost));
        if cost <= self.burst && after <= now.saturating_add(self.tolerance()) {
            return Verdict::Allow { state: after };
        }
        match self.wait(tat, now, cost) {
            Some(wait) => Verdict::Deny { state: tat, wait },
            None => Verdict::DenyForever { state: tat },
        }
    }

    /// How long until a request can pass that cannot now, if it ever can.
    // Apart, so that most decisions are short enough to be made where they are asked for.
    #[inline(never)]
    fn wait(&self, tat: u64, now: u64, cost: u32) -> Option<u64> {
        if cost > self.burst {
            return None;
        }
        let after = tat.max(now).saturating_add(self.cost(cost));
        let allowed_at = after.saturating_sub(self.tolerance());
        Some(allowed_at.saturating_sub(now))
    }

    /// What a key with the state `tat` has left at `now`.
    pub fn balance(&self, tat: u64, now: u64) -> Balance {
        let reset_after = tat.saturating_sub(now);
        // A debt above the tolerance exists after a burst was made smaller, until it has run off.
        let free = self.tolerance().saturating_sub(reset_after);
        let remaining = free / self.interval;
        let window = match remaining {
            0 => reset_after
                .saturating_add(self.interval)
                .saturating_sub(self.tolerance()),
            cells => cells * self.interval,
        };
        Balance {
            remaining: saturated(remaining),
            window,
            reset_after,
        }
    }

    /// How many cells a key with the state `tat` owes at `now`, rounded up.
    pub(crate) fn used(&self, tat: u64, now: u64) -> u32 {
        saturated(tat.saturating_sub(now).div_ceil(self.interval))
    }

    /// The same rate with room for twice as much at once.
    pub(crate) const fn with_double_burst(self) -> Self {
        Self {
            interval: self.interval,
            burst: self.burst.saturating_mul(2),
        }
    }

    /// The cost of `cells` cells in nanoseconds; up to the burst it was checked to be ten years at the most.
    pub(crate) const fn cost(&self, cells: u32) -> u64 {
        self.interval.saturating_mul(cells as u64)
    }
}

/// Takes back a charge that moved a key's TAT to `after` and cost `cost`, and was followed by others: the new TAT.
///
/// Subtracting the cost would give back too much. Had the charge never been made, the key might have been free of
/// debt when the next one came, and that one would then have counted from its own time on. How much later it came is
/// not known, but it was not after `latest`; so as much is kept. The error is on the strict side, and it is nothing
/// when no other charge came in between.
pub(crate) const fn take_back(tat: u64, after: u64, cost: u64, latest: u64) -> u64 {
    if tat == after {
        return tat.saturating_sub(cost);
    }
    let kept = latest.saturating_sub(after.saturating_sub(cost));
    tat.saturating_sub(cost.saturating_sub(kept))
}

/// A duration in nanoseconds, at most what fits: 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    // In 64 bits, since this runs for each request.
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(duration.subsec_nanos().into())
}

fn saturated(cells: u64) -> u32 {
    u32::try_from(cells).unwrap_or(u32::MAX)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
