//! Both stores against clients that are counted one by one, without bound.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::limiter::Terms;
use crate::memory::Memory;
use crate::quota::Quota;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// A key as a hash would make it: all bits depend on `n`.
pub(super) fn key(n: u64, policy: u8) -> KeyHash {
    let mut hash = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    KeyHash::new(hash ^ hash >> 32, policy)
}

pub(super) fn tallies(policies: usize) -> std::sync::Arc<[Tally]> {
    let name = |n| std::sync::Arc::from(format!("policy_{n}"));
    (0..policies).map(|n| Tally::new(name(n))).collect()
}

/// What one key of one policy was charged since its quota changed last, and what it owed then.
#[derive(Debug, Default, Clone)]
struct Client {
    before: u64,
    /// The number of the charge, when, how much, and whether it was taken back.
    charges: Vec<(usize, u64, u32, bool)>,
}

impl Client {
    fn state(&self, algorithm: &Algorithm) -> u64 {
        let mut state = self.before;
        for (_, now, cost, taken_back) in &self.charges {
            if *taken_back {
                state = seen_at(algorithm, state, *now);
            } else if let Verdict::Allow { state: after } = algorithm.decide(state, *now, *cost) {
                state = after;
            }
        }
        state
    }
}

/// The state when the time has been seen: a window that has begun is not left again for an earlier one. (A rate has
/// no such thing: an older reading sees the same debt.)
fn seen_at(algorithm: &Algorithm, state: u64, time: u64) -> u64 {
    match algorithm {
        Algorithm::Gcra(_) => state,
        Algorithm::Window(_) => algorithm.later(state, algorithm.idle(time)),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Charge {
        key: u64,
        policy: u8,
        step: f64,
        cost: u32,
    },
    /// Of the charges made since the last change of a quota.
    TakeBack(prop::sample::Index),
    Reset {
        key: u64,
        policy: u8,
    },
    Change {
        policy: u8,
        quota: prop::sample::Index,
    },
}

fn steps(keys: u64, back: bool, undone: bool) -> impl Strategy<Value = Vec<Step>> {
    let forward = prop_oneof![4 => Just(0.0), 4 => 0.0..0.5, 2 => 0.5..3.0, 1 => 3.0..30.0];
    let step = if back {
        prop_oneof![6 => forward, 1 => -2.0..0.0].boxed()
    } else {
        forward.boxed()
    };
    let charge =
        (0..keys, 0..2u8, step, 1..5u32).prop_map(|(key, policy, step, cost)| Step::Charge {
            key,
            policy,
            step,
            cost,
        });
    let change = (0..2u8, any::<prop::sample::Index>())
        .prop_map(|(policy, quota)| Step::Change { policy, quota });
    let reset = (0..keys, 0..2u8).prop_map(|(key, policy)| Step::Reset { key, policy });
    let take_back = any::<prop::sample::Index>().prop_map(Step::TakeBack);
    let step = if undone {
        prop_oneof![40 => charge, 6 => take_back, 1 => reset, 1 => change].boxed()
    } else {
        prop_oneof![40 => charge, 1 => change].boxed()
    };
    prop::collection::vec(step, 1..250)
}

/// Runs the steps on a store of this memory. `agree` is given what the store said and what the client by itself is due.
fn run(
    memory: Memory,
    quotas: &[Quota],
    start: u64,
    steps: Vec<Step>,
    agree: impl Fn(bool, bool) -> bool,
) -> Result<(), TestCaseError> {
    const UNIT: f64 = 1_000_000.0;
    let store = memory.store(2, tallies(2));
    let mut terms: Vec<Terms> = [quotas[0], quotas[quotas.len() - 1]]
        .map(|quota| Terms {
            quota,
            algorithm: memory.algorithm(quota).unwrap(),
        })
        .into();
    let mut clients: HashMap<(u64, u8), Client> = HashMap::new();
    let mut receipts: Vec<(u64, Receipt, usize)> = Vec::new();
    // The times that the store reads: compact memory's are whole microseconds.
    let tick = if matches!(store, InMemory::Compact(_)) {
        Compact::TICK
    } else {
        1
    };
    let (mut now, mut latest) = (start, start);
    for (number, step) in steps.into_iter().enumerate() {
        match step {
            Step::Charge {
                key: n,
                policy,
                step,
                cost,
            } => {
                let length = (step.abs() * UNIT) as u64;
                now = if step < 0.0 {
                    now - length
                } else {
                    now + length
                };
                latest = latest.max(now);
                let algorithm = terms[usize::from(policy)].algorithm;
                let client = clients.entry((n, policy)).or_default();
                let at = now - now % tick;
                let state = seen_at(&algorithm, client.state(&algorithm), latest);
                let due = matches!(algorithm.decide(state, at, cost), Verdict::Allow { .. });
                let verdict = store.charge(key(n, policy), &algorithm, cost, now, &terms);
                let allowed = matches!(verdict, Verdict::Allow { .. });
                prop_assert!(
                    agree(allowed, due),
                    "at {now} key {n} of {policy}, cost {cost}: store {allowed}, alone {due}"
                );
                if let Verdict::Allow { state: after } = verdict {
                    client.charges.push((number, at, cost, false));
                    let key = key(n, policy);
                    receipts.push((n, Receipt { key, after, cost }, number));
                }
            }
            Step::TakeBack(which) if !receipts.is_empty() => {
                let (n, receipt, number) = receipts.swap_remove(which.index(receipts.len()));
                let policy = receipt.key.policy();
                store.undo(receipt, &terms[policy].algorithm, &|| latest);
                let client = clients.get_mut(&(n, policy as u8)).unwrap();
                let charges = client.charges.iter_mut();
                for charge in charges.filter(|charge| charge.0 == number) {
                    charge.3 = true;
                }
            }
            Step::TakeBack(_) => {}
            Step::Reset { key: n, policy } => {
                store.reset(key(n, policy));
                clients.remove(&(n, policy));
                receipts.retain(|(_, receipt, _)| receipt.key != key(n, policy));
            }
            Step::Change { policy, quota } => {
                let quota = *quota.get(quotas);
                let algorithm = memory.algorithm(quota).unwrap();
                let index = usize::from(policy);
                let before = std::mem::replace(&mut terms[index], Terms { quota, algorithm });
                let change = |state, now| {
                    let state = if algorithm.reads(&before.algorithm) {
                        state
                    } else {
                        algorithm.translate(&before.algorithm, state, now)
                    };
                    algorithm.cut(state, now)
                };
                store.rewrite(index, &|| latest, &change);
                let of_policy = clients.iter_mut().filter(|((_, of), _)| *of == policy);
                for (_, client) in of_policy {
                    let state = client.state(&before.algorithm);
                    *client = Client {
                        before: change(state, latest),
                        charges: Vec::new(),
                    };
                }
                receipts.retain(|(_, receipt, _)| receipt.key.policy() != index);
            }
        }
    }
    Ok(())
}

const MS: Duration = Duration::from_millis(1);

/// Both algorithms, and windows of several lengths.
fn all_quotas() -> [Quota; 6] {
    [
        Quota::per(MS, 1).burst(5),
        Quota::sliding_window(8, 3 * MS),
        Quota::per(3 * MS, 2).burst(9),
        Quota::sliding_window(5, 3 * MS),
        Quota::sliding_window(6, 10 * MS),
        Quota::per(7 * MS, 3),
    ]
}

fn rates() -> [Quota; 4] {
    [
        Quota::per(MS, 1).burst(5),
        Quota::per(3 * MS, 2).burst(9),
        Quota::per(7 * MS, 3).burst(4),
        Quota::per_second(9_999).burst(7),
    ]
}

const EXACTLY: fn(bool, bool) -> bool = |store, alone| store == alone;
/// Never more than the client is due by itself.
const AT_MOST: fn(bool, bool) -> bool = |store, alone| !store || alone;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// With room for all, and a clock that does not step back, each decision is that of the client alone.
    #[test]
    fn exact_memory_is_exact(steps in steps(12, false, false), start in 0..1u64 << 50) {
        run(Memory::exact(10_000), &all_quotas(), start, steps, EXACTLY)?;
    }

    /// However full: no key ever gets more than it would alone. Clocks step back, charges are taken back, keys are reset,
    /// quotas, window lengths and algorithms change.
    #[test]
    fn exact_memory_gives_nobody_more(
        max_keys in 1..30usize,
        steps in steps(40, true, true),
        start in 1u64 << 40..1 << 50,
    ) {
        run(Memory::exact(max_keys), &all_quotas(), start, steps, AT_MOST)?;
    }

    #[test]
    fn compact_memory_is_exact_with_room(steps in steps(12, true, false), start in 1u64 << 40..1 << 50) {
        run(Memory::compact(10_000), &rates(), start, steps, EXACTLY)?;
    }

    #[test]
    fn compact_memory_gives_nobody_more(
        sets in 1..4usize,
        steps in steps(40, true, true),
        start in 1u64 << 40..1 << 50,
    ) {
        run(Memory::compact(sets * 8), &rates(), start, steps, AT_MOST)?;
    }
}

/// The share of newcomers, in percent, that are refused their first request, while keys come at a rate that keeps so
/// many of them in debt at a time. `examples/flood.rs` measures the same at length.
fn refused(memory: Memory, bound: u64, percent: u64, cells: u32) -> f64 {
    const BURST: u32 = 20;
    const INTERVAL: u64 = 100_000_000;
    let quota = Quota::per(Duration::from_nanos(INTERVAL), 1).burst(BURST);
    let algorithm = memory.algorithm(quota).unwrap();
    let terms = [Terms { quota, algorithm }];
    let store = memory.store(1, tallies(1));
    let in_debt = bound * percent / 100;
    let in_a_window = in_debt * u64::from(BURST) / u64::from(cells);
    let (mut asked, mut refused) = (0.0, 0.0);
    for n in 0..in_a_window * 3 {
        let now = n * INTERVAL * u64::from(cells) / in_debt;
        let charge = |n| store.charge(key(n, 0), &algorithm, 1, now, &terms);
        for _ in 0..cells {
            charge(n);
        }
        if n >= in_a_window * 2 && n % 10 == 0 {
            asked += 1.0;
            refused += f64::from(u8::from(!matches!(
                charge(n | 1 << 63),
                Verdict::Allow { .. }
            )));
        }
    }
    refused * 100.0 / asked
}

/// What the documentation tells of newcomers while memory is full.
#[test]
fn newcomers_pay_for_the_bound() {
    let bound = 2_000;
    for memory in [Memory::exact(2_000), Memory::compact(2_000)] {
        let refused = |percent, cells| refused(memory, bound, percent, cells);
        for cells in [1, 10] {
            assert_eq!(refused(50, cells), 0.0);
            assert!(refused(100, cells) < 1.0);
        }
        // What is too much is refused, and that is half; those who send more pay it for those who send little.
        assert!((45.0..65.0).contains(&refused(200, 1)));
        assert!(refused(200, 10) < 1.0);
    }
}
