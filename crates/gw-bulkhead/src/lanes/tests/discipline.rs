//! Who is not worth waiting: by the clock, by the state of the machine.

use gw_core::context::Deadline;
use gw_testkit::PATIENCE;
use tokio::time::advance;

use super::*;
use crate::Codel;
use crate::pressure::{Load, Signal};

impl Lanes {
    fn due_in(&self, lane: LaneId, left: Duration) -> Entry {
        let now = Instant::now();
        self.enter(lane, Arrival::at(now).deadline(Deadline::at(now + left)))
    }
}

fn expelled(wait: &mut Wait) -> Option<Reason> {
    match poll(wait) {
        Poll::Ready(Err(refusal)) => Some(refusal.reason()),
        Poll::Ready(Ok(_)) | Poll::Pending => None,
    }
}

/// A lane of one place whose queue stands: the permit, and two that wait, of 1 ms and of 0 ms.
async fn standing(codel: Codel) -> (Lanes, LaneId, Permit, [Wait; 2]) {
    let config = LaneConfig::new("core")
        .queue(10)
        .queue_timeout(Duration::from_secs(1))
        .codel(codel);
    let (lanes, [core]) = lanes(1, [config]);
    let held = lanes.take(core);
    let long = lanes.wait(core);
    advance(millis(6)).await;
    drop(lanes.wait(core));
    advance(millis(100)).await;
    let older = lanes.wait(core);
    drop(long);
    advance(millis(1)).await;
    let newer = lanes.wait(core);
    (lanes, core, held, [older, newer])
}

#[tokio::test(start_paused = true)]
async fn while_a_queue_stands_waits_are_short() {
    let (lanes, core, held, [mut older, newer]) = standing(Codel::new()).await;
    // Who comes now is told at once for how long it may wait.
    assert_eq!(newer.until() - Instant::now(), millis(10));
    advance(millis(10)).await;
    // One comes by, and who has waited for too long goes.
    let mut last = lanes.wait(core);
    assert_eq!(expelled(&mut older), Some(Reason::QueueDelay));
    let refusal = newer.give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::QueueDelay);
    drop(held);
    drop(admitted(&mut last));
    assert_eq!((lanes.in_flight(), lanes.core().queued), (0, 0));
    assert_eq!(lanes.core().rejected.queue_delay, 2);
}

#[tokio::test(start_paused = true)]
async fn a_queue_stands_whether_anybody_looks_or_not() {
    // Story: a place came back after seconds, and the one who had waited for it was started: nobody had joined or left, so
    // the queue had not been seen to stand.
    let config = LaneConfig::new("core")
        .queue(10)
        .queue_timeout(Duration::from_secs(10))
        .codel(Codel::new());
    let (lanes, [core]) = lanes(1, [config]);
    let held = lanes.take(core);
    let mut waits = [lanes.wait(core), lanes.wait(core)];
    advance(Duration::from_secs(5)).await;
    drop(held);
    for wait in &mut waits {
        assert_eq!(expelled(wait), Some(Reason::QueueDelay));
    }
    assert_eq!((lanes.in_flight(), lanes.core().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn while_a_queue_stands_the_newest_may_go_first() {
    for (codel, newest_first) in [(Codel::new(), false), (Codel::new().adaptive_lifo(), true)] {
        let (_lanes, _, held, [mut older, mut newer]) = standing(codel).await;
        drop(held);
        let (served, waits) = match newest_first {
            true => (&mut newer, &mut older),
            false => (&mut older, &mut newer),
        };
        let permit = admitted(served);
        assert!(poll(waits).is_pending());
        drop(permit);
        drop(admitted(waits));
    }
}

/// Story: who joined while a queue stood for the last moments was refused for that when it had waited for as long as one may in a
/// queue that stands, though this one did so no more.
#[tokio::test(start_paused = true)]
async fn who_joined_while_a_queue_stood_waits_on_where_it_no_longer_does() {
    for (empty_for, stands) in [(millis(98), false), (millis(80), true)] {
        let (lanes, core, _held, waits) = standing(Codel::new()).await;
        drop(waits);
        advance(empty_for).await;
        let came = Instant::now();
        let mut wait = lanes.wait(core);
        assert!(poll(&mut wait).is_pending());
        assert_eq!(wait.until(), came + millis(10));
        advance(millis(10)).await;
        // Whether it stands is looked at anew where it is polled.
        assert!(wait.prolong(Instant::now()));
        let fate = stands.then_some(Reason::QueueDelay);
        assert_eq!(expelled(&mut wait), fate, "{empty_for:?}");
        if !stands {
            assert_eq!(wait.until(), came + Duration::from_secs(1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_no_longer_stands_is_as_before() {
    let (lanes, core, held, waits) = standing(Codel::new().adaptive_lifo()).await;
    drop((waits, held));
    advance(millis(100)).await;
    let held = lanes.take(core);
    let (mut first, mut second) = (lanes.wait(core), lanes.wait(core));
    assert_eq!(first.until() - Instant::now(), Duration::from_secs(1));
    drop(held);
    drop(admitted(&mut first));
    drop(admitted(&mut second));
}

/// A lane of one place whose requests take 50 ms.
async fn aware() -> (Lanes, LaneId) {
    let config = LaneConfig::new("core")
        .queue(10)
        .queue_timeout(Duration::from_secs(1))
        .deadline_aware(true);
    let (lanes, [core]) = lanes(1, [config]);
    for _ in 0..10 {
        let Entry::Admitted(permit) = lanes.enter(core, Instant::now()) else {
            panic!()
        };
        advance(millis(50)).await;
        drop(permit);
    }
    (lanes, core)
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_in_time_is_not_started() {
    let (lanes, core) = aware().await;
    let needed = lanes.core().time_needed.unwrap();
    assert!((millis(50)..millis(60)).contains(&needed), "{needed:?}");
    assert_eq!(reason(lanes.due_in(core, Duration::ZERO)), Reason::Deadline);
    // A place is free: nothing is foretold.
    let Entry::Admitted(held) = lanes.due_in(core, millis(20)) else {
        panic!()
    };
    assert_eq!(reason(lanes.due_in(core, millis(40))), Reason::Deadline);
    let wait = queued(lanes.due_in(core, millis(100)));
    assert_eq!(wait.until() - Instant::now(), millis(100) - needed);
    let mut late = queued(lanes.due_in(core, millis(80)));
    let mut later = queued(lanes.due_in(core, millis(200)));
    drop(wait);
    advance(millis(50)).await;
    // Its turn comes, and too late: it goes to the next one.
    drop(held);
    assert_eq!(expelled(&mut late), Some(Reason::Deadline));
    drop(admitted(&mut later));
    assert_eq!(lanes.core().rejected.deadline, 3);
    assert_eq!((lanes.in_flight(), lanes.core().queued), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn who_waits_gives_up_when_it_must_have_started() {
    let (lanes, core) = aware().await;
    let _held = lanes.take(core);
    let wait = queued(lanes.due_in(core, millis(100)));
    advance(wait.until() - Instant::now()).await;
    let refusal = wait.give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_beyond_its_deadline_in_any_lane() {
    // Story: a request that had two seconds for all waited for thirty in a lane without `deadline_aware`, and took a place then.
    let config = LaneConfig::new("core")
        .queue(2)
        .queue_timeout(Duration::from_secs(30));
    let (lanes, [core]) = lanes(1, [config]);
    let held = lanes.take(core);
    let wait = queued(lanes.due_in(core, Duration::from_secs(2)));
    let other = queued(lanes.due_in(core, Duration::from_secs(2)));
    assert_eq!(wait.until() - Instant::now(), Duration::from_secs(2));
    advance(Duration::from_secs(2)).await;
    let refusal = wait.give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::Deadline);
    // Nor is one started that is given a place in the last moment.
    drop(held);
    let refusal = other.give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::Deadline);
    assert_eq!((lanes.in_flight(), lanes.core().queued), (0, 0));
}

/// A lane of ten places whose requests took 10 s.
async fn was_slow() -> (Lanes, LaneId) {
    let config = LaneConfig::new("core")
        .queue(10)
        .queue_timeout(Duration::from_secs(60))
        .deadline_aware(true);
    let (lanes, [core]) = lanes(10, [config]);
    let slow: Vec<_> = (0..10).map(|_| lanes.enter(core, Instant::now())).collect();
    advance(Duration::from_secs(10)).await;
    drop(slow);
    (lanes, core)
}

#[tokio::test(start_paused = true)]
async fn a_forecast_that_nothing_has_confirmed_for_twenty_seconds_is_none() {
    // Story: after slow requests came ones that never ended, so nothing was measured: who came later was refused for a
    // forecast of long ago, though it had all the time in the world.
    let (lanes, core) = was_slow().await;
    let hang: Vec<_> = (0..10).map(|_| lanes.enter(core, Instant::now())).collect();
    let nine = || lanes.due_in(core, Duration::from_secs(9));
    advance(Duration::from_secs(20) - millis(1)).await;
    assert_eq!(reason(nine()), Reason::Deadline);
    assert!(lanes.core().time_needed.is_some());
    advance(millis(1)).await;
    assert_eq!(lanes.core().time_needed, None);
    let mut wait = queued(nine());
    // Nor is it expelled when its turn comes.
    drop(hang);
    drop(admitted(&mut wait));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_by_what_is_foretold_when_its_time_is_over() {
    // Story: who joined the queue while all was slow was refused long before its deadline, though nothing said any more that
    // requests take so long.
    let (lanes, core) = was_slow().await;
    let _hang: Vec<_> = (0..10).map(|_| lanes.enter(core, Instant::now())).collect();
    let seconds = Duration::from_secs;
    let came = Instant::now();
    let [mut soon, mut later, mut last] =
        [19, 40, 65].map(|s| queued(lanes.due_in(core, seconds(s))));
    let needed = lanes.core().time_needed.unwrap();
    assert_eq!(soon.until(), came + seconds(19) - needed);
    assert_eq!(later.until(), came + seconds(40) - needed);
    // The forecast is as it was.
    advance(seconds(19) - needed).await;
    assert!(!soon.prolong(Instant::now()));
    let refusal = soon.give_up(Instant::now()).unwrap_err();
    assert_eq!(refusal.reason(), Reason::Deadline);
    // There is none any more: the deadline itself counts, and the queue's timeout.
    advance(later.until() - Instant::now()).await;
    assert!(later.prolong(Instant::now()));
    assert_eq!(later.until(), came + seconds(40));
    assert!(last.prolong(last.until()));
    assert_eq!(last.until(), came + seconds(60));
    advance(last.until() - Instant::now()).await;
    for (mut wait, reason) in [(later, Reason::Deadline), (last, Reason::QueueTimeout)] {
        assert!(!wait.prolong(Instant::now()));
        assert_eq!(wait.give_up(Instant::now()).unwrap_err().reason(), reason);
    }
}

#[tokio::test(start_paused = true)]
async fn who_learns_of_its_place_after_its_deadline_is_not_started() {
    // Story: it had been given its place in time, and nobody had polled it since: it ran, for a client that had gone.
    for gives_up in [false, true] {
        let (lanes, core) = aware().await;
        let held = lanes.take(core);
        let admitted_before = lanes.core().admitted;
        let (mut late, mut next) = (queued(lanes.due_in(core, millis(100))), lanes.wait(core));
        drop(held);
        advance(millis(100)).await;
        assert!(poll(&mut next).is_pending());
        let reason = if gives_up {
            let refusal = late.give_up(Instant::now()).unwrap_err();
            Some(refusal.reason())
        } else {
            expelled(&mut late)
        };
        assert_eq!(reason, Some(Reason::Deadline));
        drop(admitted(&mut next));
        let core = lanes.core();
        assert_eq!((core.in_flight, core.queued), (0, 0));
        assert_eq!(
            (core.rejected.deadline, core.admitted),
            (1, admitted_before + 1)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_has_become_slow_is_not_closed_for_good() {
    // Nothing can be done in time any more; where a place is free it is tried, so that the lane learns when it can.
    let (lanes, core) = aware().await;
    for _ in 0..5 {
        assert!(matches!(lanes.due_in(core, millis(1)), Entry::Admitted(_)));
    }
}

#[test]
fn under_pressure_the_less_critical_are_shed() {
    let configs = [
        LaneConfig::new("logs").criticality(Sheddable),
        LaneConfig::new("core"),
        LaneConfig::new("auth").criticality(CriticalPlus),
    ];
    let (lanes, [logs, core, auth]) = lanes(10, configs);
    let pressure = lanes.pressure();
    drop(lanes.take(logs));
    pressure.set(Signal::Other, Load::Elevated);
    assert!(lanes.try_admit(logs).is_none());
    assert_eq!(lanes.refused(logs), Reason::Pressure);
    drop(lanes.take(core));
    // A request may be more critical than its lane, or less.
    let as_critical_as =
        |lane, criticality| lanes.enter(lane, Arrival::at(Instant::now()).criticality(criticality));
    assert!(matches!(as_critical_as(logs, Critical), Entry::Admitted(_)));
    assert_eq!(reason(as_critical_as(core, Sheddable)), Reason::Pressure);
    pressure.set(Signal::Other, Load::Extreme);
    assert_eq!(lanes.refused(core), Reason::Pressure);
    drop(lanes.take(auth));
    assert_eq!(lanes.snapshot().load, Load::Extreme);
    lanes.set_mode(Mode::Shadow);
    assert!(matches!(
        lanes.enter(logs, Instant::now()),
        Entry::Admitted(_)
    ));
    assert_eq!(lanes.snapshot().lanes[0].rejected.pressure, 2);
    lanes.set_mode(Mode::Enforce);
    pressure.set(Signal::Other, Load::Normal);
    drop(lanes.take(logs));
    assert_eq!(lanes.in_flight(), 0);
}

/// Story: a flood that found its queue full was refused under the lock by which all lanes hand out their places.
#[test]
fn who_finds_the_queue_full_is_refused_without_the_lock() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let _held = lanes.take(core);
    let _waiting = lanes.wait(core);
    let line = lock(&lanes.inner.line);
    let (tell, told) = std::sync::mpsc::channel();
    let other = {
        let lanes = lanes.clone();
        thread::spawn(move || {
            let Entry::Refused(refusal) = lanes.enter(core, Instant::now()) else {
                panic!()
            };
            _ = tell.send(refusal.reason());
        })
    };
    // Who needs the lock never says anything.
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Reason::QueueFull));
    drop(line);
    other.join().unwrap();
}
