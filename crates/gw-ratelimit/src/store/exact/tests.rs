use std::thread;

use proptest::prelude::*;

use super::*;
use crate::gcra::Gcra;
use crate::quota::Quota;
use crate::store::Receipt;
use crate::store::tests::{key, tallies};

fn store(max_keys: usize, policies: usize) -> Exact {
    Exact::new(max_keys, policies, tallies(policies))
}

/// Ten seconds to a cell.
fn slow(burst: u32) -> Gcra {
    Gcra::new(Quota::per(std::time::Duration::from_secs(10), 1).burst(burst)).unwrap()
}

/// Both of the policies count alike.
fn charge(store: &Exact, key: KeyHash, gcra: &Gcra, cost: u32, now: u64) -> Verdict {
    let algorithm = Algorithm::Gcra(*gcra);
    let quota = Quota::per_second(1);
    let terms = [Terms { quota, algorithm }; 2];
    store.charge(key, &algorithm, cost, now, &terms)
}

fn allowed(store: &Exact, key: KeyHash, gcra: &Gcra, now: u64) -> bool {
    matches!(charge(store, key, gcra, 1, now), Verdict::Allow { .. })
}

/// As the memory of either kind does.
fn undo(store: &Exact, receipt: Receipt, gcra: &Gcra) {
    store.lower(receipt.key, &|tat| {
        receipt.undone(tat, &Algorithm::Gcra(*gcra), 0)
    });
}

fn held(store: &Exact) -> u64 {
    let policies = store.notes.tallies().iter();
    let counted: u64 = policies.map(|tally| tally.counts().keys).sum();
    let real: usize = store
        .shards
        .iter()
        .map(|shard| read(&shard.0).table.len())
        .sum();
    assert_eq!(counted, real as u64);
    counted
}

fn overflowed(store: &Exact) -> u64 {
    store
        .notes
        .tallies()
        .iter()
        .map(|tally| tally.counts().overflowed)
        .sum()
}

#[test]
fn shards_hold_the_bound_exactly() {
    for max_keys in [
        1,
        2,
        63,
        64,
        100,
        129,
        1_000,
        4_097,
        1_000_000,
        1_000_003,
        u32::MAX as usize,
    ] {
        let store = store(max_keys, 1);
        let capacity: usize = store
            .shards
            .iter()
            .map(|shard| read(&shard.0).capacity)
            .sum();
        assert_eq!(capacity, max_keys);
        assert!(store.shards.len().is_power_of_two());
        assert!(store.shards.iter().all(|shard| read(&shard.0).capacity > 0));
    }
}

#[test]
fn a_flood_of_debtors_washes_nobody_out() {
    let (store, gcra) = (store(1_000, 1), slow(1));
    let early: Vec<KeyHash> = (0..500).map(|n| key(n, 0)).collect();
    for key in &early {
        assert!(allowed(&store, *key, &gcra, 0));
    }
    for n in 0..10_000 {
        // All in debt, and time goes on a little: ten microseconds in all.
        allowed(&store, key(1_000 + n, 0), &gcra, n);
        assert!(held(&store) <= 1_000);
    }
    assert!(overflowed(&store) > 0);
    for key in &early {
        assert!(!allowed(&store, *key, &gcra, 10_000), "debt was forgiven");
    }
}

#[test]
fn keys_without_debt_give_way() {
    let (store, gcra) = (store(1_000, 1), slow(1));
    let late = gcra.tolerance();
    for n in 0..10_000u64 {
        // Each round of 500 comes when the round before it has run off.
        assert!(allowed(&store, key(n, 0), &gcra, n / 500 * late));
        assert!(held(&store) <= 1_000);
    }
    assert_eq!(overflowed(&store), 0);
}

#[test]
fn the_least_debt_gives_way() {
    // Below 128 keys there is one shard, so one floor for each policy.
    let (store, gcra) = (store(10, 2), slow(3));
    for n in 0..10 {
        let cost = if n == 7 { 1 } else { 3 };
        charge(&store, key(n, 0), &gcra, cost, 0);
    }
    // It owes more than the one with a cell, which has to go; the next one begins with that cell.
    charge(&store, key(10, 0), &gcra, 2, 0);
    assert_eq!((held(&store), overflowed(&store)), (10, 1));
    for n in [7, 11] {
        assert_eq!(store.peek(key(n, 0)), gcra.interval());
    }
    // The other policy's newcomers have lost nobody yet.
    assert_eq!(store.peek(key(7, 1)), 0);
    // This one owes the least itself.
    assert!(allowed(&store, key(20, 1), &gcra, 0));
    assert_eq!((held(&store), overflowed(&store)), (10, 2));
    assert_eq!(store.notes.tallies()[1].counts().keys, 0);
    assert_eq!(store.peek(key(20, 1)), gcra.interval());
}

#[test]
fn newcomers_recover_when_the_debts_have_run_off() {
    let (store, gcra) = (store(10, 1), slow(3));
    for n in 0..1_000 {
        allowed(&store, key(n, 0), &gcra, 0);
    }
    assert!(!allowed(&store, key(1_000, 0), &gcra, 0));
    // Ten have room for one cell each, and one is forgotten at once.
    let passed = (1_001..2_000).filter(|n| allowed(&store, key(*n, 0), &gcra, gcra.interval()));
    assert_eq!(passed.count(), 11);
    let later = gcra.interval() + gcra.tolerance();
    assert_eq!(
        charge(&store, key(2_000, 0), &gcra, 3, later),
        Verdict::Allow {
            state: later + gcra.tolerance()
        }
    );
}

#[test]
fn strikes_are_not_held_against_newcomers() {
    // The second is of what a penalty keeps.
    let (store, gcra) = (Exact::new(1, 1, tallies(2)), slow(3));
    for (n, policy, cost) in [(1, 1, 1), (2, 1, 2), (3, 0, 3), (4, 1, 1)] {
        charge(&store, key(n, policy), &gcra, cost, 0);
    }
    // The last was forgotten at once, the others one by one.
    assert_eq!(store.peek(key(3, 0)), gcra.tolerance());
    assert_eq!((held(&store), overflowed(&store)), (1, 3));
    for n in 1..6 {
        assert_eq!(store.peek(key(n, 1)), 0);
    }
}

/// Story: strikes last for up to a day each, so the keys with the least debt were those of newcomers. They pushed out debts
/// and were never pushed out themselves; once memory was full of them, all newcomers shared one debt.
#[test]
fn strikes_go_before_any_debt() {
    // The second is of what a penalty keeps.
    let (store, gcra) = (Exact::new(10, 1, tallies(2)), slow(3));
    for n in 0..10 {
        charge(&store, key(n, 1), &gcra, 3, 0);
    }
    for n in 0..10 {
        assert!(allowed(&store, key(n, 0), &gcra, 0));
        assert_eq!(store.peek(key(99, 0)), 0, "nobody owes what {n} owed");
    }
    // What is new of strikes takes no debtor's place.
    charge(&store, key(20, 1), &gcra, 3, 0);
    assert_eq!(store.peek(key(99, 0)), 0);
    for n in 0..10 {
        assert_eq!(store.peek(key(n, 0)), gcra.interval());
    }
    assert_eq!((held(&store), overflowed(&store)), (10, 11));
}

#[test]
fn a_forgotten_debt_binds_an_older_clock() {
    let (store, gcra) = (store(1, 1), slow(1));
    let run_off = gcra.tolerance();
    assert!(allowed(&store, key(1, 0), &gcra, 0));
    assert!(allowed(&store, key(2, 0), &gcra, run_off));
    assert!(store.reset(key(2, 0)));
    // A thread that read its clock before the first key's debt had run off, and comes only now.
    assert!(!allowed(&store, key(1, 0), &gcra, run_off - 1));
    assert!(allowed(&store, key(1, 0), &gcra, run_off));
}

proptest! {
    /// The same said of states, for both algorithms: whoever was forgotten begins with no less than it owed, and no key's
    /// debt falls by anything that others do.
    #[test]
    fn no_state_ever_falls(
        max_keys in 1..12usize,
        arrivals in prop::collection::vec((0..20u64, 0..2u8, -300..1_500i64, 1..4u32), 1..200),
    ) {
        let store = store(max_keys, 2);
        let nanos = std::time::Duration::from_nanos;
        let quotas = [Quota::per(nanos(1_000), 1).burst(3), Quota::sliding_window(5, nanos(4_000))];
        let terms = quotas.map(|quota| Terms { quota, algorithm: Algorithm::new(quota).unwrap() });
        let mut known = std::collections::HashMap::new();
        let mut now = 0u64;
        for (n, policy, step, cost) in arrivals {
            now = now.saturating_add_signed(step);
            let key = key(n, policy);
            let charged = store.charge(key, &terms[key.policy()].algorithm, cost, now, &terms);
            if let Verdict::Allow { state } = charged {
                known.insert(key, state);
            }
            prop_assert!(held(&store) <= max_keys as u64);
            for (key, known) in &mut known {
                let algorithm = &terms[key.policy()].algorithm;
                let state = store.peek(*key);
                prop_assert_eq!(algorithm.later(state, *known), state);
                *known = state;
            }
        }
    }
}

#[test]
fn what_a_forgotten_key_was_charged_is_not_taken_back() {
    let (store, gcra) = (store(1, 1), slow(4));
    let receipt = |n: u64, cost: u32| match charge(&store, key(n, 0), &gcra, cost, 0) {
        Verdict::Allow { state: after } => Receipt {
            key: key(n, 0),
            after,
            cost,
        },
        denied => panic!("{denied:?}"),
    };
    let own = receipt(1, 2);
    let forgotten = receipt(2, 1);
    undo(&store, forgotten, &gcra);
    assert_eq!(store.peek(key(2, 0)), gcra.interval());
    undo(&store, own, &gcra);
    assert_eq!(store.peek(key(1, 0)), 0);
    // It comes back, with the floor below it: what it was charged before is taken back, and no more.
    receipt(2, 1);
    undo(&store, forgotten, &gcra);
    assert_eq!(store.peek(key(2, 0)), gcra.interval());
}

#[test]
fn a_smaller_burst_cuts_long_debts() {
    let (store, gcra) = (store(1, 2), slow(5));
    // One that has a place, and one that was forgotten at once.
    for policy in [0, 1] {
        charge(&store, key(1, policy), &gcra, 5, 0);
    }
    store.rewrite(0, &|| 7, &|state, now| state.min(now));
    store.rewrite(1, &|| 8, &|state, now| state.min(now));
    assert_eq!(store.peek(key(1, 0)), 7);
    assert_eq!(store.peek(key(1, 1)), 8);
}

#[test]
fn threads_keep_the_bound_and_the_count() {
    let store = store(500, 1);
    let gcra = Gcra::new(Quota::per_second(1_000_000)).unwrap();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..5_000u64 {
                    // Some keys are common to the threads, and all run off after a microsecond.
                    allowed(store, key(n * 4 + thread % 3, 0), &gcra, n * 10);
                    store.reset(key(n, 0));
                }
            });
        }
    });
    assert!(held(&store) <= 500);
}

proptest! {
    /// The promise of the store, however full it is: no key ever gets more than its quota in any stretch of time,
    /// counted by itself. The clock may step back, as it does between threads.
    #[test]
    fn no_key_gets_more_than_its_quota(
        max_keys in 1..24usize,
        arrivals in prop::collection::vec((0..40u64, 0..2u8, -300..1_500i64, 1..4u32), 1..400),
    ) {
        const INTERVAL: u64 = 1_000;
        const BURST: u32 = 3;
        let store = store(max_keys, 2);
        let quota = Quota::per(std::time::Duration::from_nanos(INTERVAL), 1).burst(BURST);
        let gcra = Gcra::new(quota).unwrap();
        let mut passed = vec![[const { Vec::new() }; 2]; 40];
        let mut now = 0u64;
        for (n, policy, step, cost) in arrivals {
            now = now.saturating_add_signed(step);
            if matches!(charge(&store, key(n, policy), &gcra, cost, now), Verdict::Allow { .. }) {
                passed[n as usize][usize::from(policy)].push((now, u64::from(cost)));
            }
            prop_assert!(held(&store) <= max_keys as u64);
        }
        for mut passed in passed.into_iter().flatten() {
            passed.sort_unstable();
            for from in 0..passed.len() {
                let mut sum = 0;
                for (at, cost) in &passed[from..] {
                    sum += cost * INTERVAL;
                    prop_assert!(sum <= u64::from(BURST) * INTERVAL + at - passed[from].0);
                }
            }
        }
    }
}
