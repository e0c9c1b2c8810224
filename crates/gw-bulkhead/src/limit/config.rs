use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::ConfigError;

use super::Algorithm;

/// How many places lanes share: fixed, or found while running.
///
/// # Examples
///
/// ```
/// use gw_bulkhead::limit::{Gradient2, Limit};
/// use gw_bulkhead::{BulkheadLayer, LaneConfig};
///
/// let fixed = BulkheadLayer::builder(512);
/// let adaptive = BulkheadLayer::builder(Limit::adaptive(Gradient2::default()).min(20).max(2_000));
/// # for builder in [fixed, adaptive] {
/// #     builder.lane(LaneConfig::new("core")).build()?;
/// # }
/// # Ok::<(), gw_bulkhead::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct Limit {
    total: u32,
    adaptive: Option<Adaptive>,
}

/// Limits that are found while running, one for each lane.
///
/// What the lanes share is `max`: it is their total, of which guarantees and caps are shares. Within it each lane has a
/// limit of its own, from its guaranteed share of `min` to its cap of `max`, that holds for what is guaranteed as well
/// as for what is borrowed.
#[derive(Debug)]
pub struct Adaptive {
    pub(crate) algorithm: Box<dyn Template>,
    pub(crate) min: u32,
    max: u32,
    initial: Option<u32>,
    pub(crate) window: Duration,
    pub(crate) shortest: Duration,
    pub(crate) seed: Option<u64>,
}

/// An algorithm that others are made after.
pub(crate) trait Template: fmt::Debug + Send + Sync {
    fn fresh(&self) -> Box<dyn Algorithm>;

    fn check(&self) -> Result<(), ConfigError>;
}

impl<A: Algorithm + Clone> Template for A {
    fn fresh(&self) -> Box<dyn Algorithm> {
        Box::new(self.clone())
    }

    fn check(&self) -> Result<(), ConfigError> {
        Algorithm::check(self)
    }
}

impl Limit {
    /// This many places, from 1.
    pub const fn fixed(places: u32) -> Self {
        Self {
            total: places,
            adaptive: None,
        }
    }

    /// A limit for each lane, found by a copy of `algorithm`.
    pub fn adaptive(algorithm: impl Algorithm + Clone) -> Adaptive {
        Adaptive {
            algorithm: Box::new(algorithm),
            min: 20,
            max: 2000,
            initial: None,
            window: Adaptive::WINDOW,
            shortest: Duration::from_micros(100),
            seed: None,
        }
    }

    /// The places that there are to lend, and how the lanes' limits are found within them.
    pub(crate) fn check(self) -> Result<(NonZeroU32, Option<Adaptive>), ConfigError> {
        let Some(total) = NonZeroU32::new(self.total) else {
            return Err(ConfigError::new("limit", "must be at least 1"));
        };
        self.adaptive.as_ref().map_or(Ok(()), Adaptive::check)?;
        Ok((total, self.adaptive))
    }
}

impl Adaptive {
    const WINDOW: Duration = Duration::from_millis(100);
    /// A window closes with no fewer samples.
    pub(crate) const SAMPLES: u32 = 10;

    /// The least of all limits together, from 1 to `max`; 20 by default. A lane's limit does not fall below its
    /// guaranteed share of it.
    #[must_use]
    pub const fn min(mut self, places: u32) -> Self {
        self.min = places;
        self
    }

    /// What the lanes share, from `min`; 2000 by default. A lane's limit does not rise above its cap of it.
    #[must_use]
    pub const fn max(mut self, places: u32) -> Self {
        self.max = places;
        self
    }

    /// Where the limits begin, from `min` to `max`; `min` by default. Each lane begins with its cap of it.
    ///
    /// Beginning low is safe, and costs some seconds of refusals where there is much to do from the first moment.
    #[must_use]
    pub const fn initial(mut self, places: u32) -> Self {
        self.initial = Some(places);
        self
    }

    /// How often a limit is changed at the most: from 1 ms to 1 minute, 100 ms by default. A window is never shorter
    /// than twice the shortest answer in it, up to five minutes, nor has it fewer than ten samples; one of 60,000 closes early.
    #[must_use]
    pub const fn window(mut self, length: Duration) -> Self {
        self.window = length;
        self
    }

    /// Answers that took less than this are not counted, up to 1 second; 100 µs by default. What is answered out of
    /// memory says nothing about what is not.
    #[must_use]
    pub const fn shortest(mut self, latency: Duration) -> Self {
        self.shortest = latency;
        self
    }

    /// Makes the jitter the same in each run.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Where the limits begin.
    pub(crate) fn start(&self) -> u32 {
        self.initial.unwrap_or(self.min)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, rule| Err(ConfigError::new(field, rule));
        if !(1..=self.max).contains(&self.min) {
            return wrong("limit.min", "must be from 1 to `max`");
        }
        if !(self.min..=self.max).contains(&self.start()) {
            return wrong("limit.initial", "must be from `min` to `max`");
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(60)).contains(&self.window) {
            return wrong("limit.window", "must be from 1 ms to 1 minute");
        }
        if self.shortest > Duration::from_secs(1) {
            return wrong("limit.shortest", "must be at most 1 second");
        }
        self.algorithm.check()
    }
}

/// Zero is refused where the lanes are built.
impl From<u32> for Limit {
    fn from(places: u32) -> Self {
        Self::fixed(places)
    }
}

impl From<NonZeroU32> for Limit {
    fn from(places: NonZeroU32) -> Self {
        Self::fixed(places.get())
    }
}

impl From<Adaptive> for Limit {
    fn from(adaptive: Adaptive) -> Self {
        Self {
            total: adaptive.max,
            adaptive: Some(adaptive),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::limit::{Aimd, Gradient2};

    #[test]
    fn errors_name_the_field_and_the_rule() {
        let gradient = || Limit::adaptive(Gradient2::default());
        let cases: [(Limit, &str); 7] = [
            (0.into(), "limit: must be at least 1"),
            (gradient().max(0).into(), "limit: must be at least 1"),
            (
                gradient().min(9).max(8).into(),
                "limit.min: must be from 1 to `max`",
            ),
            (
                gradient().initial(3).into(),
                "limit.initial: must be from `min` to `max`",
            ),
            (
                gradient().window(Duration::ZERO).into(),
                "limit.window: must be from 1 ms to 1 minute",
            ),
            (
                gradient().shortest(Duration::from_secs(2)).into(),
                "limit.shortest: must be at most 1 second",
            ),
            (
                Limit::adaptive(Aimd::default().backoff(1.0)).into(),
                "limit.backoff: must be a number from 0.5 to 0.99",
            ),
        ];
        for (limit, message) in cases {
            assert_eq!(limit.check().unwrap_err().to_string(), message);
        }
        let (total, adaptive) = Limit::from(gradient().max(50)).check().unwrap();
        assert_eq!((total.get(), adaptive.unwrap().start()), (50, 20));
    }
}
