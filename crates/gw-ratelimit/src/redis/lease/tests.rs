mod together;

use super::*;
use crate::algorithm::Algorithm;
use crate::quota::Quota;
use crate::redis::receipt::Paid;
use crate::redis::script::Seen;

const SECOND: u64 = 1_000_000_000;

fn gcra(rate: u32, burst: u32) -> Gcra {
    Gcra::new(Quota::per_second(rate).burst(burst)).unwrap()
}

/// An answer at time 0 of the store's clock, with the key's debt in seconds.
fn granted(debt: u64, leased: u32) -> Grant {
    Grant {
        debt: debt * SECOND,
        leased,
        clock: 0,
        limited: false,
        origin: Origin::default(),
    }
}

fn refused(debt: u64) -> Grant {
    Grant {
        limited: true,
        ..granted(debt, 0)
    }
}

/// A request that lacks one cell.
const fn asked(extra: u32, sent: u64) -> Asked {
    Asked {
        cost: 1,
        extra,
        sent,
    }
}

/// Who pays nothing.
const fn looked(sent: u64) -> Asked {
    Asked {
        cost: 0,
        extra: 0,
        sent,
    }
}

/// One that was told at one second what [`granted`] says.
fn told(gcra: &Gcra, debt: u64, leased: u32) -> Lease {
    let mut lease = Lease::default();
    lease.told(gcra, asked(leased, SECOND), granted(debt, leased), SECOND);
    lease
}

/// Story: an answer to who only looks counted as one to who pays. Cells were asked for as if the last ones had been used up, and
/// those that nobody spent were kept.
#[test]
fn answers_to_who_pays_nothing_lease_nothing_and_keep_nothing() {
    let gcra = gcra(10, 80);
    let mut lease = Lease::default();
    let look = |lease: &mut Lease, now| lease.told(&gcra, looked(now), granted(0, 0), now);
    let mut wanted = Vec::new();
    for tenth in 10..310 {
        let now = tenth * SECOND / 10;
        look(&mut lease, now);
        if tenth % 50 == 0 {
            let extra = lease.extra(&gcra, 20, now);
            lease.told(&gcra, asked(extra, now), granted(1, extra), now);
            wanted.push(extra);
        }
    }
    assert_eq!(wanted, [0; 6]);

    let mut lease = told(&gcra, 5, 5);
    look(&mut lease, 2 * SECOND);
    assert!(!lease.is_stale(2 * SECOND) && lease.is_fresh(3 * SECOND));
    assert!(lease.is_stale(2 * SECOND + 1));
}

#[test]
fn a_refusal_is_remembered_until_its_wait_is_over() {
    let gcra = gcra(1, 2);
    let mut lease = Lease::default();
    lease.told(&gcra, asked(0, SECOND), granted(2, 0), SECOND + 5);
    let wait = |now| match lease.decide(&gcra, 1, now) {
        Verdict::Deny { wait, .. } => wait,
        Verdict::Allow { .. } | Verdict::DenyForever { .. } => 0,
    };
    assert_eq!(wait(SECOND), SECOND);
    assert_eq!(wait(2 * SECOND - 1), 1);
    assert_eq!(wait(2 * SECOND), 0);
}

#[test]
fn who_refused_is_not_asked_again_at_once() {
    let gcra = gcra(1_000, 100);
    let mut lease = Lease::default();
    let full = Grant {
        debt: gcra.tolerance(),
        ..refused(0)
    };
    lease.told(&gcra, asked(4, SECOND), full, SECOND);
    // A cell is back after a millisecond.
    let verdict = lease.decide(&gcra, 1, SECOND + SECOND / 1_000);
    let pause = Lease::PAUSE.as_nanos() as u64;
    let Verdict::Deny { wait, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!(wait, pause - SECOND / 1_000);
    let verdict = lease.decide(&gcra, 1, SECOND + pause);
    assert!(matches!(verdict, Verdict::Allow { .. }));
}

#[test]
fn cells_are_lost_when_they_begin() {
    let gcra = gcra(1, 10);
    let lease = told(&gcra, 5, 5);
    let held: Vec<_> = (1..8)
        .map(|second| lease.available(second * SECOND))
        .collect();
    assert_eq!(held, [5, 4, 3, 2, 1, 0, 0]);
    assert_eq!(lease.available(SECOND + 1), 4);
}

#[test]
fn what_is_put_back_is_not_there_twice() {
    let gcra = gcra(1, 10);
    let mut lease = told(&gcra, 5, 5);
    let one = lease.spend(&gcra, 2, SECOND);
    lease.put_back(one);
    assert_eq!(lease.available(SECOND), 5);
    // With another one's cells taken behind them, they are lost.
    let one = lease.spend(&gcra, 2, SECOND);
    let other = lease.spend(&gcra, 1, SECOND);
    lease.put_back(one);
    assert_eq!(lease.available(SECOND), 2);
    lease.put_back(other);
    assert_eq!(lease.available(SECOND), 3);
}

/// Story: what had been given back still counted as debt here. For a second, requests were refused that the store had room for.
#[test]
fn what_was_given_back_is_not_owed_here_either() {
    let gcra = gcra(1, 20);
    let mut lease = told(&gcra, 15, 5);
    let left = lease.balance(SECOND);
    let given = lease.take_unspent(SECOND);
    assert_eq!(given.map(|cells| cells.end - cells.start), Some(5 * SECOND));
    assert_eq!(lease.balance(SECOND), left);
    let verdict = lease.decide(&gcra, 10, SECOND);
    assert!(matches!(verdict, Verdict::Allow { .. }), "{verdict:?}");
    let verdict = lease.decide(&gcra, 11, SECOND);
    assert!(matches!(verdict, Verdict::Deny { .. }), "{verdict:?}");
}

#[test]
fn cells_of_an_old_quota_are_not_spent_under_a_new_one() {
    let (old, new) = (gcra(1, 10), gcra(10, 10));
    let mut lease = told(&old, 5, 5);
    assert_eq!(lease.spend(&new, 1, SECOND).cells(), 0);
    assert_eq!(lease.available(SECOND), 0);
}

#[test]
fn cells_of_a_larger_burst_are_not_spent_under_a_smaller_one() {
    let (old, new) = (gcra(1, 10), gcra(1, 2));
    let mut lease = told(&old, 8, 5);
    // They begin three seconds from now at the earliest: the smaller burst reaches no further than two.
    assert!(matches!(
        lease.decide(&new, 1, SECOND),
        Verdict::Deny { .. }
    ));
    assert_eq!(lease.spend(&new, 1, SECOND).cells(), 0);
    // As time goes on it reaches some of them, and never more at once than it is.
    let later = 4 * SECOND;
    assert!(matches!(
        lease.decide(&new, 2, later),
        Verdict::Allow { .. }
    ));
    assert_eq!(lease.spend(&new, 5, later).cells(), 2);
    assert_eq!(lease.spend(&new, 1, later).cells(), 0);
    // Nor are they lost to who has the larger one.
    assert_eq!(lease.spend(&old, 5, later).cells(), 3);
}

#[test]
fn a_refusal_for_long_is_asked_for_again_now_and_then() {
    let gcra = gcra(1, 7_200);
    let mut lease = Lease::default();
    lease.told(&gcra, asked(0, SECOND), refused(7_200), SECOND);
    let is_known = |lease: &Lease, now| {
        let verdict = lease.decide(&gcra, 3_600, now);
        matches!(verdict, Verdict::Deny { .. })
    };
    let memory = Lease::MEMORY.as_nanos() as u64;
    assert!(is_known(&lease, SECOND + memory));
    // The key may have been freed elsewhere meanwhile.
    assert!(!is_known(&lease, SECOND + memory + 1));
    lease.told(&gcra, asked(0, 3 * SECOND), refused(7_200), 3 * SECOND);
    assert!(is_known(&lease, 3 * SECOND));
}

#[test]
fn spent_cells_are_charged_where_they_lie() {
    let gcra = gcra(1, 10);
    let mut lease = Lease::default();
    let grant = |debt, refunded| Grant {
        clock: 1_000 * SECOND,
        origin: Origin { born: 9, refunded },
        ..granted(debt, 2)
    };
    lease.told(&gcra, asked(2, SECOND), grant(3, 0), SECOND);
    // One cell before them is taken back, and so they move.
    lease.told(&gcra, asked(2, SECOND), grant(4, SECOND), SECOND);
    let spent = lease.spend(&gcra, 3, SECOND);
    let told = spent.receipts(&gcra);
    for (receipt, (after, cells, stood_on)) in told.into_iter().zip([(1_002, 2, 0), (1_003, 1, 2)])
    {
        assert_eq!((receipt.after, receipt.cells), (after * SECOND, cells));
        assert_eq!(receipt.stood_on, stood_on * SECOND);
        assert_eq!((receipt.born, receipt.refunded), (9, SECOND));
    }
}

/// Story: each spend of a lease stood on what the lease stood on and no more. Of what was taken back below the later ones the rest
/// did not count, and cells whose time was over were given back with them.
#[test]
fn cells_of_one_lease_stand_on_those_before_them() {
    let gcra = gcra(1, 100);
    let mut lease = told(&gcra, 9, 8);
    let mut stood_on = |now| {
        let [receipt, _] = lease.spend(&gcra, 2, now).receipts(&gcra);
        receipt.stood_on / SECOND
    };
    assert_eq!([SECOND, SECOND, 2 * SECOND].map(&mut stood_on), [1, 3, 5]);
    // What ran off unspent was there as well.
    assert_eq!(stood_on(9 * SECOND), 8);
}
