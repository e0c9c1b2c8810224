use std::time::Duration;

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
/// // The numbers drawn are usually a generator's.
/// assert_eq!(backoff.delay(0, Duration::ZERO, u64::MAX), Duration::from_millis(25));
/// assert_eq!(backoff.delay(9, Duration::ZERO, u64::MAX / 2), Duration::from_millis(125));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: u64,
    max: u64,
    jitter: Jitter,
}

/// How waits are spread, so that clients which failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jitter {
    Full,
    Equal,
    Decorrelated,
    None,
}

impl Backoff {
    /// From 0 to `min(max, base · 2^n)`: the least load on the upstream. The default.
    pub fn full_jitter(base: Duration, max: Duration) -> Self {
        Self::new(base, max, Jitter::Full)
    }

    /// From half of `min(max, base · 2^n)` to all of it: never right away.
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
    /// Only [`Backoff::decorrelated`] looks at `previous`; before the first retry it is zero. `drawn` is where in its range the wait is:
    /// any number, drawn anew for each wait and each as likely as all others, from whatever generator there is.
    pub fn delay(&self, retry: u32, previous: Duration, drawn: u64) -> Duration {
        Duration::from_nanos(match self.jitter {
            Jitter::Full => within(0, self.ceiling(retry), drawn),
            Jitter::Equal => {
                let ceiling = self.ceiling(retry);
                within(ceiling / 2, ceiling, drawn)
            }
            Jitter::Decorrelated => {
                let previous = nanos(previous).max(self.base);
                let up_to = previous.saturating_mul(3).min(self.max);
                within(self.base, up_to.max(self.base), drawn)
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

/// As far into `from..=to` as `drawn` is into all numbers.
fn within(from: u64, to: u64, drawn: u64) -> u64 {
    let count = u128::from(to - from) + 1;
    // The upper half of a product of a number below 2^64 with `count` is below `count`.
    let offset = (u128::from(drawn) * count) >> 64;
    from.saturating_add(u64::try_from(offset).unwrap_or(u64::MAX))
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
        let wait = |n| backoff.delay(n, Duration::ZERO, 1);
        let waits: Vec<u128> = (0..5).map(|n| wait(n).as_millis()).collect();
        assert_eq!(waits, [10, 20, 40, 65, 65]);
        assert_eq!(wait(u32::MAX), 65 * MS);
    }

    #[test]
    fn a_seed_gives_the_same_waits() {
        let backoff = Backoff::decorrelated(MS, 100 * MS);
        let waits = |seed| {
            let mut random = Rng::with_seed(seed);
            let mut previous = Duration::ZERO;
            let mut next = |n| {
                previous = backoff.delay(n, previous, random.u64(..));
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
        let waits = (0..1_000).map(|_| backoff.delay(0, Duration::ZERO, random.u64(..)));
        let (low, high) = waits.fold((Duration::MAX, Duration::ZERO), |(low, high), wait| {
            (low.min(wait), high.max(wait))
        });
        assert!(low < MS && high > 15 * MS, "{low:?} {high:?}");
    }

    #[test]
    fn what_is_drawn_says_where_in_its_range_a_wait_is() {
        let [base, max] = [10 * MS, 100 * MS];
        let of = |backoff: Backoff| {
            [0, u64::MAX / 2, u64::MAX].map(|drawn| backoff.delay(1, 20 * MS, drawn))
        };
        assert_eq!(
            of(Backoff::full_jitter(base, max)),
            [Duration::ZERO, 10 * MS, 20 * MS]
        );
        assert_eq!(
            of(Backoff::equal_jitter(base, max)),
            [10 * MS, 15 * MS, 20 * MS]
        );
        assert_eq!(
            of(Backoff::decorrelated(base, max)),
            [10 * MS, 35 * MS, 60 * MS]
        );
        assert_eq!(of(Backoff::exponential(base, max)), [20 * MS; 3]);
    }

    proptest! {
        #[test]
        fn stays_in_range(base: u64, max: u64, retry: u32, previous: u64, drawn: u64) {
            let (base, max) = (Duration::from_nanos(base), Duration::from_nanos(max));
            let previous = Duration::from_nanos(previous);
            let floor = base.min(max);
            let exact = Backoff::exponential(base, max).delay(retry, previous, drawn);
            prop_assert!(exact >= floor && exact <= max);
            let full = Backoff::full_jitter(base, max).delay(retry, previous, drawn);
            prop_assert!(full <= exact);
            let equal = Backoff::equal_jitter(base, max).delay(retry, previous, drawn);
            prop_assert!(equal >= exact / 2 && equal <= exact);
            let decorrelated = Backoff::decorrelated(base, max).delay(retry, previous, drawn);
            prop_assert!(decorrelated >= floor && decorrelated <= max);
            let thrice = previous.max(floor).saturating_mul(3).max(floor);
            prop_assert!(decorrelated <= thrice);
        }

        #[test]
        fn never_panics(base_seconds: u64, max_seconds: u64, retry: u32, drawn: u64) {
            let (base, max) = (Duration::from_secs(base_seconds), Duration::from_secs(max_seconds));
            for backoff in [Backoff::full_jitter(base, max), Backoff::decorrelated(base, max), Backoff::equal_jitter(base, max)] {
                let wait = backoff.delay(retry, Duration::MAX, drawn);
                prop_assert!(wait <= backoff.max());
            }
        }
    }
}
