//! The lag of a real runtime. Without an upper bound on any time: only what must come to pass sooner or later is waited for.

use std::time::Duration;

use gw_bulkhead::{LagThresholds, Load, Pressure, Signal};
use tokio::time::{Instant, sleep, timeout};

/// Computes on the runtime's only thread, in pieces between which other tasks come by.
async fn compute_until(done: impl Fn() -> bool) {
    while !done() {
        let piece = Instant::now();
        while piece.elapsed() < Duration::from_millis(60) {
            std::hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_runtime_that_computes_all_the_time_is_seen_and_one_that_stops_as_well() {
    let pressure = Pressure::default();
    let millis = Duration::from_millis;
    // A piece makes the watch, which sleeps for a third of it, late by more than this. Where nobody computes, a busy machine
    // lets it sleep for less than half of this too long, many times in a row.
    let thresholds = LagThresholds::at(millis(30), millis(4_000), millis(8_000)).unwrap();
    let watching = tokio::spawn(pressure.watch_lag(thresholds));
    let load = || pressure.load_by(Signal::Lag);
    let patience = Duration::from_secs(60);
    let work = compute_until(|| load() == Load::Elevated);
    assert!(timeout(patience, work).await.is_ok(), "not seen");
    let rest = async {
        while load() != Load::Normal {
            sleep(millis(5)).await;
        }
    };
    assert!(timeout(patience, rest).await.is_ok(), "seen for ever");
    drop(pressure);
    assert!(timeout(patience, watching).await.is_ok(), "goes on");
}
