use std::time::Duration;

use gw_core::ConfigError;

use super::judge::{self, Rules};

/// When an endpoint is ejected, for how long, and how many may be.
///
/// Nothing is checked before [`Outliers::new`](super::Outliers::new) is called.
#[derive(Debug, Clone)]
pub struct OutlierConfig {
    interval: Duration,
    consecutive: u32,
    min_requests: u32,
    deviations: f64,
    failure_gap: f64,
    latency_factor: f64,
    base: Duration,
    max_ejection: Duration,
    max_percent: u32,
    panic_below: f64,
    seed: u64,
}

/// The same, checked and in whole numbers; times are nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) interval: u64,
    pub(super) consecutive: u32,
    pub(super) rules: Rules,
    pub(super) base: u64,
    pub(super) max_ejection: u64,
    max_percent: u32,
    /// In millionths.
    panic_below: u64,
}

const HOUR: Duration = Duration::from_secs(3600);

impl OutlierConfig {
    /// The defaults, which each setter names.
    pub fn new() -> Self {
        Self {
            interval: Duration::from_secs(10),
            consecutive: 5,
            min_requests: 100,
            deviations: 3.5,
            failure_gap: 0.05,
            latency_factor: 3.0,
            base: Duration::from_secs(30),
            max_ejection: Duration::from_secs(300),
            max_percent: 50,
            panic_below: 0.5,
            seed: fastrand::u64(..),
        }
    }

    /// After so many failures in a row an endpoint is ejected at once; 5 unless set, at least 1.
    #[must_use]
    pub fn consecutive(mut self, failures: u32) -> Self {
        self.consecutive = failures;
        self
    }

    /// How long requests are counted before endpoints are compared; 10 s unless set, from 1 s to 5 minutes.
    ///
    /// With little traffic a longer interval is what makes endpoints comparable.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How many requests an endpoint needs in an interval to be compared with the others; 100 unless set, from 20 to a
    /// million.
    #[must_use]
    pub fn min_requests(mut self, requests: u32) -> Self {
        self.min_requests = requests;
        self
    }

    /// By how many times the usual spread of the set an endpoint must differ: standard deviations, estimated from the median
    /// absolute deviation. 3.5 unless set, from 1 to 1000.
    #[must_use]
    pub fn deviations(mut self, deviations: f64) -> Self {
        self.deviations = deviations;
        self
    }

    /// By how much an endpoint's share of failures must be above the median of the set, for it to matter; 0.05 unless set,
    /// from 0.001 to 1.
    #[must_use]
    pub fn failure_gap(mut self, gap: f64) -> Self {
        self.failure_gap = gap;
        self
    }

    /// How many times the median latency of the set an endpoint must take, for it to matter; 3 unless set, from 1.5 to 1000.
    ///
    /// An endpoint's latency is the geometric mean of its successes, and of what was given up when it had been waited for
    /// longer than is usual. Endpoints that differ by design, such as one far away,
    /// need a factor above that difference.
    #[must_use]
    pub fn latency_factor(mut self, factor: f64) -> Self {
        self.latency_factor = factor;
        self
    }

    /// How long the first ejection lasts; 30 s unless set, from 1 ms to an hour. The second in a row lasts twice as long,
    /// the third three times; each interval without trouble takes one of these off again.
    #[must_use]
    pub fn base(mut self, base: Duration) -> Self {
        self.base = base;
        self
    }

    /// The longest ejection; 5 minutes unless set, from `base` to 24 hours. A random part of up to a tenth comes on top, so
    /// that endpoints ejected together do not all come back together.
    #[must_use]
    pub fn max_ejection(mut self, longest: Duration) -> Self {
        self.max_ejection = longest;
        self
    }

    /// How much of the set may be out before nothing more is ejected, in percent; 50 unless set, from 1 to 100.
    ///
    /// Rounded down, but one endpoint may always be ejected, and the last one never. Endpoints that are out because a health
    /// check said so are counted too; those that were forced out are not, as if they were not in the set.
    #[must_use]
    pub fn max_percent(mut self, percent: u32) -> Self {
        self.max_percent = percent;
        self
    }

    /// Where less than this share of the set is usable, all of it is, until more is; 0.5 unless set, from 0 to 1.
    ///
    /// When most of a set looks bad, the fault is likely in what looks, or common to all. To send everything to the few
    /// that are left would break them as well.
    #[must_use]
    pub fn panic_below(mut self, share: f64) -> Self {
        self.panic_below = share;
        self
    }

    /// The seed of the random part of an ejection's time. Random unless set.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    pub(super) const fn rng(&self) -> u64 {
        self.seed
    }

    pub(super) fn check(&self) -> Result<Settings, ConfigError> {
        let wrong = |field, rule| Err(ConfigError::new(field, rule));
        let within = |value, least, most| (least..=most).contains(&value);
        if !within(self.interval, Duration::from_secs(1), HOUR / 12) {
            return wrong("interval", "must be from 1 second to 5 minutes");
        }
        if self.consecutive == 0 {
            return wrong("consecutive", "must be at least 1");
        }
        if !(20..=1_000_000).contains(&self.min_requests) {
            return wrong("min_requests", "must be from 20 to 1000000");
        }
        if !(1.0..=1000.0).contains(&self.deviations) {
            return wrong("deviations", "must be a number from 1 to 1000");
        }
        if !(0.001..=1.0).contains(&self.failure_gap) {
            return wrong("failure_gap", "must be a number from 0.001 to 1");
        }
        if !(1.5..=1000.0).contains(&self.latency_factor) {
            return wrong("latency_factor", "must be a number from 1.5 to 1000");
        }
        if !within(self.base, Duration::from_millis(1), HOUR) {
            return wrong("base", "must be from 1 millisecond to 1 hour");
        }
        if !within(self.max_ejection, self.base, HOUR * 24) {
            return wrong("max_ejection", "must be from `base` to 24 hours");
        }
        if !(1..=100).contains(&self.max_percent) {
            return wrong("max_percent", "must be from 1 to 100");
        }
        if !(0.0..=1.0).contains(&self.panic_below) {
            return wrong("panic_below", "must be a number from 0 to 1");
        }
        // All of them are in range, so no cast and no sum below wraps.
        let thousandths = |value: f64| (value * 1e3).round() as u64;
        let millionths = |value: f64| (value * 1e6).round() as u64;
        Ok(Settings {
            interval: self.interval.as_nanos() as u64,
            consecutive: self.consecutive,
            rules: Rules {
                min_requests: u64::from(self.min_requests),
                deviations: thousandths(self.deviations),
                failure_gap: millionths(self.failure_gap),
                latency_gap: judge::latency_gap(thousandths(self.latency_factor)),
            },
            base: self.base.as_nanos() as u64,
            max_ejection: self.max_ejection.as_nanos() as u64,
            max_percent: self.max_percent,
            panic_below: millionths(self.panic_below),
        })
    }
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// How many of `endpoints` may be out before nothing more is ejected.
    pub(super) fn most_out(&self, endpoints: usize) -> usize {
        let share = endpoints.saturating_mul(self.max_percent as usize) / 100;
        share.max(1).min(endpoints.saturating_sub(1))
    }

    /// How many of `endpoints` must be usable for the others to be left out.
    pub(super) fn least_usable(&self, endpoints: usize) -> usize {
        let millionths = self.panic_below * endpoints as u64;
        // At most `endpoints`.
        millionths.div_ceil(1_000_000) as usize
    }

    /// How long an ejection lasts that is the `times`-th in a row, without its random part.
    pub(super) fn ejection(&self, times: u32) -> u64 {
        self.base
            .saturating_mul(u64::from(times))
            .min(self.max_ejection)
    }

    /// From how many times on an ejection does not get longer.
    pub(super) fn longest_after(&self) -> u32 {
        // At most 24 hours in milliseconds.
        self.max_ejection.div_ceil(self.base.max(1)) as u32
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn errors_name_the_field_and_the_rule() {
        let config = OutlierConfig::new;
        for (config, field, rule) in [
            (
                config().interval(SECOND / 2),
                "interval",
                "must be from 1 second to 5 minutes",
            ),
            (
                config().interval(Duration::MAX),
                "interval",
                "must be from 1 second to 5 minutes",
            ),
            (config().consecutive(0), "consecutive", "must be at least 1"),
            (
                config().min_requests(19),
                "min_requests",
                "must be from 20 to 1000000",
            ),
            (
                config().deviations(f64::NAN),
                "deviations",
                "must be a number from 1 to 1000",
            ),
            (
                config().failure_gap(0.0),
                "failure_gap",
                "must be a number from 0.001 to 1",
            ),
            (
                config().latency_factor(1.0),
                "latency_factor",
                "must be a number from 1.5 to 1000",
            ),
            (
                config().base(Duration::ZERO),
                "base",
                "must be from 1 millisecond to 1 hour",
            ),
            (
                config().max_ejection(SECOND),
                "max_ejection",
                "must be from `base` to 24 hours",
            ),
            (
                config().max_percent(101),
                "max_percent",
                "must be from 1 to 100",
            ),
            (
                config().panic_below(-0.1),
                "panic_below",
                "must be a number from 0 to 1",
            ),
        ] {
            let error = config.check().unwrap_err();
            assert_eq!((error.field(), error.rule()), (field, rule));
        }
        assert!(OutlierConfig::default().check().is_ok());
    }

    #[test]
    fn one_may_always_be_ejected_and_the_last_never() {
        let most = |percent, endpoints| {
            let settings = OutlierConfig::new().max_percent(percent).check().unwrap();
            settings.most_out(endpoints)
        };
        assert_eq!(
            [0, 1, 2, 3, 9, 10, 100].map(|n| most(10, n)),
            [0, 0, 1, 1, 1, 1, 10]
        );
        assert_eq!([0, 1, 2, 3, 9, 10].map(|n| most(50, n)), [0, 0, 1, 1, 4, 5]);
        assert_eq!([0, 1, 2, 10].map(|n| most(100, n)), [0, 0, 1, 9]);
    }

    #[test]
    fn less_than_the_share_is_too_few() {
        let least = |share, endpoints| {
            let settings = OutlierConfig::new().panic_below(share).check().unwrap();
            settings.least_usable(endpoints)
        };
        assert_eq!([0, 1, 3, 4].map(|n| least(0.5, n)), [0, 1, 2, 2]);
        assert_eq!(least(0.0, 100), 0);
        assert_eq!(least(1.0, 100), 100);
    }

    proptest! {
        #[test]
        fn ejections_get_longer_up_to_the_longest(base in 1u64..3_600_000, longer in 1u64..50, times in 0u32..) {
            let config = OutlierConfig::new()
                .base(Duration::from_millis(base))
                .max_ejection((Duration::from_millis(base) * longer as u32).min(HOUR * 24));
            let settings = config.check().unwrap();
            let most = settings.longest_after();
            prop_assert_eq!(settings.ejection(most), settings.max_ejection);
            prop_assert!(settings.ejection(times) <= settings.max_ejection);
            prop_assert!(settings.ejection(most - 1) < settings.max_ejection);
        }
    }
}
