use std::time::Duration;

use fastrand::Rng;

/// How long to wait before a retry: exponential, with a cap and jitter. A pure value.
///
/// With `x = min(max, base · 2^n)` for the n-th retry, counted from 0. All of it is integer arithmetic on nanoseconds
/// that saturates: no input makes it panic or wrap. The formulas are those of "Exponential Backoff And Jitter" (AWS
/// Architecture Blog, 2015). A base above the cap is the cap.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_retry::Backoff;
///
/// let backoff = Backoff::full_jitter(Duration::from_millis(25), Duration::from_millis(250));
/// let mut random = fastrand::Rng::with_seed(7);
/// let first = backoff.delay(0, Duration::ZERO, &mut random);
/// assert!(first <= Duration::from_millis(25));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: u64,
    max: u64,
    jitter: Jitter,
}

/// How waits are spread, so that clients which failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Jitter {
    /// Anything from 0 to `x`: the least load on the upstream. The default.
    Full,
    /// From half of `x` to `x`: never right away.
    Equal,
    /// From the base to three times the wait before, at most the cap.
    Decorrelated,
    /// Exactly `x`.
    None,
}

impl Backoff {
    /// From 0 to `min(max, base · 2^n)`.
    pub fn full_jitter(base: Duration, max: Duration) -> Self {
        Self::new(base, max, Jitter::Full)
    }

    /// From half of `min(max, base · 2^n)` to all of it.
    pub fn equal_jitter(base: Duration, max: Duration) -> Self {
        Self::new(base, max, Jitter::Equal)
    }

    /// From `base` to three times the wait before, at most `max`.
    pub fn decorrelated(base: Duration, max: Duration) -> Self {
        Self::new(base, max, Jitter::Decorrelated)
    }

    /// `min(max, base · 2^n)` without jitter. For a single caller; many of them come back in step.
    pub fn exponential(base: Duration, max: Duration) -> Self {
        Self::new(base, max, Jitter::None)
    }

    fn new(base: Duration, max: Duration, jitter: Jitter) -> Self {
        let max = nanos(max);
        Self {
            base: nanos(base).min(max),
            max,
            jitter,
        }
    }

    /// The wait before the retry `retry`, counted from 0, after a wait of `previous` before the one before it.
    ///
    /// Only [`Jitter::Decorrelated`] looks at `previous`; before the first retry it is zero.
    pub fn delay(&self, retry: u32, previous: Duration, random: &mut Rng) -> Duration {
        Duration::from_nanos(match self.jitter {
            Jitter::Full => random.u64(0..=self.ceiling(retry)),
            Jitter::Equal => {
                let ceiling = self.ceiling(retry);
                random.u64(ceiling / 2..=ceiling)
            }
            Jitter::Decorrelated => {
                let previous = nanos(previous).max(self.base);
                let up_to = previous.saturating_mul(3).min(self.max);
                random.u64(self.base..=up_to.max(self.base))
            }
            Jitter::None => self.ceiling(retry),
        })
    }

    fn ceiling(&self, retry: u32) -> u64 {
        let factor = 1u64.checked_shl(retry).unwrap_or(u64::MAX);
        self.base.saturating_mul(factor).min(self.max)
    }

    /// The cap.
    pub const fn max(&self) -> Duration {
        Duration::from_nanos(self.max)
    }
}

impl Default for Backoff {
    /// Full jitter from 25 ms up to 250 ms, as Envoy does.
    fn default() -> Self {
        Self::full_jitter(Duration::from_millis(25), Duration::from_millis(250))
    }
}

/// As far as they go: 584 years.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn grows_to_its_cap_and_stays_there() {
        let backoff = Backoff::exponential(10 * MS, 65 * MS);
        let mut random = Rng::with_seed(1);
        let waits: Vec<u128> = (0..5)
            .map(|n| backoff.delay(n, Duration::ZERO, &mut random).as_millis())
            .collect();
        assert_eq!(waits, [10, 20, 40, 65, 65]);
        assert_eq!(
            backoff.delay(u32::MAX, Duration::ZERO, &mut random),
            65 * MS
        );
    }

    #[test]
    fn a_seed_gives_the_same_waits() {
        let backoff = Backoff::decorrelated(MS, 100 * MS);
        let waits = |seed| {
            let mut random = Rng::with_seed(seed);
            let mut previous = Duration::ZERO;
            let mut next = |n| {
                previous = backoff.delay(n, previous, &mut random);
                previous
            };
            (0..20).map(&mut next).collect::<Vec<_>>()
        };
        assert_eq!(waits(3), waits(3));
        assert_ne!(waits(3), waits(4));
    }

    #[test]
    fn full_jitter_reaches_both_ends() {
        let backoff = Backoff::full_jitter(16 * MS, 16 * MS);
        let mut random = Rng::with_seed(5);
        let waits = (0..1_000).map(|_| backoff.delay(0, Duration::ZERO, &mut random));
        let (low, high) = waits.fold((Duration::MAX, Duration::ZERO), |(low, high), wait| {
            (low.min(wait), high.max(wait))
        });
        assert!(low < MS && high > 15 * MS, "{low:?} {high:?}");
    }

    proptest! {
        #[test]
        fn stays_in_range(base: u64, max: u64, retry: u32, previous: u64, seed: u64) {
            let (base, max) = (Duration::from_nanos(base), Duration::from_nanos(max));
            let previous = Duration::from_nanos(previous);
            let mut random = Rng::with_seed(seed);
            let floor = base.min(max);
            let exact = Backoff::exponential(base, max).delay(retry, previous, &mut random);
            prop_assert!(exact >= floor && exact <= max);
            let full = Backoff::full_jitter(base, max).delay(retry, previous, &mut random);
            prop_assert!(full <= exact);
            let equal = Backoff::equal_jitter(base, max).delay(retry, previous, &mut random);
            prop_assert!(equal >= exact / 2 && equal <= exact);
            let decorrelated = Backoff::decorrelated(base, max).delay(retry, previous, &mut random);
            prop_assert!(decorrelated >= floor && decorrelated <= max);
            let thrice = previous.max(floor).saturating_mul(3).max(floor);
            prop_assert!(decorrelated <= thrice);
        }

        #[test]
        fn never_panics(base_seconds: u64, max_seconds: u64, retry: u32) {
            let mut random = Rng::with_seed(1);
            let (base, max) = (Duration::from_secs(base_seconds), Duration::from_secs(max_seconds));
            for backoff in [Backoff::full_jitter(base, max), Backoff::decorrelated(base, max), Backoff::equal_jitter(base, max)] {
                let wait = backoff.delay(retry, Duration::MAX, &mut random);
                prop_assert!(wait <= backoff.max());
            }
        }
    }
}
