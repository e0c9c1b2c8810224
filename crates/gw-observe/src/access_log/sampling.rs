//! Which requests get a line: by class, by trace id, and by the budget of a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gw_core::ConfigError;
use gw_core::context::TraceId;

use crate::ratio::Ratio;
use crate::vocabulary::Class;

/// What is decided about one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Decision {
    /// It gets a line, which stands for one of `1 / rate` requests.
    Keep { rate: f64 },
    /// It does not: the share of its class is small.
    SampledOut,
    /// It would, but the second's lines are used up. A summary line counts it.
    OverBudget,
}

#[derive(Debug)]
pub(super) struct Sampling {
    classes: [Budgeted; Class::ALL.len()],
    pub(super) slow_over: Duration,
    /// Lines a second for each class.
    budget: u32,
}

#[derive(Debug)]
struct Budgeted {
    /// The bits of the share that is kept.
    rate: AtomicU64,
    /// The second in the upper half, the lines in it so far in the lower one.
    window: AtomicU64,
    /// So far. Both numbers of it change together.
    left_out: Mutex<LeftOut>,
}

/// Lines that were left out because their second's budget was used up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct LeftOut {
    pub(super) lines: u64,
    /// How many requests they stand for. Added up line by line: the share may be another one by the time that this is read.
    pub(super) requests: f64,
}

impl Sampling {
    pub(super) fn new(normal: Ratio, health: Ratio, slow_over: Duration, budget: u32) -> Self {
        let classes = Class::EACH.map(|class| Budgeted {
            rate: AtomicU64::new(
                match class {
                    Class::Normal => normal,
                    Class::Health => health,
                    Class::Error | Class::ClientError | Class::Slow => Ratio::ALL,
                }
                .to_bits(),
            ),
            window: AtomicU64::new(0),
            left_out: Mutex::default(),
        });
        Self {
            classes,
            slow_over,
            budget,
        }
    }

    /// Decides about a request of `class` that ended `age` after the log was started.
    pub(super) fn decide(&self, class: Class, trace: TraceId, age: Duration) -> Decision {
        let Some(budgeted) = self.classes.get(class as usize) else {
            return Decision::SampledOut;
        };
        let rate = budgeted.rate();
        if !rate.takes(mix(trace)) {
            Decision::SampledOut
        } else if budgeted.spend(age, self.budget) {
            Decision::Keep { rate: rate.share() }
        } else {
            budgeted.leave_out(rate);
            Decision::OverBudget
        }
    }

    pub(super) fn set_rate(&self, class: Class, rate: Ratio) {
        if let Some(budgeted) = self.classes.get(class as usize) {
            budgeted.rate.store(rate.to_bits(), Ordering::Relaxed);
        }
    }

    /// What has been left out of this class so far.
    pub(super) fn left_out(&self, class: Class) -> LeftOut {
        let budgeted = self.classes.get(class as usize);
        budgeted.map(Budgeted::left_out).unwrap_or_default()
    }
}

impl Budgeted {
    fn rate(&self) -> Ratio {
        Ratio::from_bits(self.rate.load(Ordering::Relaxed))
    }

    fn left_out(&self) -> LeftOut {
        *self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves out a line that stands for one of `1 / rate` requests.
    fn leave_out(&self, rate: Ratio) {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.lines += 1;
        left_out.requests += rate.share().recip();
    }

    /// Takes one line of the second's budget, if there is one left.
    fn spend(&self, age: Duration, budget: u32) -> bool {
        // They wrap around after 136 years.
        let second = age.as_secs() as u32;
        let next = |window: u64| {
            let (began, lines) = ((window >> 32) as u32, window & u64::from(u32::MAX));
            // Requests that end together may come here in any order: the later second stays.
            match second.wrapping_sub(began).cast_signed() > 0 {
                true => Some(u64::from(second) << 32 | 1),
                false => (lines < u64::from(budget)).then_some(window + 1),
            }
        };
        // Relaxed: the number is all there is to agree on.
        self.window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

/// The trace id as a number whose low bits depend on all of it. An id that a trusted caller has made need not be random.
/// Every instance of a gateway gets the same number, and so decides alike.
fn mix(trace: TraceId) -> u64 {
    let id = u128::from_be_bytes(trace.bytes());
    let mut number = (id >> 64) as u64 ^ (id as u64).rotate_left(32);
    // The finalizer of SplitMix64.
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

pub(super) fn checked_budget(lines: u32) -> Result<u32, ConfigError> {
    if lines == 0 {
        return Err(ConfigError::new(
            "budget_per_second",
            "must be at least 1 line",
        ));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(number: u128) -> TraceId {
        TraceId::new((number + 1).to_be_bytes()).unwrap()
    }

    fn sampling(normal: f64, budget: u32) -> Sampling {
        let ratio = |share| Ratio::new("normal", share).unwrap();
        Sampling::new(ratio(normal), ratio(0.01), Duration::from_secs(1), budget)
    }

    const START: Duration = Duration::ZERO;

    #[test]
    fn errors_and_slow_requests_are_kept_and_the_rest_is_sampled() {
        let sampling = sampling(0.1, u32::MAX);
        let kept = |class| {
            (0..20_000)
                .filter(|n| {
                    let decision = sampling.decide(class, trace(*n), START);
                    matches!(decision, Decision::Keep { .. })
                })
                .count()
        };
        for class in [Class::Error, Class::ClientError, Class::Slow] {
            assert_eq!(kept(class), 20_000);
        }
        assert!((1_800..2_200).contains(&kept(Class::Normal)));
        assert!((130..270).contains(&kept(Class::Health)));
        sampling.set_rate(Class::Normal, Ratio::ALL);
        assert_eq!(kept(Class::Normal), 20_000);
    }

    #[test]
    fn the_budget_is_there_again_when_the_seconds_begin_anew() {
        let sampling = sampling(1.0, 1);
        let keeps = |seconds| {
            let age = Duration::from_secs(seconds);
            let decision = sampling.decide(Class::Normal, trace(1), age);
            matches!(decision, Decision::Keep { .. })
        };
        let decades = (1..4).map(|n| n << 30);
        let end = [u64::from(u32::MAX), 1 << 32, (1 << 32) + 1];
        for second in decades.chain(end) {
            assert!(keeps(second));
            assert!(!keeps(second));
        }
    }

    #[test]
    fn the_same_trace_is_decided_alike_everywhere() {
        let [one, other] = [sampling(0.3, 1_000_000), sampling(0.3, 1_000_000)];
        for n in 0..1_000 {
            let decide = |it: &Sampling| it.decide(Class::Normal, trace(n), START);
            assert_eq!(decide(&one), decide(&other));
        }
    }

    #[test]
    fn each_class_has_its_budget_of_each_second() {
        let sampling = sampling(1.0, 3);
        let decide = |class, millis| {
            let age = Duration::from_millis(millis);
            sampling.decide(class, trace(7), age) == Decision::Keep { rate: 1.0 }
        };
        // A flood of one class takes nothing from another.
        for expected in [true, true, true, false, false] {
            assert_eq!(decide(Class::ClientError, 999), expected);
        }
        assert!(decide(Class::Error, 999));
        assert!(decide(Class::ClientError, 1_000));
        // Late by a moment: counted in the second that has begun.
        assert!(decide(Class::ClientError, 999));
        assert!(decide(Class::ClientError, 1_500));
        assert!(!decide(Class::ClientError, 1_600));
        for &class in Class::ALL {
            let lines = if class == Class::ClientError { 3 } else { 0 };
            assert_eq!(sampling.left_out(class).lines, lines);
        }
    }

    proptest! {
        /// What was kept, weighed by its rate, and what was left out come to about what there was, whenever the share changes.
        #[test]
        fn counts_can_be_scaled_back(
            seed: u64,
            share in 0.05f64..1.0,
            changed in 0.05f64..1.0,
            budget in 1u32..2_000,
        ) {
            let sampling = sampling(share, budget);
            let mut random = fastrand::Rng::with_seed(seed);
            let (mut scaled, total) = (0.0, 20_000);
            for n in 0..total {
                if n == total / 2 {
                    sampling.set_rate(Class::Normal, Ratio::new("normal", changed).unwrap());
                }
                let age = Duration::from_millis(n / 4);
                let id = TraceId::new(random.u128(1..).to_be_bytes()).unwrap();
                if let Decision::Keep { rate } = sampling.decide(Class::Normal, id, age) {
                    scaled += 1.0 / rate;
                }
            }
            scaled += sampling.left_out(Class::Normal).requests;
            // Six standard deviations of a binomial count, at the smaller share.
            let share = share.min(changed);
            let deviation = 6.0 * (total as f64 * (1.0 - share) / share).sqrt();
            prop_assert!((scaled - total as f64).abs() <= deviation + 1.0, "{scaled}");
        }
    }
}
