use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32 as Count, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use futures_util::task::noop_waker_ref;
use gw_core::context::Criticality::{Critical, CriticalPlus, Sheddable};

use super::*;

mod clients;
mod discipline;
mod holds;
mod model;
#[cfg(feature = "tracing")]
mod tellers;
mod wakers;

fn total(places: u32) -> NonZeroU32 {
    NonZeroU32::new(places).unwrap()
}

fn lanes<const N: usize>(places: u32, configs: [LaneConfig; N]) -> (Lanes, [LaneId; N]) {
    let lanes = Lanes::new(total(places), configs).unwrap();
    let mut ids = (0..).map(LaneId);
    (lanes, std::array::from_fn(|_| ids.next().unwrap()))
}

fn poll(wait: &mut Wait) -> Poll<Result<Permit, Refusal>> {
    Pin::new(wait).poll(&mut Context::from_waker(noop_waker_ref()))
}

fn admitted(wait: &mut Wait) -> Permit {
    match poll(wait) {
        Poll::Ready(fate) => fate.expect("nobody refused it"),
        Poll::Pending => panic!("still waits"),
    }
}

fn reason(entry: Entry) -> Reason {
    match entry {
        Entry::Refused(refusal) => refusal.reason(),
        other => panic!("{other:?}"),
    }
}

fn queued(entry: Entry) -> Wait {
    match entry {
        Entry::Queued(wait) => wait,
        other => panic!("{other:?}"),
    }
}

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Lanes {
    fn take(&self, lane: LaneId) -> Permit {
        self.try_admit(lane).expect("a free place")
    }

    fn wait(&self, lane: LaneId) -> Wait {
        queued(self.enter(lane, Instant::now()))
    }

    fn refused(&self, lane: LaneId) -> Reason {
        reason(self.enter(lane, Instant::now()))
    }

    fn in_flight(&self) -> u32 {
        self.snapshot().in_flight
    }

    fn core(&self) -> LaneSnapshot {
        self.snapshot().lanes.remove(0)
    }
}

#[test]
fn a_guarantee_is_met_while_others_have_borrowed_it() {
    let core = LaneConfig::new("core").guaranteed(0.4);
    let (lanes, [core, other]) = lanes(10, [core, LaneConfig::new("other")]);
    let mut borrowed: Vec<_> = (0..10).map(|_| lanes.take(other)).collect();
    assert_eq!(lanes.refused(other), Reason::LaneFull);
    let _own: Vec<_> = (0..4).map(|_| lanes.take(core)).collect();
    // The total is exceeded by what had been lent, and nothing is lent until it no longer is.
    assert_eq!(lanes.in_flight(), 14);
    assert_eq!(lanes.refused(core), Reason::LaneFull);
    borrowed.truncate(6);
    assert_eq!(lanes.refused(other), Reason::LaneFull);
    borrowed.truncate(5);
    drop(lanes.take(other));
}

#[test]
fn a_lane_may_borrow_up_to_its_cap() {
    let (lanes, [_, logs]) = lanes(
        100,
        [LaneConfig::new("core"), LaneConfig::new("logs").cap(0.15)],
    );
    let held: Vec<_> = (0..15).map(|_| lanes.take(logs)).collect();
    assert_eq!(lanes.refused(logs), Reason::LaneFull);
    drop(held);
    assert_eq!(lanes.in_flight(), 0);
}

#[test]
fn nobody_overtakes_in_a_lane() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(2)]);
    let first = lanes.take(core);
    let (mut second, mut third) = (lanes.wait(core), lanes.wait(core));
    assert_eq!(lanes.refused(core), Reason::QueueFull);
    // Freed and handed over in one step: one who arrives now finds no place, though nobody was polled.
    drop(first);
    assert!(lanes.try_admit(core).is_none());
    let mut fourth = lanes.wait(core);
    assert!(poll(&mut third).is_pending() && poll(&mut fourth).is_pending());
    drop(admitted(&mut second));
    drop(admitted(&mut third));
    drop(admitted(&mut fourth));
    assert_eq!(lanes.in_flight(), 0);
}

#[test]
fn the_more_critical_lane_is_served_first_equals_take_turns_and_nobody_starves() {
    let lane = |name, criticality| {
        LaneConfig::new(name)
            .criticality(criticality)
            .queue(10)
            .guaranteed(0.01)
            .cap(1.0)
    };
    let configs = [
        lane("low", Sheddable),
        lane("a", Critical),
        lane("b", Critical),
        lane("top", CriticalPlus),
    ];
    let (lanes, [low, a, b, top]) = lanes(4, configs);
    // Each lane has its guaranteed place, so all that follow need a lent one; there is none.
    let own = [low, a, b, top].map(|lane| lanes.take(lane));
    let waiting = [low, low, a, a, b, b, top, top, top, top, top, top];
    let mut waits: Vec<_> = waiting.map(|lane| (lane, lanes.wait(lane))).into();
    lanes.resize(total(5));
    let mut order = Vec::new();
    while !waits.is_empty() {
        let mut served = None;
        waits.retain_mut(|(lane, wait)| match poll(wait) {
            Poll::Ready(permit) => {
                assert!(
                    served.replace((*lane, permit.unwrap())).is_none(),
                    "one place, one request"
                );
                false
            }
            Poll::Pending => true,
        });
        // Dropping the permit hands the place to the next one.
        order.push(served.expect("a free place").0);
    }
    // Each lane once, and from there on four to one: while the others wait, `low` has had its one turn in 64.
    assert_eq!(order, [top, a, b, low, top, top, top, top, a, b, top, low]);
    drop(own);
    assert_eq!(lanes.in_flight(), 0);
}

#[test]
fn a_place_that_is_for_one_who_waits_is_not_lent_to_another_lane() {
    let (lanes, [high, low]) = lanes(
        2,
        [
            LaneConfig::new("high").criticality(CriticalPlus).queue(1),
            LaneConfig::new("low"),
        ],
    );
    let (first, _second) = (lanes.take(high), lanes.take(low));
    let mut waiting = lanes.wait(high);
    drop(first);
    assert_eq!(lanes.refused(low), Reason::LaneFull);
    drop(admitted(&mut waiting));
    drop(lanes.take(low));
}

#[test]
fn who_cannot_use_a_place_does_not_keep_others_from_it() {
    let (lanes, [capped, other]) = lanes(
        10,
        [
            LaneConfig::new("capped").cap(0.1).queue(5),
            LaneConfig::new("other"),
        ],
    );
    let _held = lanes.take(capped);
    let _waiting = lanes.wait(capped);
    // Nine places are free, and the one who waits may have none of them.
    let Entry::Admitted(_own) = lanes.enter(other, Instant::now()) else {
        panic!()
    };
    assert!(
        lanes.try_admit(other).is_none(),
        "the fast path does not judge who comes first"
    );
    let Entry::Admitted(_lent) = lanes.enter(other, Instant::now()) else {
        panic!()
    };
}

#[test]
fn leaving_the_queue_is_immediate_and_a_place_given_meanwhile_is_passed_on() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(2)]);
    let first = lanes.take(core);
    let (gone, stays) = (lanes.wait(core), lanes.wait(core));
    assert_eq!(lanes.snapshot().lanes[0].queued, 2);
    drop(gone);
    assert_eq!(lanes.snapshot().lanes[0].queued, 1);
    let mut last = lanes.wait(core);
    drop(first);
    // The one in front has been given the place, and vanishes without ever knowing.
    assert!(poll(&mut last).is_pending());
    drop(stays);
    drop(admitted(&mut last));
    assert_eq!(lanes.in_flight(), 0);
    drop(lanes.take(core));
}

#[test]
fn who_gives_up_in_the_moment_of_being_served_runs() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let first = lanes.take(core);
    let wait = lanes.wait(core);
    drop(first);
    let permit = wait.give_up(Instant::now()).expect("it has been served");
    assert_eq!(lanes.in_flight(), 1);
    drop(permit);
    let second = lanes.take(core);
    let refusal = lanes.wait(core).give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::QueueTimeout);
    assert_eq!(lanes.snapshot().lanes[0].rejected.queue_timeout, 1);
    drop(second);
}

#[test]
fn growing_admits_those_who_wait_and_shrinking_cuts_nobody() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(3)]);
    let first = lanes.take(core);
    let mut waits = [lanes.wait(core), lanes.wait(core), lanes.wait(core)];
    lanes.resize(total(3));
    let [second, third, last] = &mut waits;
    let (second, third) = (admitted(second), admitted(third));
    assert!(poll(last).is_pending());
    lanes.resize(total(1));
    assert_eq!(lanes.in_flight(), 3);
    drop((first, second));
    assert!(poll(last).is_pending());
    drop(third);
    drop(admitted(last));
}

#[test]
fn lanes_have_the_shares_of_one_total_however_many_set_it() {
    // Story: of two that changed the total at once, one had set it last, and the other one the limits of some lanes.
    let names: Vec<_> = (0..64).map(|n| n.to_string()).collect();
    let lanes = Lanes::new(total(100), names.into_iter().map(LaneConfig::new)).unwrap();
    for _ in 0..500 {
        let barrier = Barrier::new(2);
        thread::scope(|scope| {
            for places in [100, 200] {
                let (lanes, barrier) = (&lanes, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    lanes.resize(total(places));
                });
            }
        });
        let snapshot = lanes.snapshot();
        let limits: HashSet<_> = snapshot.lanes.iter().map(|lane| lane.limit).collect();
        assert_eq!(limits, [snapshot.total].into());
    }
}

#[test]
fn shadow_lets_all_pass_and_counts() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let _first = lanes.take(core);
    let mut waiting = lanes.wait(core);
    lanes.set_mode(Mode::Shadow);
    let _second = admitted(&mut waiting);
    let Entry::Admitted(_third) = lanes.enter(core, Instant::now()) else {
        panic!()
    };
    let lane = &lanes.snapshot().lanes[0];
    assert_eq!(
        (lane.in_flight, lane.queued, lane.rejected.lane_full),
        (3, 0, 1)
    );
    lanes.set_mode(Mode::Enforce);
    assert!(poll(&mut lanes.wait(core)).is_pending());
}

#[test]
fn drained_lanes_let_nobody_in_any_more() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let first = lanes.take(core);
    let mut waiting = lanes.wait(core);
    let (mut watching, mut drained) = (lanes.drained(), lanes.drain());
    let mut cx = Context::from_waker(noop_waker_ref());
    for mode in [Mode::Enforce, Mode::Shadow] {
        lanes.set_mode(mode);
        assert!(lanes.try_admit(core).is_none());
        assert_eq!(lanes.refused(core), Reason::Draining);
    }
    drop(first);
    // It was in the queue before, so it still runs.
    let last = admitted(&mut waiting);
    assert!(Pin::new(&mut drained).poll(&mut cx).is_pending());
    drop(last);
    assert!(Pin::new(&mut drained).poll(&mut cx).is_ready());
    assert!(Pin::new(&mut watching).poll(&mut cx).is_ready());
    assert_eq!(lanes.in_flight(), 0);
}

/// Has threads come and go all at once, and returns how many were in at the same time at most. The first time nobody goes
/// before all have come, so where one is never refused, that is at least one.
///
/// Two that come at the same moment are to find one place: where there are more, they hardly ever find the same.
fn peak_under_fire(enter: impl Fn(usize) -> Option<Permit> + Sync) -> u32 {
    const THREADS: usize = 8;
    let all_came = Barrier::new(THREADS);
    let (running, peak) = (Count::new(0), Count::new(0));
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (enter, all_came) = (&enter, &all_came);
            let (running, peak) = (&running, &peak);
            scope.spawn(move || {
                for round in 0..10_000 {
                    let permit = enter(thread);
                    if permit.is_some() {
                        let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                        peak.fetch_max(now, Ordering::SeqCst);
                    }
                    if round == 0 {
                        all_came.wait();
                    }
                    if let Some(permit) = permit {
                        // Long enough for others to come.
                        (0..50).for_each(|_| std::hint::spin_loop());
                        running.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    } else {
                        thread::yield_now();
                    }
                }
            });
        }
    });
    peak.into_inner()
}

/// Story: that few were inside for so short a time that a cap that did not hold was hardly ever seen.
#[test]
fn caps_hold_under_fire() {
    let configs = [
        LaneConfig::new("capped").cap(0.03).queue(2),
        LaneConfig::new("other").guaranteed(0.5).queue(2),
    ];
    let (lanes, [capped, other]) = lanes(100, configs);
    let held = [lanes.take(capped), lanes.take(capped)];
    let peak = peak_under_fire(|thread| {
        if thread == 0 {
            drop(lanes.enter(other, Instant::now()));
            return None;
        }
        match lanes.enter(capped, Instant::now()) {
            Entry::Admitted(permit) => Some(permit),
            Entry::Queued(wait) => wait.give_up(Instant::now()).ok(),
            Entry::Refused(_) => None,
        }
    });
    assert_eq!(peak, 1);
    drop(held);
    let after = lanes.snapshot();
    assert_eq!(after.in_flight, 0);
    assert!(
        after
            .lanes
            .iter()
            .all(|lane| lane.in_flight == 0 && lane.queued == 0),
        "{after:?}"
    );
    lanes.assert_quiet();
}

/// Story: there were no more threads than may be in.
#[test]
fn what_is_lent_holds_under_fire() {
    let (lanes, ids) = lanes(
        4,
        ["a", "b", "c"].map(|name| LaneConfig::new(name).queue(2)),
    );
    // Each lane has its own place, and one is left to lend.
    let held = ids.map(|id| lanes.take(id));
    let peak = peak_under_fire(|thread| lanes.try_admit(ids[thread % ids.len()]));
    assert_eq!(peak, 1);
    drop(held);
    assert_eq!(lanes.in_flight(), 0);
    lanes.assert_quiet();
}

#[test]
fn ids_are_as_many_as_lanes() {
    let (lanes, ids) = lanes(
        10,
        [
            LaneConfig::new("a"),
            LaneConfig::new("b"),
            LaneConfig::new("c"),
        ],
    );
    let found: HashSet<_> = ["a", "b", "c"].map(|name| lanes.find(name).unwrap()).into();
    assert_eq!(found, ids.into());
    assert_eq!(lanes.find("d"), None);
}
