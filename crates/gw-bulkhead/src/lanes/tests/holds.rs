//! Places whose time is limited.

use std::future::poll_fn;

use tokio::time::Duration;

use super::wakers::task;
use super::*;

#[test]
fn a_hold_is_given_back_once_by_whoever_comes_first() {
    let config = LaneConfig::new("core").max_hold(Duration::from_secs(1));
    let (lanes, [core]) = lanes(2, [config]);
    let (start, second) = (Instant::now(), Duration::from_secs(1));
    let hold = |until| TimedPermit::new(Arc::new(lanes.take(core)), until);
    let (abandoned, kept) = (hold(start + second), hold(start + 2 * second));
    assert!(matches!(lanes.enter(core, start), Entry::Refused(_)));

    let Entry::Admitted(third) = lanes.enter(core, start + second) else {
        panic!()
    };
    assert_eq!(lanes.in_flight(), 2);
    // It was counted, and is not counted again when its holder finds out.
    let cut = || lanes.snapshot().lanes[0].rejected.max_hold;
    assert_eq!(cut(), 1);
    assert_eq!(abandoned.cut(start + second).reason(), Reason::MaxHold);
    assert_eq!(cut(), 1);
    // It was taken back, so its holder gives nothing back any more.
    assert!(abandoned.unlimited().is_none());
    assert_eq!(lanes.in_flight(), 2);
    drop(third);
    // Counted by its holder this time, and not again when the place is taken back.
    kept.cut(start + 2 * second);
    lanes.inner.reap(start + 2 * second);
    assert_eq!((cut(), lanes.in_flight()), (2, 0));
    drop(kept);
    assert_eq!(lanes.in_flight(), 0);
}

#[test]
fn holds_are_not_taken_back_in_shadow() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core")]);
    let now = Instant::now();
    let mut held = TimedPermit::new(Arc::new(lanes.take(core)), now);
    lanes.set_mode(Mode::Shadow);
    let Entry::Admitted(_second) = lanes.enter(core, now) else {
        panic!()
    };
    assert_eq!(lanes.in_flight(), 2);
    assert!(!held.is_over(now));
    drop(held);
    assert_eq!(lanes.in_flight(), 1);
}

/// Story: each request that waited, in whichever lane, was woken when any hold ended. With thousands of places and a thousand
/// that waited that was a million times a second.
#[tokio::test(start_paused = true)]
async fn holds_that_end_close_together_wake_who_waits_once() {
    let millis = Duration::from_millis;
    let core = LaneConfig::new("core").cap(0.01).queue(1);
    let (lanes, [core, logs]) = lanes(100, [core, LaneConfig::new("logs")]);
    let start = Instant::now();
    let _held = lanes.take(core);
    let mut reaper = lanes.wait(core).reaper();
    let hold = |after| TimedPermit::new(Arc::new(lanes.take(logs)), start + millis(after));
    let holds: Vec<_> = (1001..=1050).map(hold).collect();
    let mut looks = 0;
    poll_fn(|cx| {
        looks += 1;
        reaper.poll(cx, Some(start + millis(2000)))
    })
    .await;
    // At first, three times 20 ms from the first end on, and at the end.
    assert!(looks <= 6, "{looks}");
    assert_eq!(lanes.in_flight(), 1);
    drop(holds);
    // Nor does one that comes wake anybody who looks soon after its end.
    let _first = hold(5000);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reaper.poll(&mut cx, None).is_pending());
    for (after, woken) in [(4990, false), (4970, true)] {
        let mut look = task(poll_fn(|cx| reaper.poll(cx, None)));
        assert!(look.poll().is_pending());
        let _earlier = hold(after);
        assert_eq!(look.is_woken(), woken, "{after}");
    }
}
