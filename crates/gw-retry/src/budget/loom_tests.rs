//! All interleavings of those who share a budget. Run with `RUSTFLAGS="--cfg loom"`.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::*;
use crate::ratio::Ratio;

/// One retry for each request and none without.
fn one_for_one() -> Arc<RatioBudget> {
    Arc::new(RatioBudget::new(1.0, Duration::from_secs(10), 0).unwrap())
}

#[test]
fn one_retry_is_taken_once() {
    loom::model(|| {
        let budget = one_for_one();
        let now = budget.slot_start(0);
        budget.deposit(now);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.withdraw(now).is_some())
        };
        let mine = budget.withdraw(now).is_some();
        let theirs = other.join().unwrap();
        assert!(mine ^ theirs, "taken {}", u8::from(mine) + u8::from(theirs));
        assert!(budget.is_balanced());
    });
}

#[test]
fn what_is_given_back_is_there_once() {
    loom::model(|| {
        let budget = one_for_one();
        let now = budget.slot_start(0);
        budget.deposit(now);
        let taken = budget.withdraw(now).unwrap();
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.give_back(taken, now))
        };
        let taken = budget.withdraw(now).is_some();
        other.join().unwrap();
        assert_eq!(budget.available(now), u64::from(!taken));
        assert!(budget.is_balanced());
    });
}

#[test]
fn what_has_come_back_by_itself_is_not_given_back() {
    // Story: its slot was emptied between the look at the time and the gift, and then it was there for nothing.
    loom::model(|| {
        let budget = one_for_one();
        let now = budget.slot_start(0);
        budget.deposit(now);
        let taken = budget.withdraw(now).unwrap();
        let later = budget.slot_start(10);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.give_back(taken, now))
        };
        // Turns, unless the gift is just being made.
        budget.available(later);
        other.join().unwrap();
        assert_eq!(budget.available(later), 0);
        assert!(budget.is_balanced());
    });
}

#[test]
fn what_was_brought_long_ago_pays_for_nothing() {
    // Story: while somebody else was at the slots, who asked for a retry was served from those of the last look, which may be long ago.
    loom::model(|| {
        let budget = one_for_one();
        let now = budget.slot_start(0);
        budget.deposit(now);
        let brought = budget.count(now);
        let later = budget.slot_start(3600);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.take_back(brought))
        };
        assert!(budget.withdraw(later).is_none());
        other.join().unwrap();
        assert_eq!(budget.available(later), 0);
        assert!(budget.is_balanced());
    });
}

#[test]
fn what_is_over_by_itself_is_not_taken_back() {
    loom::model(|| {
        let budget = one_for_one();
        let (now, later) = (budget.slot_start(0), budget.slot_start(10));
        let brought = budget.count(now);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.take_back(brought))
        };
        // Turns, unless it is just being taken back.
        budget.deposit(later);
        other.join().unwrap();
        assert!(budget.available(later) <= 1);
        assert!(budget.is_balanced());
        let over = budget.slot_start(20);
        assert_eq!(budget.available(over), 0);
        assert!(budget.is_balanced());
    });
}

#[test]
fn slots_are_emptied_once_and_nothing_is_lost_or_made() {
    loom::model(|| {
        let budget = one_for_one();
        budget.deposit(budget.slot_start(0));
        let later = budget.slot_start(10);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.deposit(later))
        };
        // The first request is over by now. Who asks while the slots are being emptied is served from those before, so it may
        // still be found; but each request is worth one retry, whoever comes first.
        let taken = budget.withdraw(later).is_some();
        other.join().unwrap();
        assert!(budget.is_balanced());
        let left = budget.available(later);
        assert!(left + u64::from(taken) <= 2, "{left} left, {taken} taken");
        // A ttl later nothing is left of either, nor of what was taken.
        assert_eq!(budget.available(budget.slot_start(21)), 0);
        assert!(budget.is_balanced());
    });
}

#[test]
fn what_there_always_is_is_taken_once() {
    loom::model(|| {
        let budget = RatioBudget::new(0.0, Duration::from_secs(10), 1).unwrap();
        let budget = Arc::new(budget);
        let now = budget.slot_start(0);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.withdraw(now))
        };
        let mine = budget.withdraw(now);
        let theirs = other.join().unwrap();
        assert!(mine.is_some() ^ theirs.is_some());
        budget.give_back(mine.or(theirs).unwrap(), now);
        assert_eq!(budget.available(now), 1);
        assert!(budget.is_balanced());
    });
}

#[test]
fn of_what_there_always_is_all_that_was_not_sent_is_there_again() {
    loom::model(|| {
        let budget = RatioBudget::new(0.0, Duration::from_secs(10), 2).unwrap();
        let budget = Arc::new(budget);
        let now = budget.slot_start(0);
        let (first, second) = (budget.withdraw(now).unwrap(), budget.withdraw(now).unwrap());
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || budget.give_back(first, now))
        };
        budget.give_back(second, now);
        let taken = u64::from(budget.withdraw(now).is_some());
        other.join().unwrap();
        assert_eq!(taken, 1);
        assert_eq!(budget.available(now), 1);
        assert!(budget.is_balanced());
    });
}

#[test]
fn who_takes_while_another_gives_back_does_not_forget_a_third() {
    loom::model(|| {
        let budget = RatioBudget::new(0.0, Duration::from_secs(10), 4).unwrap();
        let budget = Arc::new(budget);
        let quarter = |n| budget.slot_start(0) + n * Duration::from_millis(250);
        let first = budget.withdraw(quarter(0)).unwrap();
        let _sent = budget.withdraw(quarter(0)).unwrap();
        let other = {
            let (budget, now) = (Arc::clone(&budget), quarter(0));
            thread::spawn(move || budget.give_back(first, now))
        };
        let waits = budget.withdraw(quarter(0)).unwrap();
        other.join().unwrap();
        // Behind one that was sent, that which waits has come back by now. The third has not.
        let _third = budget.withdraw(quarter(2)).unwrap();
        budget.give_back(waits, quarter(2));
        assert_eq!(budget.available(quarter(2)), 3);
    });
}

#[test]
fn who_asks_at_the_same_instant_leaves_nothing_unpaid() {
    loom::model(|| {
        let budget = RatioBudget::new(1.0, Duration::from_secs(10), 1).unwrap();
        let budget = Arc::new(budget);
        let now = budget.slot_start(0);
        let other = {
            let budget = Arc::clone(&budget);
            thread::spawn(move || {
                budget.deposit(now);
                budget.withdraw(now).is_some()
            })
        };
        let mine = budget.withdraw(now).is_some();
        let theirs = other.join().unwrap();
        assert!(mine || theirs);
        assert!(budget.is_balanced());
        // Each that was let through was paid for or is owed: a second later there is the one that there always is.
        let later = now + Duration::from_secs(1);
        assert_eq!(budget.available(later), 1);
    });
}

#[test]
fn a_share_of_what_is_on_its_way_is_not_exceeded() {
    loom::model(|| {
        let active = Arc::new(ActiveShare::new(Ratio::new(1.0, 1.0).unwrap(), 0));
        active.enter();
        let other = {
            let active = Arc::clone(&active);
            thread::spawn(move || active.begin_retry())
        };
        let mine = active.begin_retry();
        let theirs = other.join().unwrap();
        assert!(mine ^ theirs);
        active.end_retry();
        active.leave();
        assert_eq!(active.available(), 0);
    });
}
