//! What repeated refusals cost: pure arithmetic on strikes.
//!
//! A strike is a time, as a debt is: a key with three strikes has its last one forgotten in three times the time that one
//! takes. So strikes need no sweep and no timer, and decay to nothing by themselves.

use std::time::Duration;

use crate::config::ConfigError;
use crate::gcra::nanos;
use crate::quota::Quota;

/// Makes requests dearer for a key that keeps running into its limit.
///
/// Each refusal is a strike, and one strike is forgotten per `forget`. Below `after` strikes nothing changes. With `after`
/// of them a request costs twice as much, with one more four times, and so on up to [`Penalty::max_factor`]. A request
/// that could pass without the penalty can pass with it: its cost never goes beyond the burst.
///
/// Strikes are bounded by what reaches the highest factor, so a key that stops is back to normal after
/// `forget · (after + log2(max_factor) - 1)` at the latest, however long it had gone on. In exact memory that is full, strikes
/// are forgotten before any debt is.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_ratelimit::{Penalty, Policy, Quota};
///
/// // Ten refusals within a few minutes, and logging in costs double, then four and eight times as much.
/// let login = Policy::new("login", Quota::per_minute(20).burst(10))
///     .penalty(Penalty::new(10, Duration::from_secs(60)).max_factor(8));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Penalty {
    after: u32,
    forget: Duration,
    max_factor: u32,
}

impl Penalty {
    /// The highest factor unless it is said otherwise.
    pub const DEFAULT_MAX_FACTOR: u32 = 16;
    /// The most that `after` takes.
    pub const MAX_AFTER: u32 = 10_000;
    /// The most that [`Penalty::max_factor`] takes.
    pub const MOST_FACTOR: u32 = 1 << 16;
    /// The least that `forget` takes.
    pub const MIN_FORGET: Duration = Duration::from_millis(1);
    /// The most that `forget` takes.
    pub const MAX_FORGET: Duration = Duration::from_secs(24 * 60 * 60);

    /// From `after` strikes on (1 to [`Penalty::MAX_AFTER`]) requests cost more; one strike is forgotten per `forget`
    /// ([`Penalty::MIN_FORGET`] to [`Penalty::MAX_FORGET`]). All strikes that count, `after + log2(max_factor) - 1` of them, must
    /// be forgotten within [`Gcra::MAX_RESET`](crate::gcra::Gcra::MAX_RESET), in compact memory within
    /// [`Memory::MAX_COMPACT_RESET`](crate::Memory::MAX_COMPACT_RESET).
    ///
    /// What is out of these bounds is refused when a limiter is built.
    pub const fn new(after: u32, forget: Duration) -> Self {
        Self {
            after,
            forget,
            max_factor: Self::DEFAULT_MAX_FACTOR,
        }
    }

    /// The most by which a cost is multiplied: 2 to [`Penalty::MOST_FACTOR`].
    #[must_use]
    pub const fn max_factor(mut self, factor: u32) -> Self {
        self.max_factor = factor;
        self
    }
}

/// A [`Penalty`] as the numbers that decide. Its state is one word: when the last strike will be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strikes {
    /// What a strike takes to be forgotten.
    interval: u64,
    /// A strike is a cell: there is room for as many as matter.
    quota: Quota,
    after: u32,
    max_factor: u32,
}

impl Strikes {
    pub(crate) fn new(penalty: Penalty) -> Result<Self, ConfigError> {
        let Penalty {
            after,
            forget,
            max_factor,
        } = penalty;
        if !(1..=Penalty::MAX_AFTER).contains(&after) {
            return Err(ConfigError::new("penalty.after", "must be 1 to 10000"));
        }
        if !(Penalty::MIN_FORGET..=Penalty::MAX_FORGET).contains(&forget) {
            return Err(ConfigError::new(
                "penalty.forget",
                "must be 1 millisecond to 1 day",
            ));
        }
        if !(2..=Penalty::MOST_FACTOR).contains(&max_factor) {
            return Err(ConfigError::new("penalty.max_factor", "must be 2 to 65536"));
        }
        // In whole steps of what a store may count in, so that strikes are whole in each.
        let interval = nanos(forget).next_multiple_of(1_000);
        let doublings = max_factor.next_power_of_two().ilog2();
        let forget = Duration::from_nanos(interval);
        Ok(Self {
            interval,
            quota: Quota::per(forget, 1).burst(after + doublings - 1),
            after,
            max_factor,
        })
    }

    /// What decides whether one more strike matters, and is noted.
    pub(crate) const fn quota(&self) -> Quota {
        self.quota
    }

    /// How many strikes are not forgotten yet.
    pub(crate) fn count(&self, word: u64, now: u64) -> u32 {
        let strikes = word.saturating_sub(now).div_ceil(self.interval);
        u32::try_from(strikes).unwrap_or(u32::MAX)
    }

    /// By how much a cost is multiplied: at least 1.
    pub(crate) fn factor(&self, word: u64, now: u64) -> u32 {
        match (self.count(word, now) + 1).checked_sub(self.after) {
            None | Some(0) => 1,
            Some(doublings) => 1u32
                .checked_shl(doublings)
                .map_or(self.max_factor, |factor| factor.min(self.max_factor)),
        }
    }

    /// What a request pays that costs `cost` without strikes, where `burst` is the most that can be paid.
    pub(crate) fn cost(&self, cost: u32, burst: u32, word: u64, now: u64) -> u32 {
        if cost >= burst {
            // It can never pass, or takes all there is as it is.
            return cost;
        }
        cost.saturating_mul(self.factor(word, now)).min(burst)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::gcra::Gcra;
    use crate::verdict::Verdict;

    const SECOND: u64 = 1_000_000_000;

    fn strikes(after: u32, max_factor: u32) -> Strikes {
        Strikes::new(Penalty::new(after, Duration::from_secs(1)).max_factor(max_factor)).unwrap()
    }

    /// One more strike; what was there if there are as many as matter.
    fn strike(strikes: &Strikes, word: u64, now: u64) -> u64 {
        match Gcra::new(strikes.quota()).unwrap().decide(word, now, 1) {
            Verdict::Allow { state }
            | Verdict::Deny { state, .. }
            | Verdict::DenyForever { state } => state,
        }
    }

    #[test]
    fn each_strike_doubles_up_to_the_highest_factor() {
        let (strikes, now) = (strikes(3, 10), 50 * SECOND);
        let mut word = 0;
        let mut factors = Vec::new();
        for _ in 0..9 {
            factors.push(strikes.factor(word, now));
            word = strike(&strikes, word, now);
        }
        assert_eq!(factors, [1, 1, 1, 2, 4, 8, 10, 10, 10]);
        // Back to normal within six times the time of one strike, and no earlier for the last one.
        assert_eq!(word, now + 6 * SECOND);
        assert_eq!(strikes.factor(word, now + 3 * SECOND), 2);
        assert_eq!(strikes.factor(word, now + 4 * SECOND), 1);
        assert_eq!(strikes.count(word, now + 6 * SECOND - 1), 1);
        assert_eq!(strikes.count(word, now + 6 * SECOND), 0);
    }

    #[test]
    fn nothing_becomes_impossible() {
        let strikes = strikes(1, 16);
        let word = strike(&strikes, 0, 0);
        assert_eq!(strikes.cost(3, 10, word, 0), 6);
        assert_eq!(strikes.cost(7, 10, word, 0), 10);
        // Was impossible before.
        assert_eq!(strikes.cost(11, 10, word, 0), 11);
        assert_eq!(strikes.cost(0, 10, word, 0), 0);
        assert_eq!(strikes.cost(u32::MAX / 2, u32::MAX, word, 0), u32::MAX - 1);
    }

    #[test]
    fn what_cannot_work_is_not_built() {
        let second = Duration::from_secs(1);
        for (penalty, field) in [
            (Penalty::new(0, second), "penalty.after"),
            (Penalty::new(10_001, second), "penalty.after"),
            (Penalty::new(1, Duration::ZERO), "penalty.forget"),
            (Penalty::new(1, second * 86_401), "penalty.forget"),
            (Penalty::new(1, second).max_factor(1), "penalty.max_factor"),
            (
                Penalty::new(1, second).max_factor(65_537),
                "penalty.max_factor",
            ),
        ] {
            assert_eq!(Strikes::new(penalty).unwrap_err().field(), field);
        }
    }

    proptest! {
        /// Whatever the strikes and when: a factor within its bounds, never falling with a strike, never rising with time,
        /// and nothing left after the time that is promised.
        #[test]
        fn decays_to_nothing(
            after in 1..20u32,
            max_factor in 2..2_000u32,
            forget in 1..5_000u64,
            steps in prop::collection::vec((0..10_000u64, any::<bool>()), 0..100),
            cost in 0..100u32,
            burst in 1..100u32,
        ) {
            let forget = Duration::from_millis(forget);
            let strikes = Strikes::new(Penalty::new(after, forget).max_factor(max_factor)).unwrap();
            let (mut word, mut now) = (0, 7);
            for (step, refused) in steps {
                let before = strikes.factor(word, now);
                now += step * 1_000_000;
                prop_assert!(strikes.factor(word, now) <= before);
                if refused {
                    let before = strikes.factor(word, now);
                    word = strike(&strikes, word, now);
                    prop_assert!(strikes.factor(word, now) >= before);
                }
                prop_assert!((1..=max_factor).contains(&strikes.factor(word, now)));
                let paid = strikes.cost(cost, burst, word, now);
                prop_assert!(paid >= cost && (paid <= burst || paid == cost));
            }
            let most = after + f64::from(max_factor).log2().ceil() as u32 - 1;
            let end = now + nanos(forget) * u64::from(most);
            prop_assert_eq!(strikes.count(word, end), 0);
            prop_assert_eq!(strikes.factor(word, end), 1);
        }
    }
}
