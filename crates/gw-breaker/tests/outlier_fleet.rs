//! What is promised of a simulated fleet; `docs/outlier-ejection.md` shows it. Everything is seeded.
#![allow(clippy::unwrap_used, reason = "a test")]

mod fleet;

use std::time::Duration;

use fleet::{Behaviour, Fault, Scenario, Trace};
use gw_breaker::outlier::Reason;

const DAY: f64 = 86_400.0;

/// A fault that begins in the middle of an interval, a minute in.
const BEGIN: f64 = 63.0;

/// The first endpoint, and nobody else, within three intervals.
fn assert_found(trace: &Trace, reasons: &[Reason]) {
    let first = trace.ejections.first().copied().unwrap();
    assert_eq!(first.endpoint, 0);
    assert!(reasons.contains(&first.reason), "{first:?}");
    assert!((BEGIN..=BEGIN + 30.0).contains(&first.at), "{first:?}");
    for ejection in &trace.ejections {
        assert_eq!(ejection.endpoint, 0, "{ejection:?}");
    }
}

#[test]
fn one_that_fails_a_fifth_is_found_within_three_intervals() {
    for (endpoints, seeds) in [(3, 10), (10, 10), (100, 1)] {
        for seed in 0..seeds {
            let scenario = Scenario::of(endpoints, 120.0).grey(BEGIN, 0.2, 1.0);
            let trace = scenario.seed(seed).run();
            assert_found(&trace, &[Reason::FailureRate, Reason::Consecutive]);
        }
    }
}

#[test]
fn so_is_one_in_a_fleet_where_one_in_a_hundred_fails_anyway() {
    for (endpoints, seeds) in [(10, 10), (100, 1)] {
        for seed in 0..seeds {
            let mut scenario = Scenario::of(endpoints, 120.0).grey(BEGIN, 0.2, 1.0);
            scenario.errors = 0.01;
            let trace = scenario.seed(seed).run();
            assert_found(&trace, &[Reason::FailureRate, Reason::Consecutive]);
        }
    }
}

#[test]
fn one_that_takes_five_times_as_long_is_found_within_three_intervals() {
    for (endpoints, seeds) in [(3, 10), (10, 10), (100, 1)] {
        for seed in 0..seeds {
            let scenario = Scenario::of(endpoints, 120.0).grey(BEGIN, 0.005, 5.0);
            assert_found(&scenario.seed(seed).run(), &[Reason::Latency]);
        }
    }
}

#[test]
fn one_that_is_dead_is_out_within_a_second() {
    for seed in 0..20 {
        let scenario = Scenario::of(10, 70.0).grey(BEGIN, 1.0, 0.01);
        let trace = scenario.seed(seed).run();
        assert_found(&trace, &[Reason::Consecutive]);
        assert!(trace.ejections[0].at <= BEGIN + 2.0);
    }
}

/// As long as the fault lasts it gets little, and when it is over all.
#[test]
fn it_gets_a_tenth_while_it_fails_and_all_when_it_is_well() {
    let mut scenario = Scenario::of(10, 3600.0).grey(BEGIN, 0.2, 1.0);
    scenario.faults[0].until = 2400.0;
    let trace = scenario.run();
    let share = |from: usize, until: usize| {
        let seconds = &trace.seconds[from..until];
        let all: u32 = seconds.iter().map(|second| second.requests).sum();
        let first: u32 = seconds.iter().map(|second| second.first).sum();
        f64::from(first) / f64::from(all) / 0.1
    };
    assert!(share(90, 2400) < 0.2, "{}", share(90, 2400));
    // At most the longest ejection later.
    assert!(share(2740, 3600) > 0.95, "{}", share(2740, 3600));
    assert!(
        trace
            .ejections
            .iter()
            .all(|ejection| ejection.endpoint == 0)
    );
}

#[test]
fn what_all_have_in_common_ejects_nobody() {
    let mut scenario = Scenario::of(10, 1200.0);
    let all = |from, errors, slow| Fault {
        endpoint: None,
        from,
        until: from + 200.0,
        behaviour: Behaviour { errors, slow },
    };
    scenario.faults = vec![
        all(100.0, 0.08, 1.0),
        all(500.0, 0.005, 10.0),
        all(900.0, 0.005, 0.1),
    ];
    assert_eq!(scenario.run().ejections, []);
}

/// To be done in seconds without optimisation: 200 requests in an interval of 20 s for each, by night a quarter of that.
/// The example has them in 10 s.
#[test]
fn in_a_day_of_noise_none_of_ten_is_ejected() {
    let mut scenario = Scenario::of(10, DAY);
    scenario.tide = 0.75;
    scenario.load = 10.0;
    scenario.interval = Duration::from_secs(20);
    let trace = scenario.run();
    assert_eq!(trace.ejections, []);
    assert!(trace.requests > 5_000_000, "{}", trace.requests);
    assert!(trace.published > 1000, "{}", trace.published);
}

/// As above, 140 requests in an interval of 200 s for each; the example has 200 in 10 s.
#[test]
fn in_a_day_of_noise_none_of_a_hundred_is_ejected() {
    let mut scenario = Scenario::of(100, DAY);
    scenario.load = 0.7;
    scenario.interval = Duration::from_secs(200);
    let trace = scenario.run();
    assert_eq!(trace.ejections, []);
    assert!(trace.requests > 6_000_000, "{}", trace.requests);
    assert!(trace.published > 1000, "{}", trace.published);
}
