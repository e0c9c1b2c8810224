use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::gcra::Gcra;
use crate::quota::Quota;
use crate::store::Receipt;
use crate::store::tests::{key, tallies};

const MS: u64 = 1_000_000;

fn rate(millis: u64, burst: u32) -> Gcra {
    Gcra::new(Quota::per(Duration::from_millis(millis), 1).burst(burst)).unwrap()
}

fn charge(store: &Compact, key: KeyHash, gcra: &Gcra, cost: u32, now: u64) -> Verdict {
    store.charge(key, &Algorithm::Gcra(*gcra), cost, now)
}

/// As the memory of either kind does.
fn undo(store: &Compact, receipt: Receipt, gcra: &Gcra) -> bool {
    store.lower(receipt.key, &|tat| {
        receipt.undone(tat, &Algorithm::Gcra(*gcra), 0)
    })
}

fn allowed(store: &Compact, key: KeyHash, gcra: &Gcra, now: u64) -> bool {
    matches!(charge(store, key, gcra, 1, now), Verdict::Allow { .. })
}

fn counts(store: &Compact) -> (u64, u64) {
    let counts = store.notes.tallies()[0].counts();
    (counts.keys, counts.overflowed)
}

#[test]
fn a_set_is_a_cache_line() {
    assert_eq!((size_of::<Set>(), align_of::<Set>()), (64, 64));
    // Eight bytes a key and nothing beside.
    let store = Compact::new(1_000_001, tallies(2));
    assert_eq!(store.tables.len(), 2);
    assert!(store.tables.iter().all(|sets| sets.len() == 125_001));
}

/// Story: a key whose charge was taken back within the limiter's first microsecond had a place that looked free. Who took
/// it was counted beside the key that was gone.
#[test]
fn a_key_without_debt_is_no_free_place() {
    let store = Compact::new(8, tallies(1));
    let gcra = rate(10, 5);
    // One place stays free: no debt is forgiven beyond the least one there is.
    let receipts = [1, 2, 3, 4, 5, 6, 7].map(|n| {
        let key = key(n, 0);
        let Verdict::Allow { state: after } = charge(&store, key, &gcra, 1, 0) else {
            panic!("there is room");
        };
        Receipt {
            key,
            after,
            cost: 1,
        }
    });
    for receipt in receipts {
        assert!(undo(&store, receipt, &gcra));
    }
    assert_eq!(counts(&store), (7, 0));
    for n in 9..=20 {
        assert!(allowed(&store, key(n, 0), &gcra, 0));
    }
    assert_eq!(counts(&store).0, 8);
}

/// Eight slots by the book: who is in none takes the first with the least TAT, and begins with it.
#[derive(Default)]
struct Model([(u16, u64); 8]);

impl Model {
    fn slot(&mut self, fingerprint: u16) -> &mut (u16, u64) {
        let least = self.0.iter().map(|(_, tat)| *tat).min().unwrap();
        let own = |(of, _): &(u16, u64)| *of == fingerprint;
        let at = self
            .0
            .iter()
            .position(own)
            .or(self.0.iter().position(|(_, tat)| *tat == least));
        &mut self.0[at.unwrap()]
    }

    fn charge(&mut self, fingerprint: u16, gcra: &Gcra, cost: u32, now: u64) -> bool {
        let slot = self.slot(fingerprint);
        let after = slot.1.max(now) + gcra.interval() * u64::from(cost);
        let fits = cost <= gcra.burst() && after <= now + gcra.tolerance();
        if fits {
            *slot = (fingerprint, after);
        }
        fits
    }

    fn reset(&mut self, fingerprint: u16) -> bool {
        let Some(at) = self.0.iter().position(|(of, _)| *of == fingerprint) else {
            return false;
        };
        let others = self.0.iter().enumerate().filter(|(n, _)| *n != at);
        let least = others.map(|(_, (_, tat))| *tat).min().unwrap();
        let tat = least.min(self.0[at].1);
        self.0[at] = (if tat == 0 { 0 } else { fingerprint }, tat);
        true
    }
}

proptest! {
    /// Step by step the same as the model, the debts included.
    #[test]
    fn agrees_with_eight_slots(
        steps in prop::collection::vec((0..20u64, -2_000..5_000i64, 0..6u32), 1..300),
    ) {
        let (store, gcra) = (Compact::new(8, tallies(1)), rate(1, 5));
        let (mut model, mut now) = (Model::default(), 50 * MS);
        for (n, step, cost) in steps {
            now = now.saturating_add_signed(step * 1_000);
            let fingerprint = store.spot(key(n, 0)).unwrap().fingerprint;
            if cost == 0 {
                prop_assert_eq!(store.reset(key(n, 0)), model.reset(fingerprint));
            } else {
                let allowed = matches!(charge(&store, key(n, 0), &gcra, cost, now), Verdict::Allow { .. });
                prop_assert_eq!(allowed, model.charge(fingerprint, &gcra, cost, now));
            }
            for n in 0..20 {
                let fingerprint = store.spot(key(n, 0)).unwrap().fingerprint;
                let tat = store.peek(key(n, 0));
                prop_assert_eq!(tat, model.slot(fingerprint).1);
            }
            let held = model.0.iter().filter(|(of, _)| *of != 0).count();
            prop_assert_eq!(counts(&store).0, held as u64);
        }
    }

    /// In any stretch of real time, one key gets no more than its quota brings in that time and a microsecond: the
    /// clock's own step.
    #[test]
    fn no_stretch_is_exceeded(
        cells in 1..=10_000u32,
        burst in 1..20u32,
        arrivals in prop::collection::vec((0..200_000u64, 1..4u32), 1..300),
    ) {
        let quota = Quota::per_second(cells).burst(burst);
        let Ok(Algorithm::Gcra(gcra)) = crate::Memory::compact(8).algorithm(quota) else {
            panic!("a rate");
        };
        let (store, mut now) = (Compact::new(8, tallies(1)), 0);
        let mut passed: Vec<(u64, u64)> = Vec::new();
        for (step, cost) in arrivals {
            now += step;
            if let Verdict::Allow { .. } = charge(&store, key(1, 0), &gcra, cost, now) {
                passed.push((now, cost.into()));
            }
        }
        for from in 0..passed.len() {
            let mut sum = 0;
            for (at, cost) in &passed[from..] {
                sum += cost;
                let stretch = at - passed[from].0 + TICK;
                let most = u64::from(burst) * 1_000_000_000 + stretch * u64::from(cells);
                prop_assert!(sum * 1_000_000_000 <= most);
            }
        }
    }
}

#[test]
fn a_flood_of_debtors_washes_nobody_out() {
    let (store, gcra) = (Compact::new(1_000, tallies(1)), rate(10_000, 1));
    let early: Vec<KeyHash> = (0..500).map(|n| key(n, 0)).collect();
    for key in &early {
        // Some share a set with eight others already.
        allowed(&store, *key, &gcra, 0);
    }
    for n in 0..10_000 {
        allowed(&store, key(1_000 + n, 0), &gcra, n);
    }
    assert_eq!(counts(&store).0, 1_000);
    for key in &early {
        assert!(!allowed(&store, *key, &gcra, 10_000), "debt was forgiven");
    }
}

#[test]
fn keys_without_debt_give_way() {
    let (store, gcra) = (Compact::new(1_000, tallies(1)), rate(10, 1));
    for n in 0..10_000u64 {
        // One at a time has debt.
        assert!(allowed(&store, key(n, 0), &gcra, n * 10 * MS));
    }
    assert_eq!(counts(&store), (1_000, 0));
}

#[test]
fn a_newcomer_begins_with_the_least_debt() {
    let (store, gcra) = (Compact::new(8, tallies(1)), rate(1, 10));
    for n in 0..8u32 {
        charge(&store, key(n.into(), 0), &gcra, n + 2, 0);
    }
    assert_eq!(counts(&store), (8, 0));
    // Two cells are owed by the first, who has to go; and three by the second.
    assert!(matches!(
        charge(&store, key(8, 0), &gcra, 9, 0),
        Verdict::Deny { wait: MS, .. }
    ));
    assert!(matches!(
        charge(&store, key(8, 0), &gcra, 8, 0),
        Verdict::Allow { .. }
    ));
    assert_eq!(counts(&store), (8, 1));
    assert_eq!(store.peek(key(0, 0)), 3 * MS);
}

#[test]
fn the_end_of_time_refuses() {
    let (store, gcra) = (Compact::new(8, tallies(1)), rate(1, 10));
    let end = (1u64 << 48) * TICK;
    assert!(allowed(&store, key(1, 0), &gcra, end - 2 * MS));
    assert!(!allowed(&store, key(2, 0), &gcra, end - MS + TICK));
    for now in [end, end + MS, u64::MAX] {
        assert!(!allowed(&store, key(1, 0), &gcra, now));
    }
}

#[test]
fn policies_have_sets_of_their_own() {
    let (store, gcra) = (Compact::new(8, tallies(2)), rate(1_000, 1));
    assert!(allowed(&store, key(1, 0), &gcra, 0));
    assert!(allowed(&store, key(1, 1), &gcra, 0));
    assert!(!allowed(&store, key(1, 0), &gcra, 0));
    // One that this limiter does not have.
    assert!(!allowed(&store, key(1, 2), &gcra, 0));
}

#[test]
fn threads_give_nobody_more() {
    let (store, gcra) = (Compact::new(64, tallies(1)), rate(3_600_000, 5));
    let passed: Vec<AtomicU64> = (0..200).map(|_| AtomicU64::new(0)).collect();
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let (store, passed) = (&store, &passed);
            scope.spawn(move || {
                for n in 0..20_000u64 {
                    let client = (n * 7 + thread * 13) % 200;
                    if let Verdict::Allow { state: after } =
                        charge(store, key(client, 0), &gcra, 1, 0)
                    {
                        if n % 3 == 0 {
                            let (key, cost) = (key(client, 0), 1);
                            let receipt = Receipt { key, after, cost };
                            undo(store, receipt, &gcra);
                        } else {
                            passed[client as usize].fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    let passed: Vec<u64> = passed.into_iter().map(AtomicU64::into_inner).collect();
    assert!(passed.iter().all(|passed| *passed <= 5), "{passed:?}");
    // And all that the slots have room for.
    let total: u64 = passed.iter().sum();
    assert!((64..=64 * 5).contains(&total), "{total}");
}
