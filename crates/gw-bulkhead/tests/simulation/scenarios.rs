//! What is asserted by the tests and drawn by the example.

use gw_bulkhead::limit::{Adaptive, Gradient2, Limit};

use super::published::PublishedGradient2;
use super::{Scenario, Schedule};

pub(crate) fn gradient2() -> Adaptive {
    Limit::adaptive(Gradient2::default()).min(4).max(2000)
}

pub(crate) fn published() -> Adaptive {
    Limit::adaptive(PublishedGradient2::default())
        .min(4)
        .max(2000)
}

/// 40 workers, then 10, then 60, for five minutes each, under twice the load that 40 can serve.
pub(crate) fn capacity() -> Scenario {
    let mut scenario = Scenario::of_load(2.0, 900.0);
    scenario.workers = Schedule::always(40.0).then(300.0, 10.0).then(600.0, 60.0);
    scenario
}

/// Nobody answers for 200 of 600 seconds, and a request is given up after one.
pub(crate) fn hang() -> Scenario {
    let mut scenario = Scenario::of_load(2.0, 600.0);
    scenario.workers = Schedule::always(40.0).then(200.0, 0.0).then(400.0, 40.0);
    // The same latency, whatever the limit: what a naive look takes for no queue at all.
    scenario.timeout = Some(1.0);
    scenario
}

/// Three times what can be served, for the first ten seconds of each minute but the first one; else half of it.
pub(crate) fn bursts(minutes: u32) -> Scenario {
    let mut scenario = Scenario::of_load(0.5, f64::from(minutes) * 60.0);
    for minute in 1..minutes {
        let at = f64::from(minute) * 60.0;
        scenario.load = scenario.load.then(at, 1200.0).then(at + 10.0, 200.0);
    }
    scenario
}
