//! How long to wait after failures.

use std::time::Duration;

/// Exponential backoff with full jitter: a wait anywhere between zero and `min(cap, base * 2^failures)`, so that consumers
/// that failed together do not come back together. Pure: the randomness is passed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backoff {
    base: Duration,
    cap: Duration,
}

impl Backoff {
    /// A backoff whose longest first wait is `base`, and whose longest wait at all is `cap`.
    pub(super) const fn new(base: Duration, cap: Duration) -> Self {
        Self { base, cap }
    }

    /// The longest wait after so many failures in a row before this one.
    pub(super) fn ceiling(&self, failures: u32) -> Duration {
        let doubled = self.base.saturating_mul(1 << failures.min(31));
        doubled.min(self.cap)
    }

    /// A wait after so many failures in a row before this one, and no shorter than what the sink asked for.
    pub(super) fn wait(
        &self,
        failures: u32,
        floor: Option<Duration>,
        random: &mut fastrand::Rng,
    ) -> Duration {
        let wait = self.ceiling(failures).mul_f64(random.f64());
        wait.max(floor.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));

    #[test]
    fn the_ceiling_doubles_up_to_the_cap() {
        let ceilings: Vec<_> = [0, 1, 2, 7, 8, 31, u32::MAX]
            .map(|failures| BACKOFF.ceiling(failures).as_millis())
            .into();
        assert_eq!(ceilings, [200, 400, 800, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn the_jitter_is_full() {
        let mut random = fastrand::Rng::with_seed(1);
        let waits: Vec<_> = (0..10_000)
            .map(|_| BACKOFF.wait(0, None, &mut random))
            .collect();
        let below = |limit: u64| {
            waits
                .iter()
                .filter(|wait| **wait < Duration::from_millis(limit))
                .count()
        };
        assert!((900..1_100).contains(&below(20)));
        assert!((4_800..5_200).contains(&below(100)));
        assert_eq!(below(200), 10_000);
    }

    proptest! {
        #[test]
        fn a_wait_is_between_floor_and_ceiling(failures: u32, floor in 0..100_000_u64, seed: u64) {
            let floor = Duration::from_millis(floor);
            let mut random = fastrand::Rng::with_seed(seed);
            let wait = BACKOFF.wait(failures, Some(floor), &mut random);
            prop_assert!(wait >= floor);
            prop_assert!(wait <= floor.max(BACKOFF.ceiling(failures)));
        }
    }
}
