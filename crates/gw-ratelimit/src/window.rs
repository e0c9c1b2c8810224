//! The sliding-window counter: a state, a time and a cost in; a verdict out.
//!
//! Time is cut into windows of one length. A key's state holds what it spent in the current window and in the one
//! before it. A request passes if what is *estimated* for the stretch of one length that ends now has room for it:
//!
//! ```text
//! previous · (1 − elapsed/length) + current + cost ≤ limit
//! ```
//!
//! as if what was spent in the previous window had come evenly. What this promises, exactly:
//!
//! - In no window of the grid does more than the limit pass.
//! - In any stretch of time of one length, wherever it begins, less than twice the limit passes. The estimate is exact
//!   if the previous window was spent evenly, and then it is no more than the limit.
//!
//! Who must not exceed the limit in *any* stretch takes a rate instead ([`gcra`](crate::gcra)), whose burst says how
//! much may come at once.
//!
//! Times are nanoseconds on one clock that starts at 0. A clock that stands still or steps back is harmless: a key is
//! never seen in an earlier window than before, and at the start of its window the previous one counts in full.

use std::time::Duration;

use crate::config::ConfigError;
use crate::gcra::nanos;
use crate::verdict::{Balance, Verdict};

/// A limit and the length of the windows that it holds for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// In nanoseconds.
    length: u64,
    limit: u32,
    /// How many bits of a state hold each of the two counts. Given by the length alone, so that a state keeps its
    /// meaning when the limit changes.
    bits: u32,
}

/// A state, unpacked.
#[derive(Debug, Clone, Copy)]
struct Counts {
    /// Which window is the current one, from 0 on.
    number: u64,
    current: u64,
    previous: u64,
}

impl Window {
    /// The longest window.
    pub const MAX_LENGTH: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    /// How long windows can be told apart after time 0: for 29 years, all that a process can ask for. After that a
    /// key's last window does not end: what was spent in it does not come back.
    pub const LIFE: Duration = Duration::from_secs(29 * 366 * 24 * 60 * 60);

    /// `limit` cells in each window of this length.
    ///
    /// # Errors
    ///
    /// If the limit is 0 or above [`Window::max_limit`], or the length is 0 or above [`Window::MAX_LENGTH`].
    pub fn new(limit: u32, length: Duration) -> Result<Self, ConfigError> {
        if length.is_zero() || length > Self::MAX_LENGTH {
            const RULE: &str = "must be above 0 and at most 366 days";
            return Err(ConfigError::new("window", RULE));
        }
        if limit == 0 {
            return Err(ConfigError::new("limit", "must be above 0"));
        }
        if limit > Self::max_limit(length) {
            const RULE: &str = "is too high for so short a window: 65535 fit one second, a million 4 minutes; use a rate";
            return Err(ConfigError::new("limit", RULE));
        }
        let length = nanos(length);
        let bits = bits(length);
        Ok(Self {
            length,
            limit,
            bits,
        })
    }

    /// The highest limit for windows of this length: 65,535 for a second, 524,287 for a minute, 4,194,303 for an hour.
    /// It grows with the square root of the length, since all of a key's state is one 64-bit number.
    pub fn max_limit(length: Duration) -> u32 {
        // Half of what a count can hold: a charge after the fact may lead beyond the limit.
        let most = (1u64 << bits(nanos(length))) >> 1;
        u32::try_from(most.saturating_sub(1)).unwrap_or(u32::MAX)
    }

    pub(crate) const MICROSECOND: u64 = 1_000;

    /// In two words: the length, and the number of bits above the limit. The number is not 0, which tells these words from
    /// those of a rate.
    pub(crate) const fn words(&self) -> [u64; 2] {
        [self.length, (self.bits as u64) << 32 | self.limit as u64]
    }

    /// The window that was put into these words, if it was one.
    pub(crate) const fn of_words([length, limit]: [u64; 2]) -> Option<Self> {
        match (limit >> 32) as u32 {
            0 => None,
            bits => Some(Self {
                length,
                limit: limit as u32,
                bits,
            }),
        }
    }

    /// How many cells a window brings.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// The length of a window in nanoseconds.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Decides on a request of `cost` cells at `now` for a key with the given state. A cost of 0 always passes.
    // Apart: it is long, and most policies are rates.
    #[inline(never)]
    pub fn decide(&self, state: u64, now: u64, cost: u32) -> Verdict {
        if cost == 0 {
            return Verdict::Allow { state };
        }
        if cost > self.limit {
            return Verdict::DenyForever { state };
        }
        let counts = self.at(state, now);
        if self.fits(counts, now, cost) {
            let current = counts.current + u64::from(cost);
            let counts = Counts { current, ..counts };
            return Verdict::Allow {
                state: self.pack(counts),
            };
        }
        let wait = self.wait(counts, now, cost);
        Verdict::Deny { state, wait }
    }

    /// What a key with the given state has left at `now`.
    pub fn balance(&self, state: u64, now: u64) -> Balance {
        let counts = self.at(state, now);
        let remaining = self.limit.saturating_sub(self.spent(counts, now));
        let end = self.start(counts.number).saturating_add(self.length);
        Balance {
            remaining,
            window: match remaining {
                0 => self.wait(counts, now, 1),
                // What is left then does not shrink by itself before.
                _ => end.saturating_sub(now),
            },
            reset_after: self.idle_at(state).saturating_sub(now),
        }
    }

    /// How much of the limit is taken at `now`, rounded up.
    pub(crate) fn used(&self, state: u64, now: u64) -> u32 {
        self.spent(self.at(state, now), now)
    }

    /// What was spent in the window of `now`.
    pub(crate) fn current(&self, state: u64, now: u64) -> u32 {
        u32::try_from(self.at(state, now).current).unwrap_or(u32::MAX)
    }

    /// When the key will have everything back.
    pub(crate) fn idle_at(&self, state: u64) -> u64 {
        let counts = self.unpack(state);
        let windows = match counts {
            Counts { current: 1.., .. } => 2,
            Counts { previous: 1.., .. } => 1,
            _ => 0,
        };
        self.start(counts.number + windows)
    }

    /// The same with a length of whole steps.
    pub(crate) fn in_steps_of(self, nanos: u64) -> Self {
        let length = self.length.next_multiple_of(nanos);
        Self {
            length,
            limit: self.limit,
            bits: bits(length),
        }
    }

    /// The state of a key that was counted elsewhere, and the time to read it at: so much of the window is over then.
    #[cfg(feature = "redis")]
    pub(crate) fn seen(&self, current: u32, previous: u32, elapsed: u64) -> (u64, u64) {
        let counts = Counts {
            number: 1,
            current: current.into(),
            previous: previous.into(),
        };
        (self.pack(counts), self.length + elapsed.min(self.length))
    }

    /// The same windows with twice the limit. A state has room for it, see [`Window::max_limit`].
    pub(crate) const fn with_double_limit(self) -> Self {
        Self {
            length: self.length,
            limit: self.limit.saturating_mul(2),
            bits: self.bits,
        }
    }

    /// Whether two states count in the same window.
    pub(crate) const fn is_same_window(&self, one: u64, other: u64) -> bool {
        self.unpack(one).number == self.unpack(other).number
    }

    /// The state of a key that has spent so many cells at `now`, and nothing before.
    pub(crate) fn spent_at(&self, now: u64, cells: u32) -> u64 {
        self.pack(Counts {
            number: now / self.length,
            current: cells.into(),
            previous: 0,
        })
    }

    /// A state with all that either has spent.
    pub(crate) fn later(&self, one: u64, other: u64) -> u64 {
        let number = self.unpack(one).number.max(self.unpack(other).number);
        let (one, other) = (self.moved(one, number), self.moved(other, number));
        self.pack(Counts {
            number,
            current: one.current.max(other.current),
            previous: one.previous.max(other.previous),
        })
    }

    /// Takes back a charge of `cost` cells that led to the state `after`: it is counted in that state's window, and
    /// gone when that is past.
    pub(crate) fn take_back(&self, state: u64, after: u64, cost: u32) -> u64 {
        let mut counts = self.unpack(state);
        match counts.number.checked_sub(self.unpack(after).number) {
            Some(0) => counts.current = counts.current.saturating_sub(cost.into()),
            Some(1) => counts.previous = counts.previous.saturating_sub(cost.into()),
            _ => {}
        }
        self.pack(counts)
    }

    /// The counts in the window of `now`, or in the state's own if `now` is before it.
    fn at(&self, state: u64, now: u64) -> Counts {
        let counts = self.unpack(state);
        let elapsed = now.saturating_sub(self.start(counts.number));
        if elapsed < self.length {
            // Mostly so, and without a division.
            return counts;
        }
        let number = counts.number.saturating_add(elapsed / self.length);
        self.moved(state, number.min(self.last()))
    }

    /// The counts as seen in a later window.
    fn moved(&self, state: u64, number: u64) -> Counts {
        let counts = self.unpack(state);
        match number.saturating_sub(counts.number) {
            0 => counts,
            1 => Counts {
                number,
                current: 0,
                previous: counts.current,
            },
            _ => Counts {
                number,
                current: 0,
                previous: 0,
            },
        }
    }

    fn fits(&self, counts: Counts, now: u64, cost: u32) -> bool {
        let taken = counts.current + u64::from(cost);
        let Some(free) = u64::from(self.limit).checked_sub(taken) else {
            return false;
        };
        // The estimate, multiplied out.
        let weighed = u128::from(counts.previous) * u128::from(self.left(counts.number, now));
        weighed <= u128::from(free) * u128::from(self.length)
    }

    /// The estimate, rounded up.
    fn spent(&self, counts: Counts, now: u64) -> u32 {
        let weight = self.left(counts.number, now);
        let spent = counts.current + scaled_up(counts.previous, weight, self.length);
        u32::try_from(spent).unwrap_or(u32::MAX)
    }

    /// How long until a request that does not fit would, if nothing else is charged.
    fn wait(&self, counts: Counts, now: u64, cost: u32) -> u64 {
        let (limit, start) = (u64::from(self.limit), self.start(counts.number));
        let cost = u64::from(cost);
        let then = match limit.checked_sub(counts.current + cost) {
            // In this window, or at the start of the next, where the current count is the previous one.
            Some(free) => start.saturating_add(self.faded(counts.previous, free)),
            None => {
                let faded = self.faded(counts.current, limit.saturating_sub(cost));
                start.saturating_add(self.length).saturating_add(faded)
            }
        };
        then.saturating_sub(now).max(1)
    }

    /// How far into a window what was spent in the one before has faded to `free`.
    fn faded(&self, previous: u64, free: u64) -> u64 {
        let kept = match free.checked_mul(self.length) {
            Some(product) => product.checked_div(previous),
            None => (u128::from(free) * u128::from(self.length))
                .checked_div(previous.into())
                .map(|kept| u64::try_from(kept).unwrap_or(u64::MAX)),
        };
        kept.map_or(0, |kept| self.length.saturating_sub(kept))
    }

    /// How much of the window is left at `now`.
    fn left(&self, number: u64, now: u64) -> u64 {
        let elapsed = now.saturating_sub(self.start(number));
        self.length.saturating_sub(elapsed)
    }

    const fn start(&self, number: u64) -> u64 {
        number.saturating_mul(self.length)
    }

    /// The number of the last window that can be told apart.
    const fn last(&self) -> u64 {
        u64::MAX >> (2 * self.bits)
    }

    const fn unpack(&self, state: u64) -> Counts {
        let count = (1 << self.bits) - 1;
        Counts {
            number: state >> (2 * self.bits),
            current: (state >> self.bits) & count,
            previous: state & count,
        }
    }

    fn pack(&self, counts: Counts) -> u64 {
        let count = (1 << self.bits) - 1;
        let number = counts.number.min(self.last()) << (2 * self.bits);
        number | counts.current.min(count) << self.bits | counts.previous.min(count)
    }
}

/// How many bits there are for each count, if the windows of a [`Window::LIFE`] are to be told apart: 2 to 29.
fn bits(length: u64) -> u32 {
    let windows = nanos(Window::LIFE) / length.max(1);
    (windows.leading_zeros()) / 2
}

/// `count · part / whole`, rounded up.
fn scaled_up(count: u64, part: u64, whole: u64) -> u64 {
    if count == 0 {
        return 0;
    }
    match count.checked_mul(part) {
        Some(product) => product.div_ceil(whole),
        None => {
            let scaled = (u128::from(count) * u128::from(part)).div_ceil(whole.into());
            u64::try_from(scaled).unwrap_or(u64::MAX)
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
