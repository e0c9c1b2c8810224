use std::time::Duration;

/// How much may come: a rate with a burst, or a limit in a sliding window.
///
/// A rate is `cells` per `period` in the long run, and a burst of so many at once. In any stretch of time of length `w`, at most
/// `burst + w · cells / period` cells pass: the burst is what may come at once after a rest, and it is won back at the rate. A
/// request costs one cell unless its policy says otherwise.
///
/// Any numbers can be written down here; what cannot be enforced is refused when a limiter is built from them.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_ratelimit::Quota;
///
/// let api = Quota::per_second(100).burst(200);
/// let report = Quota::per(Duration::from_secs(15 * 60), 3);
/// let mails = Quota::sliding_window(500, Duration::from_secs(24 * 60 * 60));
/// assert_eq!((api.cells(), api.max_burst()), (100, 200));
/// assert_eq!(report.max_burst(), 1);
/// assert_eq!(mails.max_burst(), 500);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    cells: u32,
    period: Duration,
    burst: Option<u32>,
    sliding: bool,
}

impl Quota {
    /// `cells` per second; all of them may come at once.
    pub const fn per_second(cells: u32) -> Self {
        Self::per(Duration::from_secs(1), cells)
    }

    /// `cells` per minute, with the burst of [`Quota::per`].
    pub const fn per_minute(cells: u32) -> Self {
        Self::per(Duration::from_secs(60), cells)
    }

    /// `cells` per hour, with the burst of [`Quota::per`].
    pub const fn per_hour(cells: u32) -> Self {
        Self::per(Duration::from_secs(60 * 60), cells)
    }

    /// `cells` per `period`. Until [`Quota::burst`] says otherwise, what the rate brings in one second may come at
    /// once: rounded up, so at least one.
    ///
    /// The whole period's cells at once would be the other choice, and the wrong one: 10,000 an hour is hardly ever
    /// meant to allow 10,000 in the first instant.
    pub const fn per(period: Duration, cells: u32) -> Self {
        Self {
            cells,
            period,
            burst: None,
            sliding: false,
        }
    }

    /// `limit` cells in a sliding window: counted in windows of this length, of which the previous one fades out as
    /// the current one goes on. All of them may come at once.
    ///
    /// For limits that are worded so ("10,000 an hour"), and for bursts that a rate would refuse. In any stretch of
    /// time of one length less than twice the limit passes, and no more than the limit if use is even; see
    /// [`window`](crate::window) for what exactly is promised.
    pub const fn sliding_window(limit: u32, window: Duration) -> Self {
        Self {
            cells: limit,
            period: window,
            burst: None,
            sliding: true,
        }
    }

    /// `cells` may come at once. Not for sliding windows.
    #[must_use]
    pub const fn burst(mut self, cells: u32) -> Self {
        self.burst = Some(cells);
        self
    }

    /// How many cells a period brings.
    pub const fn cells(&self) -> u32 {
        self.cells
    }

    /// The length of the period.
    pub const fn period(&self) -> Duration {
        self.period
    }

    /// Whether it is a sliding window, and not a rate.
    pub const fn is_sliding_window(&self) -> bool {
        self.sliding
    }

    pub(crate) const fn explicit_burst(&self) -> Option<u32> {
        self.burst
    }

    /// Whether less may come than under the other, at once or in the long run.
    pub(crate) fn is_less_than(&self, other: &Self) -> bool {
        let rate = |quota: &Self, period: Duration| u128::from(quota.cells) * period.as_nanos();
        self.max_burst() < other.max_burst() || rate(self, other.period) < rate(other, self.period)
    }

    /// How many cells may come at once.
    pub fn max_burst(&self) -> u32 {
        if self.sliding {
            return self.cells;
        }
        self.burst.unwrap_or_else(|| {
            let per_second = (u128::from(self.cells) * 1_000_000_000)
                .div_ceil(self.period.as_nanos().max(1))
                .max(1);
            u32::try_from(per_second).unwrap_or(u32::MAX)
        })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_default_burst_is_one_second_of_the_rate() {
        for (quota, burst) in [
            (Quota::per_second(100), 100),
            (Quota::per_minute(600), 10),
            (Quota::per_minute(601), 11),
            (Quota::per_minute(30), 1),
            (Quota::per_hour(10_000), 3),
            (Quota::per(Duration::from_millis(100), 5), 50),
            (Quota::per(Duration::ZERO, u32::MAX), u32::MAX),
            (Quota::per_second(0), 1),
        ] {
            assert_eq!(quota.max_burst(), burst, "{quota:?}");
        }
        assert_eq!(Quota::per_minute(30).burst(30).max_burst(), 30);
    }
}
