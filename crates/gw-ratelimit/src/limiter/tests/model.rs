//! The whole limiter against a model in plain arithmetic that remembers everything: the same decisions, step by step.

use std::time::Duration;

use proptest::prelude::*;

use super::{fixed, id};
use crate::decision::PolicyId;
use crate::limiter::{Charge, Limiter};
use crate::memory::Memory;
use crate::quota::Quota;

const KEYS: usize = 3;
const POLICIES: usize = 3;
const MS: u64 = 1_000_000;

/// What one client did under one policy.
#[derive(Debug, Clone)]
enum Past {
    /// A bucket that leaks: how full, in nanoseconds of leaking.
    Level(u64),
    /// All that it spent, and when.
    Spent(Vec<(u64, u64)>),
}

/// A quota as the test sees it: nanoseconds, whole ones.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Rate { interval: u64, burst: u64 },
    Window { length: u64, limit: u64 },
}

impl Kind {
    fn quota(self) -> Quota {
        match self {
            Self::Rate { interval, burst } => {
                Quota::per(Duration::from_nanos(interval), 1).burst(burst as u32)
            }
            Self::Window { length, limit } => {
                Quota::sliding_window(limit as u32, Duration::from_nanos(length))
            }
        }
    }

    fn most(self) -> u64 {
        let (Self::Rate { burst: most, .. } | Self::Window { limit: most, .. }) = self;
        most
    }

    /// What is spent of the most, rounded up.
    fn spent(self, past: &Past, now: u64) -> u64 {
        match (self, past) {
            (Self::Rate { interval, .. }, Past::Level(level)) => level.div_ceil(interval),
            (Self::Window { length, .. }, Past::Spent(spent)) => {
                let window = now / length;
                let sum = |number| -> u64 {
                    let within = spent.iter().filter(|(at, _)| at / length == number);
                    within.map(|(_, cost)| cost).sum()
                };
                let previous = window.checked_sub(1).map_or(0, sum);
                sum(window) + (previous * (length - now % length)).div_ceil(length)
            }
            _ => panic!("another quota's past"),
        }
    }

    fn fits(self, past: &Past, now: u64, cost: u64) -> bool {
        let room = match (self, past) {
            // Exact to the nanosecond.
            (Self::Rate { interval, burst }, Past::Level(level)) => {
                level + cost * interval <= burst * interval
            }
            _ => self.spent(past, now) + cost <= self.most(),
        };
        cost == 0 || room
    }

    fn spend(self, past: &mut Past, now: u64, cost: u64) {
        match (self, past) {
            (Self::Rate { interval, .. }, Past::Level(level)) => *level += cost * interval,
            (Self::Window { .. }, Past::Spent(spent)) => spent.push((now, cost)),
            _ => panic!("another quota's past"),
        }
    }

    /// The past as another quota sees it.
    fn become_of(self, past: &mut Past, before: Self, now: u64) {
        match (self, before) {
            (Self::Rate { interval, burst }, Self::Rate { .. }) => {
                if let Past::Level(level) = past {
                    *level = (*level).min(interval * burst);
                }
            }
            (Self::Window { length, .. }, Self::Window { length: old, .. }) if length == old => {}
            _ => {
                let spent = before.spent(past, now).min(self.most());
                *past = self.blank();
                self.spend(past, now, spent);
            }
        }
    }

    fn blank(self) -> Past {
        match self {
            Self::Rate { .. } => Past::Level(0),
            Self::Window { .. } => Past::Spent(Vec::new()),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Check(u64, Vec<(bool, usize, u32)>),
    Change(usize, Kind),
}

fn rate() -> impl Strategy<Value = Kind> {
    (1..40u64, 1..8u64).prop_map(|(interval, burst)| {
        let interval = interval * MS / 4;
        Kind::Rate { interval, burst }
    })
}

fn any_kind() -> impl Strategy<Value = Kind> {
    let window = (1..12u64, 1..12u64).prop_map(|(length, limit)| {
        // Few different lengths, so that some changes keep it.
        let length = (length % 4 + 1) * 5 * MS;
        Kind::Window { length, limit }
    });
    prop_oneof![rate(), window]
}

fn steps(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Vec<Step>> {
    let elapsed = prop_oneof![2 => Just(0), 3 => 0..3_000u64, 1 => 0..30_000u64];
    let wanted = prop::collection::vec((any::<bool>(), 0..KEYS, 0..9u32), POLICIES);
    let check = (elapsed, wanted).prop_map(|(micros, wanted)| Step::Check(micros * 1_000, wanted));
    let change = (0..POLICIES, kind).prop_map(|(policy, kind)| Step::Change(policy, kind));
    prop::collection::vec(prop_oneof![12 => check, 1 => change], 1..120)
}

fn run(memory: Memory, first: [Kind; POLICIES], steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut kinds = first;
    let builder = (0..POLICIES).fold(Limiter::builder().memory(memory), |builder, index| {
        builder.policy(format!("p{index}"), kinds[index].quota())
    });
    let limiter = builder.build().unwrap();
    let mut pasts = kinds.map(|kind| [(); KEYS].map(|()| kind.blank()));
    // On the limiter's clock it is a whole number of microseconds.
    let mut now = fixed();
    now -= Duration::from_nanos(limiter.nanos(now) % 1_000);
    for step in steps {
        let (elapsed, wanted) = match step {
            Step::Check(elapsed, wanted) => (elapsed, wanted),
            Step::Change(policy, kind) => {
                let before = std::mem::replace(&mut kinds[policy], kind);
                let id = id(&limiter, &format!("p{policy}"));
                limiter.change_quota(id, kind.quota(), now).unwrap();
                for past in &mut pasts[policy] {
                    kind.become_of(past, before, limiter.nanos(now));
                }
                continue;
            }
        };
        now += Duration::from_nanos(elapsed);
        let at = limiter.nanos(now);
        for past in pasts.iter_mut().flatten() {
            if let Past::Level(level) = past {
                *level = level.saturating_sub(elapsed);
            }
        }
        let applied: Vec<(usize, usize, u32)> = wanted
            .iter()
            .enumerate()
            .filter(|(_, (applies, ..))| *applies)
            .map(|(policy, (_, key, cost))| (policy, *key, *cost))
            .collect();
        let charges: Vec<Charge> = applied
            .iter()
            .map(|(policy, key, cost)| limiter.charge(PolicyId(*policy as u8), key, *cost))
            .collect();
        let fits = applied.iter().all(|(policy, key, cost)| {
            kinds[*policy].fits(&pasts[*policy][*key], at, (*cost).into())
        });
        prop_assert_eq!(limiter.check_all(&charges, now).is_allowed(), fits);
        for (policy, key, cost) in applied {
            if fits && cost > 0 {
                kinds[policy].spend(&mut pasts[policy][key], at, cost.into());
            }
        }
        for (policy, pasts) in pasts.iter().enumerate() {
            for (key, past) in pasts.iter().enumerate() {
                let standing = limiter.peek(PolicyId(policy as u8), &key, now).unwrap();
                let kind = kinds[policy];
                let remaining = kind.most() - kind.spent(past, at).min(kind.most());
                prop_assert_eq!(u64::from(standing.remaining()), remaining);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn exact_memory(first in prop::array::uniform3(any_kind()), steps in steps(any_kind())) {
        run(Memory::default(), first, steps)?;
    }

    #[test]
    fn compact_memory(first in prop::array::uniform3(rate()), steps in steps(rate())) {
        run(Memory::compact(1_000), first, steps)?;
    }
}
