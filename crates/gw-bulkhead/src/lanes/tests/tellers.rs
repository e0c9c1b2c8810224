//! What is left when the subscriber of log lines panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gw_core::key::Global;
use gw_testkit::Listener;
use tracing::subscriber;

use super::wakers::task;
use super::*;

fn breaks<T>(act: impl FnOnce() -> T) {
    let act = AssertUnwindSafe(act);
    let told = subscriber::with_default(Listener::panicking(), || catch_unwind(act).is_ok());
    assert!(!told);
}

/// Story: a request was refused and counted under its client until that was told, which it was not.
#[test]
fn a_refusal_that_cannot_be_told_holds_nothing() {
    let two = NonZeroU32::new(2).unwrap();
    let core = LaneConfig::new("core").per_key(Global, two);
    let (lanes, [core]) = lanes(1, [core]);
    let enter = |client| lanes.enter(core, Arrival::at(Instant::now()).key(lanes.key(client)));
    let _held = enter(1);
    breaks(|| enter(2));
    assert_eq!(lanes.core().per_key.unwrap().keys, 1);
}

/// Story: those who wait for the end of a drain were taken out to be woken, and then it was told first. Nobody woke them any more.
#[test]
fn a_drain_and_a_mode_that_cannot_be_told_hold_all_the_same() {
    let (lanes, [core]) = lanes(1, [LaneConfig::new("core").queue(1)]);
    let held = lanes.take(core);
    let mut waiting = lanes.wait(core);
    breaks(|| lanes.set_mode(Mode::Off));
    drop(admitted(&mut waiting));
    let mut drained = task(lanes.drained());
    drop(held);
    assert!(drained.poll().is_pending());
    breaks(|| lanes.drain());
    assert!(drained.is_woken() && drained.poll().is_ready());
}
