//! Places whose time is limited.

use tokio::time::Duration;

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
