mod model;

use std::thread;
use std::time::Duration;

use gw_core::Mode;
use smallvec::SmallVec;

use super::*;
use crate::decision::Decision;
use crate::quota::Quota;

fn limiter(quota: Quota) -> Limiter {
    Limiter::builder().policy("p", quota).build().unwrap()
}

fn p(limiter: &Limiter) -> PolicyId {
    limiter.policy("p").unwrap()
}

/// A time ahead of the clock: what is read from the real one while a test runs is earlier and changes nothing.
fn fixed() -> Instant {
    Instant::now() + Duration::from_secs(3_600)
}

fn remaining(limiter: &Limiter, now: Instant) -> u32 {
    limiter.peek(p(limiter), "k", now).unwrap().remaining()
}

fn wait(limiter: &Limiter, now: Instant) -> Option<Duration> {
    limiter.check(p(limiter), "k", 1, now).retry_after()
}

/// A request that was let pass, and may be charged later.
fn admitted(limiter: &Limiter, cost: u32, now: Instant) -> Bill {
    let charge = limiter.charge(p(limiter), "k", cost);
    let (mut decision, mut bills) = (Decision::default(), SmallVec::new());
    limiter.decide_with_bills(&[charge], limiter.nanos(now), &mut decision, &mut bills);
    assert!(decision.is_allowed());
    bills.pop().unwrap()
}

#[test]
fn a_late_charge_is_not_refused_and_has_a_bound() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let charge = |cells| limiter.charge(p(&limiter), "k", cells);
    let standing = limiter.charge_late(charge(15), now).unwrap();
    assert_eq!(standing.remaining(), 0);
    // Fifteen cells of debt, where ten are a burst: six seconds to the next one.
    assert_eq!(wait(&limiter, now), Some(Duration::from_secs(6)));
    // Two bursts, however much is charged.
    limiter.charge_late(charge(u32::MAX), now).unwrap();
    assert_eq!(wait(&limiter, now), Some(Duration::from_secs(11)));
    assert_eq!(limiter.tallies()[0].counts().late, 20);
    let later = now + Duration::from_secs(19);
    assert_eq!(remaining(&limiter, later), 9);
    // Nothing is nothing.
    limiter.charge_late(charge(0), later).unwrap();
    assert_eq!(remaining(&limiter, later), 9);
}

/// A request alone may come to be charged under a quota that has just been changed: its key is cut to what all others were
/// cut to, which is more where keys are charged late.
#[test]
fn a_key_that_is_cut_alone_is_cut_as_all_are() {
    let now = fixed();
    let old = Algorithm::new(Quota::per_second(1).burst(100)).unwrap();
    for (is_late, secs) in [(false, 1), (true, 11)] {
        let limiter = limiter(Quota::per_second(1).burst(10));
        let charge = limiter.charge(p(&limiter), "k", 1);
        if is_late {
            let other = limiter.charge(p(&limiter), "another", 1);
            limiter.charge_late(other, now).unwrap();
        }
        let nanos = limiter.nanos(now);
        limiter.store.charge(charge.key, &old, 50, nanos, &[]);
        limiter.cut_one(p(&limiter), charge.key, nanos);
        assert_eq!(wait(&limiter, now), Some(Duration::from_secs(secs)));
    }
}

#[test]
fn a_window_takes_late_charges_up_to_twice_its_limit() {
    let limiter = limiter(Quota::sliding_window(10, Duration::from_secs(60)));
    let now = fixed();
    let charge = limiter.charge(p(&limiter), "k", 1_000);
    limiter.charge_late(charge, now).unwrap();
    assert_eq!(limiter.tallies()[0].counts().late, 20);
    assert!(!limiter.check(p(&limiter), "k", 1, now).is_allowed());
    // Twenty in the last window fade out in the second half of this one.
    let next = now + Duration::from_secs(60);
    assert!(!limiter.check(p(&limiter), "k", 1, next).is_allowed());
    let after = now + Duration::from_secs(120);
    assert!(limiter.check(p(&limiter), "k", 10, after).is_allowed());
}

#[test]
fn a_refund_gives_back_what_was_charged_and_no_more() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut first = admitted(&limiter, 4, now);
    let mut second = admitted(&limiter, 3, now);
    assert_eq!(limiter.credit(&mut first, 3, now), 3);
    assert_eq!(remaining(&limiter, now), 6);
    assert_eq!(limiter.credit(&mut first, 3, now), 1);
    assert_eq!(limiter.credit(&mut first, 3, now), 0);
    assert_eq!(remaining(&limiter, now), 7);
    assert_eq!(limiter.credit(&mut second, u32::MAX, now), 3);
    // What was charged at once after another is given back with it.
    let mut third = admitted(&limiter, 3, now);
    assert_eq!(limiter.debit(&mut third, 2, now), Some(2));
    assert_eq!(limiter.credit(&mut third, u32::MAX, now), 5);
    assert_eq!(remaining(&limiter, now), 10);
}

#[test]
fn what_time_has_paid_off_is_not_paid_twice() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut first = admitted(&limiter, 1, now);
    let later = now + Duration::from_secs(5);
    let _second = admitted(&limiter, 1, later);
    // The first cell's debt had run off long before the second came.
    limiter.credit(&mut first, 1, later);
    assert_eq!(remaining(&limiter, later), 9);
}

/// A late charge that others have come in between with is one of its own.
#[test]
fn charges_of_others_are_not_given_back() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 2, now);
    let later = now + Duration::from_secs(5);
    let _other = admitted(&limiter, 3, later);
    limiter.debit(&mut bill, 2, later);
    // The first two have run off by now.
    assert_eq!(limiter.credit(&mut bill, 10, later), 4);
    assert_eq!(remaining(&limiter, later), 7);
}

/// Story: one late charge behind somebody else's, and nothing came back of what the request had been charged before.
#[test]
fn what_was_charged_with_others_in_between_is_given_back() {
    let quotas = [
        Quota::per_second(1).burst(10),
        Quota::sliding_window(10, Duration::from_secs(60)),
    ];
    for limiter in quotas.map(limiter) {
        let now = fixed();
        let mut bill = admitted(&limiter, 2, now);
        let mut other = admitted(&limiter, 1, now);
        limiter.debit(&mut bill, 3, now);
        limiter.debit(&mut other, 1, now);
        limiter.debit(&mut bill, 1, now);
        assert_eq!(limiter.credit(&mut bill, 2, now), 2);
        assert_eq!(remaining(&limiter, now), 4);
        assert_eq!(limiter.credit(&mut other, 9, now), 2);
        assert_eq!(limiter.credit(&mut bill, 9, now), 4);
        assert_eq!(remaining(&limiter, now), 10);
    }
}

#[test]
fn only_the_last_charges_with_others_in_between_are_given_back() {
    let limiter = limiter(Quota::per_second(1).burst(100));
    let now = fixed();
    let mut bill = admitted(&limiter, 1, now);
    for cells in 2..=6 {
        let _other = admitted(&limiter, 1, now);
        limiter.debit(&mut bill, cells, now);
    }
    assert_eq!(limiter.credit(&mut bill, 100, now), 6 + 5 + 4 + 3);
}

#[test]
fn what_an_operator_freed_or_cut_is_not_given_back_again() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 5, now);
    assert!(limiter.reset(p(&limiter), "k"));
    let _new = admitted(&limiter, 5, now);
    assert_eq!(limiter.credit(&mut bill, 5, now), 0);
    assert_eq!(remaining(&limiter, now), 5);

    let mut bill = admitted(&limiter, 5, now);
    let smaller = Quota::per_second(1).burst(6);
    limiter.change_quota(p(&limiter), smaller, now).unwrap();
    assert_eq!(limiter.credit(&mut bill, 5, now), 0);
    assert_eq!(wait(&limiter, now), Some(Duration::from_secs(1)));
}

/// A cell gives back what it cost, also when cells have become dearer.
#[test]
fn a_change_of_rate_does_not_change_what_was_paid() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 5, now);
    let slower = Quota::per(Duration::from_secs(10), 1).burst(10);
    limiter.change_quota(p(&limiter), slower, now).unwrap();
    let _other = admitted(&limiter, 1, now);
    assert_eq!(limiter.credit(&mut bill, 5, now), 5);
    let standing = limiter.peek(p(&limiter), "k", now).unwrap();
    assert_eq!(standing.reset_after(), Duration::from_secs(10));
}

#[test]
fn debts_beyond_a_burst_are_cut_to_two_new_ones() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    limiter.charge_late(limiter.charge(p(&limiter), "k", 20), now);
    let smaller = Quota::per_second(1).burst(4);
    limiter.change_quota(p(&limiter), smaller, now).unwrap();
    assert_eq!(wait(&limiter, now), Some(Duration::from_secs(5)));
}

#[test]
fn an_operators_refund_is_a_gift_without_a_debt_of_its_own() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let charge = |cells| limiter.charge(p(&limiter), "k", cells);
    assert_eq!(limiter.refund(charge(5), now).unwrap().remaining(), 10);
    assert!(limiter.check(p(&limiter), "k", 8, now).is_allowed());
    assert_eq!(limiter.refund(charge(5), now).unwrap().remaining(), 7);
    assert_eq!(limiter.refund(charge(500), now).unwrap().remaining(), 10);
    assert_eq!(remaining(&limiter, now), 10);
    assert_eq!(limiter.tallies()[0].counts().refunded, 8);
    let other = Limiter::builder().build().unwrap();
    assert!(other.refund(charge(5), now).is_none());
    assert!(other.charge_late(charge(5), now).is_none());
}

#[test]
fn what_is_off_is_not_charged() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 1, now);
    limiter.change_mode(p(&limiter), Mode::Off);
    assert_eq!(limiter.debit(&mut bill, 5, now), None);
    assert_eq!(remaining(&limiter, now), 9);
}

/// Story: of two requests of one client the later one was answered first. What it got back was taken for debt that the
/// earlier one had stood on, so that one got hardly anything.
#[test]
fn refunds_come_back_whole_in_any_order() {
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for memory in [crate::Memory::exact(100), crate::Memory::compact(8)] {
        for order in orders {
            let limits = Limiter::builder().policy("p", Quota::per_second(1).burst(10));
            let limiter = limits.memory(memory).build().unwrap();
            let now = fixed();
            let _debt = admitted(&limiter, 1, now);
            let mut bills = [4, 3, 2].map(|cost| admitted(&limiter, cost, now));
            for bill in order {
                limiter.credit(&mut bills[bill], 1, now);
                limiter.credit(&mut bills[bill], 10, now);
            }
            assert_eq!(remaining(&limiter, now), 9, "{memory:?} {order:?}");
        }
    }
}

/// Story: there are fewer sums of what was taken back than keys, and refunds of others were taken for debt that a client had
/// had.
#[test]
fn refunds_of_others_take_nothing_from_a_client_without_debt() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 4, now);
    for key in 0..2_000u32 {
        let charge = limiter.charge(p(&limiter), &key, 1);
        assert!(limiter.check_all(&[charge], now).is_allowed());
        limiter.refund(charge, now).unwrap();
    }
    // So that it is not as if nothing had been charged since.
    let _other = admitted(&limiter, 1, now);
    limiter.credit(&mut bill, 4, now);
    assert_eq!(remaining(&limiter, now), 9);
}

/// All of it is charged, and all of it given back, whoever else is about.
#[test]
fn threads_get_back_what_they_paid() {
    let limiter = limiter(Quota::per_hour(1).burst(10_000));
    let now = fixed();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..200 {
                    let mut bill = admitted(&limiter, 1, now);
                    assert_eq!(limiter.debit(&mut bill, 2, now), Some(2));
                    if round % 2 == 0 {
                        limiter.credit(&mut bill, 3, now);
                    }
                }
            });
        }
    });
    let left = remaining(&limiter, now);
    // What was charged with others in between is not all given back; never is more.
    assert!(left <= 10_000 - 800 * 3, "{left}");
    assert!(left >= 10_000 - 1_600 * 3, "{left}");
}

/// Two policies, a few keys of each, and any mixture of requests, late charges, refunds and time.
#[test]
fn a_late_charge_to_a_policy_that_is_off_has_no_standing() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let charge = limiter.charge(p(&limiter), "k", 3);
    limiter.change_mode(p(&limiter), Mode::Off);
    assert_eq!(limiter.charge_late(charge, fixed()), None);
}

/// Story: what was counted as given back was what the last window still weighed, which nobody had got.
#[test]
fn of_a_window_only_what_was_charged_in_it_is_given_back() {
    let limiter = limiter(Quota::sliding_window(10, Duration::from_secs(60)));
    let now = limiter.epoch + Duration::from_secs(3_600);
    let charge = |cells| limiter.charge(p(&limiter), "k", cells);
    let refunded = || limiter.tallies()[0].counts().refunded;
    assert!(limiter.check_all(&[charge(8)], now).is_allowed());
    let next = now + Duration::from_secs(60);
    limiter.refund(charge(8), next).unwrap();
    assert_eq!((refunded(), remaining(&limiter, next)), (0, 2));
    assert!(limiter.check_all(&[charge(2)], next).is_allowed());
    limiter.refund(charge(8), next).unwrap();
    assert_eq!((refunded(), remaining(&limiter, next)), (2, 2));
}

/// Story: who was counted by one key under two policies, and got back what it had paid under both, got less under the
/// second for what it had got under the first.
#[test]
fn what_one_policy_gives_back_is_none_of_anothers() {
    let quota = Quota::per_second(1).burst(10);
    let builder = Limiter::builder().policy("p", quota).policy("q", quota);
    let limiter = builder.build().unwrap();
    let now = fixed();
    let charges = ["p", "q"].map(|name| limiter.charge(limiter.policy(name).unwrap(), "k", 4));
    let (mut decision, mut bills) = (Decision::default(), SmallVec::new());
    limiter.decide_with_bills(&charges, limiter.nanos(now), &mut decision, &mut bills);
    for (mut bill, charge) in bills.into_iter().zip(charges) {
        // Someone else in between, so that it is not as if nothing had been charged.
        limiter.check_all(&[charge], now);
        assert_eq!(limiter.credit(&mut bill, 4, now), 4);
        let left = limiter.peek_at(&charge, now).unwrap();
        assert_eq!(left.remaining(), 6);
    }
}

/// Story: between a charge and taking it back, another request got back what it had paid. The charge then had nothing
/// to stand on, so what came after it had counted from its own time on; and a part of that was taken back as well.
#[test]
fn what_is_taken_back_a_moment_later_knows_of_refunds_since() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let (now, second) = (fixed(), Duration::from_secs(1));
    let mut other = admitted(&limiter, 4, now);
    let (mut decision, mut payments) = (Decision::default(), SmallVec::new());
    let charge = limiter.charge(p(&limiter), "k", 1);
    let book = limiter.book.read();
    limiter.pay_all(
        &book,
        &[charge],
        limiter.nanos(now),
        &mut decision,
        &mut payments,
    );
    let algorithm = book.terms(&charge).unwrap().algorithm;
    drop(book);
    limiter.credit(&mut other, 4, now);
    // A second later the charge has run off, and this one counts from there on.
    let later = now + second;
    assert!(limiter.check(p(&limiter), "k", 1, later).is_allowed());
    assert_eq!(remaining(&limiter, later), 9);
    for paid in payments {
        let paid = paid.under(algorithm, limiter.nanos(now));
        limiter.take_back(&paid, paid.receipt.cost, limiter.nanos(later));
    }
    assert_eq!(remaining(&limiter, later), 9);
}

/// Story: a key that came when there was no room begins with what others owed. A refund to it took nothing off, and was
/// counted.
#[test]
fn a_refund_to_a_key_without_a_place_gives_nothing_and_is_not_counted() {
    // Compact memory tells keys apart by these.
    let bits = |charge: &Charge| (charge.key.spread() as u16).max(1);
    for memory in [crate::Memory::exact(1), crate::Memory::compact(8)] {
        let limits = Limiter::builder().policy("p", Quota::per_second(1).burst(10));
        let limiter = limits.memory(memory).build().unwrap();
        let now = fixed();
        let charge = |key: u32| limiter.charge(p(&limiter), &key, 1);
        for key in 0..9 {
            assert!(limiter.check(p(&limiter), &key, 1, now).is_allowed());
        }
        let others: Vec<_> = (0..9).map(|key| bits(&charge(key))).collect();
        let mut strangers = (9..).map(charge);
        let stranger = strangers.find(|charge| !others.contains(&bits(charge)));
        let stranger = stranger.unwrap();
        let before = limiter.peek_at(&stranger, now).unwrap().remaining();
        assert!(before < 10, "{memory:?}: it owes what others did");
        let standing = limiter.refund(stranger, now).unwrap();
        assert_eq!(standing.remaining(), before);
        assert_eq!(limiter.tallies()[0].counts().refunded, 0, "{memory:?}");
    }
}

/// Story: a request's policy went off while it was served, and a charge to it said that 0 cells were charged, as if there
/// had been no room.
#[test]
fn a_policy_that_is_off_by_now_says_so() {
    let limiter = limiter(Quota::per_second(1).burst(10));
    let now = fixed();
    let mut bill = admitted(&limiter, 4, now);
    limiter.change_mode(p(&limiter), Mode::Off);
    assert_eq!(limiter.debit(&mut bill, 3, now), None);
    // What it took it gives back.
    assert_eq!(limiter.credit(&mut bill, 9, now), 4);
    limiter.change_mode(p(&limiter), Mode::Enforce);
    assert_eq!(limiter.debit(&mut bill, 30, now), Some(20));
    assert_eq!(limiter.debit(&mut bill, 1, now), Some(0));
}
