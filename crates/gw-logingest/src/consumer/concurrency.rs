//! How many requests run at once.

use std::time::Duration;

/// How much a new measurement counts.
const WEIGHT: f64 = 0.2;
/// So many deviations above the mean, a round trip counts as slow.
const SLOW: f64 = 3.0;
/// Below this many round trips the mean means nothing.
const WARM: u32 = 8;
const DECREASE_OVERLOAD: f64 = 0.7;
const DECREASE_SLOW: f64 = 0.9;

/// An additive-increase, multiplicative-decrease limit. It starts at one, grows by one a round while the limit is what holds
/// delivery back and round trips stay near their mean, and shrinks when the sink refuses or slows down. Pure: what was
/// measured is passed in.
#[derive(Debug, Clone)]
pub(super) struct Concurrency {
    limit: f64,
    max: f64,
    mean: f64,
    deviation: f64,
    measured: u32,
    /// Requests started before the last decrease belong to an earlier round and do not decrease again.
    round: u64,
}

impl Concurrency {
    /// A limit of one that never exceeds `max`.
    pub(super) fn new(max: usize) -> Self {
        Self {
            limit: 1.0,
            max: max.max(1) as f64,
            mean: 0.0,
            deviation: 0.0,
            measured: 0,
            round: 0,
        }
    }

    /// How many requests may run now; at least one.
    pub(super) const fn limit(&self) -> usize {
        self.limit as usize
    }

    /// The round that a request which starts now belongs to.
    pub(super) const fn round(&self) -> u64 {
        self.round
    }

    /// A request of that round succeeded. `used` says whether the limit was what held others back.
    pub(super) fn succeeded(&mut self, round: u64, round_trip: Duration, used: bool) {
        let round_trip = round_trip.as_secs_f64();
        let slow = self.measured >= WARM && round_trip > self.mean + SLOW * self.deviation;
        self.measure(round_trip);
        if slow {
            self.decrease(round, DECREASE_SLOW);
        } else if used {
            self.limit = (self.limit + 1.0 / self.limit).min(self.max);
        }
    }

    /// A request of that round found the sink overloaded or not there.
    pub(super) fn overloaded(&mut self, round: u64) {
        self.decrease(round, DECREASE_OVERLOAD);
    }

    fn decrease(&mut self, round: u64, factor: f64) {
        if round == self.round {
            self.round += 1;
            self.limit = (self.limit * factor).max(1.0);
        }
    }

    fn measure(&mut self, round_trip: f64) {
        if self.measured == 0 {
            self.mean = round_trip;
            self.deviation = round_trip / 2.0;
        } else {
            let distance = round_trip - self.mean;
            self.deviation += WEIGHT * (distance.abs() - self.deviation);
            self.mean += WEIGHT * distance;
        }
        self.measured = self.measured.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: Duration = Duration::from_millis(100);

    /// Succeeds as often as the limit allows at once.
    fn round(concurrency: &mut Concurrency) {
        let round = concurrency.round();
        for _ in 0..concurrency.limit() {
            concurrency.succeeded(round, USUAL, true);
        }
    }

    #[test]
    fn grows_by_one_a_round_up_to_the_most() {
        let mut concurrency = Concurrency::new(4);
        let mut limits = Vec::new();
        for _ in 0..8 {
            limits.push(concurrency.limit());
            round(&mut concurrency);
        }
        assert_eq!(limits[..3], [1, 2, 2]);
        assert!(limits.is_sorted());
        assert_eq!(limits.last(), Some(&4));
    }

    #[test]
    fn does_not_grow_while_it_is_not_used() {
        let mut concurrency = Concurrency::new(32);
        for _ in 0..100 {
            concurrency.succeeded(0, USUAL, false);
        }
        assert_eq!(concurrency.limit(), 1);
    }

    #[test]
    fn shrinks_once_for_all_that_ran_together() {
        let mut concurrency = Concurrency::new(32);
        for _ in 0..40 {
            round(&mut concurrency);
        }
        let (before, together) = (concurrency.limit(), concurrency.round());
        assert_eq!(before, 32);
        for _ in 0..before {
            concurrency.overloaded(together);
        }
        assert_eq!(concurrency.limit(), 22);
        concurrency.overloaded(concurrency.round());
        assert_eq!(concurrency.limit(), 15);
    }

    #[test]
    fn shrinks_when_round_trips_jump() {
        let mut concurrency = Concurrency::new(32);
        for _ in 0..40 {
            round(&mut concurrency);
        }
        concurrency.succeeded(concurrency.round(), USUAL * 10, true);
        assert_eq!(concurrency.limit(), 28);
    }

    proptest! {
        #[test]
        fn stays_between_one_and_the_most(steps: Vec<(u8, u32)>, max in 1..64_usize) {
            let mut concurrency = Concurrency::new(max);
            for (kind, millis) in steps {
                let round = concurrency.round().saturating_sub(u64::from(kind % 2));
                match kind % 3 {
                    0 => concurrency.overloaded(round),
                    _ => concurrency.succeeded(round, Duration::from_millis(millis.into()), kind > 60),
                }
                prop_assert!((1..=max).contains(&concurrency.limit()));
            }
        }
    }
}
