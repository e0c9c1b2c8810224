//! All interleavings of the lock-free part with those who wait. Run with `RUSTFLAGS="--cfg loom"`.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::context::Deadline;
use loom::future::block_on;
use loom::sync::atomic::AtomicBool;
use loom::thread;

use super::*;
use crate::limit::{Algorithm, Next, Window};

fn lanes(places: u32, configs: impl IntoIterator<Item = LaneConfig>) -> Lanes {
    Lanes::new(NonZeroU32::new(places).unwrap(), configs).unwrap()
}

/// Runs to the end or, if nobody ever wakes it, makes loom report a deadlock.
fn enter_and_leave(lanes: &Lanes, lane: LaneId) -> Option<Reason> {
    let entry = match lanes.try_admit(lane) {
        Some(permit) => Entry::Admitted(permit),
        None => lanes.enter(lane, Instant::now()),
    };
    match entry {
        Entry::Admitted(permit) => drop(permit),
        Entry::Queued(wait) => return block_on(wait).err().map(|refusal| refusal.reason()),
        Entry::Refused(refusal) => return Some(refusal.reason()),
    }
    None
}

fn assert_empty(lanes: &Lanes) {
    let snapshot = lanes.snapshot();
    assert_eq!(snapshot.in_flight, 0);
    assert!(
        snapshot
            .lanes
            .iter()
            .all(|lane| lane.in_flight == 0 && lane.queued == 0)
    );
    lanes.assert_quiet();
}

#[test]
fn a_place_given_back_reaches_the_one_who_waits() {
    loom::model(|| {
        let lanes = lanes(1, [LaneConfig::new("core").queue(2)]);
        let held = lanes.try_admit(LaneId::FIRST).unwrap();
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || assert_eq!(enter_and_leave(&lanes, LaneId::FIRST), None))
        };
        drop(held);
        other.join().unwrap();
        assert_empty(&lanes);
    });
}

#[test]
fn a_lent_place_given_back_reaches_another_lane() {
    loom::model(|| {
        let lanes = lanes(2, [LaneConfig::new("a"), LaneConfig::new("b").queue(1)]);
        let (a, b) = (LaneId(0), LaneId(1));
        let (own, lent) = (lanes.try_admit(b).unwrap(), lanes.try_admit(a).unwrap());
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || assert_eq!(enter_and_leave(&lanes, b), None))
        };
        drop(lent);
        other.join().unwrap();
        drop(own);
        assert_empty(&lanes);
    });
}

#[test]
fn a_place_for_one_who_vanishes_is_passed_on() {
    loom::model(|| {
        let lanes = lanes(1, [LaneConfig::new("core").queue(2)]);
        let held = lanes.try_admit(LaneId::FIRST).unwrap();
        let Entry::Queued(vanishes) = lanes.enter(LaneId::FIRST, Instant::now()) else {
            panic!()
        };
        let Entry::Queued(stays) = lanes.enter(LaneId::FIRST, Instant::now()) else {
            panic!()
        };
        let other = thread::spawn(move || drop(vanishes));
        drop(held);
        drop(block_on(stays).unwrap());
        other.join().unwrap();
        assert_empty(&lanes);
    });
}

#[test]
fn a_cap_holds_and_a_guarantee_is_met() {
    loom::model(|| {
        // One place is guaranteed to each lane and one is to lend; both lanes want it.
        let lanes = lanes(
            3,
            [
                LaneConfig::new("a").cap(0.67),
                LaneConfig::new("b").cap(0.67),
            ],
        );
        let (a, b) = (LaneId(0), LaneId(1));
        let kept = lanes.try_admit(a).unwrap();
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                let own = lanes.try_admit(b).expect("within the guarantee");
                let lent = lanes.try_admit(b);
                drop((own, lent));
            })
        };
        let lent = lanes.try_admit(a);
        assert!(
            lanes
                .snapshot()
                .lanes
                .iter()
                .all(|lane| lane.in_flight <= 2)
        );
        drop(lent);
        other.join().unwrap();
        drop(kept);
        assert_empty(&lanes);
    });
}

#[test]
fn as_many_as_there_are_places_get_one_in_a_sole_lane() {
    loom::model(|| {
        let lanes = lanes(3, [LaneConfig::new("core")]);
        let one = lanes.try_admit(LaneId::FIRST).unwrap();
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.try_admit(LaneId::FIRST).unwrap())
        };
        let two = lanes.try_admit(LaneId::FIRST).unwrap();
        let three = other.join().unwrap();
        assert!(lanes.try_admit(LaneId::FIRST).is_none());
        drop((one, two, three));
        assert_empty(&lanes);
    });
}

#[test]
fn one_place_is_lent_once() {
    loom::model(|| {
        // One place is each lane's own and taken, and one is left to lend; both lanes want it.
        let lanes = lanes(
            3,
            [LaneConfig::new("a"), LaneConfig::new("b")].map(|lane| lane.guaranteed(0.3)),
        );
        let (a, b) = (LaneId(0), LaneId(1));
        let own = (lanes.try_admit(a).unwrap(), lanes.try_admit(b).unwrap());
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.try_admit(b))
        };
        let this = lanes.try_admit(a);
        let other = other.join().unwrap();
        assert!(this.is_some() != other.is_some());
        drop((this, other, own));
        assert_empty(&lanes);
    });
}

#[test]
fn a_place_that_is_given_back_while_it_counts_twice_reaches_the_one_who_waits() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        // Two places of three are taken. While one lane borrows the third, one who waits in the other lane finds it counted twice,
        // and one of the two that were taken is given back.
        let configs = [LaneConfig::new("a"), LaneConfig::new("b").queue(1)];
        let lanes = lanes(3, configs.map(|lane| lane.guaranteed(0.3)));
        let (a, b) = (LaneId(0), LaneId(1));
        let (one, two) = (lanes.try_admit(a).unwrap(), lanes.try_admit(b).unwrap());
        let borrows = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.try_admit(a))
        };
        let waits = {
            let lanes = lanes.clone();
            thread::spawn(move || assert_eq!(enter_and_leave(&lanes, b), None))
        };
        drop(one);
        waits.join().unwrap();
        drop((borrows.join().unwrap(), two));
        assert_empty(&lanes);
    });
}

#[test]
fn a_place_that_is_given_back_between_two_who_wait_reaches_the_second() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let lanes = lanes(2, [LaneConfig::new("a"), LaneConfig::new("b").queue(1)]);
        let (a, b) = (LaneId(0), LaneId(1));
        let (own, lent) = (lanes.try_admit(b).unwrap(), lanes.try_admit(a).unwrap());
        let Entry::Queued(vanishes) = lanes.enter(b, Instant::now()) else {
            panic!()
        };
        let first = thread::spawn(move || drop(vanishes));
        let second = {
            let lanes = lanes.clone();
            thread::spawn(move || {
                let fate = enter_and_leave(&lanes, b);
                assert!(matches!(fate, None | Some(Reason::QueueFull)), "{fate:?}");
            })
        };
        drop(lent);
        first.join().unwrap();
        second.join().unwrap();
        drop(own);
        assert_empty(&lanes);
    });
}

#[test]
fn nobody_gets_into_drained_lanes() {
    loom::model(|| {
        let lanes = lanes(1, [LaneConfig::new("core")]);
        let drained = Arc::new(AtomicBool::new(false));
        let other = {
            let (lanes, drained) = (lanes.clone(), Arc::clone(&drained));
            thread::spawn(move || {
                if let Some(permit) = lanes.try_admit(LaneId::FIRST) {
                    assert!(!drained.load(Ordering::SeqCst));
                    drop(permit);
                }
            })
        };
        block_on(lanes.drain());
        drained.store(true, Ordering::SeqCst);
        other.join().unwrap();
        assert!(lanes.try_admit(LaneId::FIRST).is_none());
        assert_empty(&lanes);
    });
}

#[test]
fn nobody_borrows_from_drained_lanes() {
    loom::model(|| {
        let configs = [LaneConfig::new("a"), LaneConfig::new("b")];
        let lanes = lanes(2, configs.map(|lane| lane.guaranteed(0.0)));
        let drained = Arc::new(AtomicBool::new(false));
        let other = {
            let (lanes, drained) = (lanes.clone(), Arc::clone(&drained));
            thread::spawn(move || {
                if let Some(permit) = lanes.try_admit(LaneId(1)) {
                    assert!(!drained.load(Ordering::SeqCst));
                    drop(permit);
                }
            })
        };
        block_on(lanes.drain());
        drained.store(true, Ordering::SeqCst);
        other.join().unwrap();
        assert_empty(&lanes);
    });
}

#[test]
fn what_is_forced_into_lanes_that_drain_is_taken_back() {
    loom::model(|| {
        let lanes = lanes(1, [LaneConfig::new("core").mode(Mode::Shadow)]);
        let held = lanes.try_admit(LaneId::FIRST).unwrap();
        let drained = Arc::new(AtomicBool::new(false));
        let other = {
            let (lanes, drained) = (lanes.clone(), Arc::clone(&drained));
            thread::spawn(move || {
                if let Entry::Admitted(permit) = lanes.enter(LaneId::FIRST, Instant::now()) {
                    assert!(!drained.load(Ordering::SeqCst));
                    drop(permit);
                }
            })
        };
        drop(held);
        block_on(lanes.drain());
        drained.store(true, Ordering::SeqCst);
        other.join().unwrap();
        assert_empty(&lanes);
    });
}

#[test]
fn a_place_is_served_or_given_up_and_never_both() {
    loom::model(|| {
        let lanes = lanes(1, [LaneConfig::new("core").queue(1)]);
        let held = lanes.try_admit(LaneId::FIRST).unwrap();
        let Entry::Queued(mut wait) = lanes.enter(LaneId::FIRST, Instant::now()) else {
            panic!()
        };
        let other = thread::spawn(move || drop(held));
        let served = Pin::new(&mut wait).poll(&mut Context::from_waker(Waker::noop()));
        match served {
            Poll::Ready(permit) => drop(permit.unwrap()),
            Poll::Pending => drop(wait.give_up(Instant::now())),
        }
        other.join().unwrap();
        assert_empty(&lanes);
        drop(lanes.try_admit(LaneId::FIRST).expect("nothing was lost"));
    });
}

#[test]
fn a_reservation_that_is_undone_reaches_the_one_who_waits() {
    let mut model = loom::model::Builder::new();
    // Three threads: bounded, or it takes minutes.
    model.preemption_bound = Some(2);
    model.check(|| {
        // Two of four places are taken. Lane a may have one more, and two want it: one of them may reserve the last place
        // of the total before it sees that.
        let lanes = lanes(
            4,
            [LaneConfig::new("a").cap(0.5), LaneConfig::new("b").queue(1)],
        );
        let (a, b) = (LaneId(0), LaneId(1));
        let own = (lanes.try_admit(a).unwrap(), lanes.try_admit(b).unwrap());
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || lanes.try_admit(a))
        };
        let waiting = {
            let lanes = lanes.clone();
            thread::spawn(move || assert_eq!(enter_and_leave(&lanes, b), None))
        };
        let this = lanes.try_admit(a);
        // Neither is given back before: nothing but a reservation that ends wakes who waits.
        waiting.join().unwrap();
        let other = other.join().unwrap();
        // Neither, if both found out that somebody waits after they had looked for the first time.
        assert!(this.is_none() || other.is_none());
        drop((this, other, own));
        assert_empty(&lanes);
    });
}

#[test]
fn who_is_expelled_or_served_or_vanishes_leaves_no_count_behind() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let config = LaneConfig::new("core")
            .queue(2)
            .deadline_aware(true)
            .per_key(crate::key::Global, NonZeroU32::new(2).unwrap());
        let lanes = lanes(1, [config]);
        let key = lanes.key(());
        let arrival = || Arrival::at(Instant::now()).key(key);
        let Entry::Admitted(held) = lanes.enter(LaneId::FIRST, arrival()) else {
            panic!()
        };
        let (now, hour) = (Instant::now(), Duration::from_secs(3600));
        let doomed = arrival().deadline(Deadline::at(now + hour / 2));
        let Entry::Queued(mut doomed) = lanes.enter(LaneId::FIRST, doomed) else {
            panic!()
        };
        // A third one of this client is one too many, wherever the others are.
        assert!(matches!(
            lanes.enter(LaneId::FIRST, arrival()),
            Entry::Refused(refusal) if refusal.reason() == Reason::PerKey
        ));
        // From now on an hour is what it takes, so it is expelled when its turn comes.
        (0..10).for_each(|_| lanes.inner.lane(LaneId::FIRST).took(now, hour));
        let other = thread::spawn(move || drop(held));
        match Pin::new(&mut doomed).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(fate) => assert_eq!(
                fate.err().map(|refusal| refusal.reason()),
                Some(Reason::Deadline)
            ),
            Poll::Pending => drop(doomed),
        }
        other.join().unwrap();
        assert_empty(&lanes);
        let keys = lanes.snapshot().lanes.remove(0).per_key.unwrap();
        assert_eq!((keys.keys, keys.busiest), (0, 0));
    });
}

/// One place more with each window.
#[derive(Debug, Clone)]
struct OneMore;

impl Algorithm for OneMore {
    fn name(&self) -> &'static str {
        "one_more"
    }

    fn update(&mut self, window: &Window) -> Next {
        assert!(window.answered + window.dropped <= 11);
        Next::limit(window.limit + 1)
    }
}

#[test]
fn samples_are_counted_once_and_one_closes_the_window() {
    loom::model(|| {
        let limit = Limit::adaptive(OneMore)
            .min(2)
            .max(9)
            .shortest(Duration::ZERO);
        let lanes = Lanes::new(limit, [LaneConfig::new("core")]).unwrap();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let record = move |lanes: &Lanes, outcome| {
            lanes.record(LaneId::FIRST, start, start + second, outcome);
        };
        for _ in 0..9 {
            record(&lanes, Outcome::Answered);
        }
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || record(&lanes, Outcome::Dropped))
        };
        record(&lanes, Outcome::Answered);
        other.join().unwrap();
        let before = lanes.snapshot().lanes[0].adaptive.clone().unwrap();
        // Of eleven samples ten may have closed a window, and one may be in the next.
        assert_eq!(before.windows, 1);
        for _ in 0..10 {
            let later = start + 60 * second;
            lanes.record(LaneId::FIRST, start, later, Outcome::Answered);
        }
        let after = lanes.snapshot().lanes[0].adaptive.clone().unwrap();
        let counted = after.answered + after.dropped;
        assert_eq!(after.windows, 2);
        // One of the last ten may come after the window was full, and belong to the one that is open now.
        assert!((20..=21).contains(&counted), "{counted}");
    });
}

#[test]
fn a_place_that_was_found_reaches_the_one_who_waits() {
    loom::model(|| {
        let limit = Limit::adaptive(OneMore)
            .min(1)
            .max(9)
            .initial(1)
            .shortest(Duration::ZERO);
        let lanes = Lanes::new(limit, [LaneConfig::new("core").queue(1)]).unwrap();
        let held = lanes.try_admit(LaneId::FIRST).unwrap();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        for _ in 0..9 {
            lanes.record(LaneId::FIRST, start, start + second, Outcome::Answered);
        }
        let other = {
            let lanes = lanes.clone();
            thread::spawn(move || assert_eq!(enter_and_leave(&lanes, LaneId::FIRST), None))
        };
        // The tenth sample closes the window. The one who waits gets the new place, and the other one stays taken.
        lanes.record(LaneId::FIRST, start, start + second, Outcome::Answered);
        other.join().unwrap();
        drop(held);
        assert_empty(&lanes);
    });
}
