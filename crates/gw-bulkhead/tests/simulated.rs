//! Limits that are found, against a simulated server, in virtual time. The bands in here are the ones that
//! `docs/adaptive-limits.md` states.
//!
//! Unless it is said otherwise the server has 40 workers of 100 ms each: it answers 400 requests a second, and 40 in flight
//! keep it busy. With its tolerance of 1.5, 60 is where the limit belongs under overload.
#![allow(clippy::unwrap_used, reason = "a test")]

mod simulation;

use gw_bulkhead::limit::{Aimd, Limit};
use simulation::scenarios::{bursts, capacity, gradient2, hang, published};
use simulation::{Scenario, Schedule};

const MINUTE: usize = 60;
const HOUR: usize = 60 * MINUTE;

#[track_caller]
fn assert_within(what: &str, value: f64, least: f64, most: f64) {
    assert!(
        (least..=most).contains(&value),
        "{what} is {value:.3}, not within {least} and {most}"
    );
}

#[test]
fn each_run_is_the_same() {
    let scenario = Scenario::of_load(2.0, 60.0);
    let limits = || {
        let trace = scenario.run(gradient2());
        trace
            .0
            .into_iter()
            .map(|second| (second.limit, second.answered))
    };
    assert!(limits().eq(limits()));
}

#[test]
fn overload_for_hours_does_not_move_it() {
    let trace = Scenario::of_load(2.0, 4.0 * HOUR as f64).run(gradient2());
    for start in (MINUTE..4 * HOUR).step_by(5 * MINUTE) {
        let part = trace.between(start, (start + 5 * MINUTE).min(trace.0.len()));
        assert_within("the limit", part.limit(), 48.0, 72.0);
        assert_within("throughput", part.throughput(), 0.97 * 400.0, 1.03 * 400.0);
        assert_within("latency", part.latency(), 0.12, 0.18);
        assert_within("the baseline", part.greatest_baseline(), 0.08, 0.125);
    }
}

#[test]
fn what_was_published_drifts() {
    let trace = Scenario::of_load(2.0, HOUR as f64).run(published());
    let end = trace.between(HOUR - MINUTE, HOUR - 1);
    // As much is answered, but each answer takes twenty times as long.
    assert!(end.limit() > 800.0, "{}", end.limit());
    assert!(end.latency() > 2.0, "{}", end.latency());
}

#[test]
fn follows_the_capacity() {
    let trace = capacity().run(gradient2());
    for (from, to, workers) in [(30, 300, 40.0), (330, 600, 10.0), (630, 899, 60.0)] {
        let part = trace.between(from, to);
        assert_within("the limit", part.limit(), 1.2 * workers, 1.8 * workers);
        let answered = 10.0 * workers;
        assert_within(
            "throughput",
            part.throughput(),
            0.94 * answered,
            1.04 * answered,
        );
        assert_within("latency", part.latency(), 0.11, 0.19);
    }
}

#[test]
fn a_start_under_overload_is_seen_through() {
    // Ten times what can be served, from the first moment.
    let trace = Scenario::of_load(2.0, 600.0).run(gradient2().initial(400));
    let part = trace.between(60, 599);
    assert_within("the limit", part.limit(), 48.0, 72.0);
    assert_within("the baseline", part.greatest_baseline(), 0.08, 0.125);
}

#[test]
fn a_slow_backend_is_not_taken_for_a_queue_nor_for_normal_under_load() {
    // Each request takes ten times as long from now on; 40 of them are still served at once. Half an hour later there is
    // little to do for an hour, and then as much as before.
    let mut scenario = Scenario::of_load(2.0, 2.5 * HOUR as f64);
    scenario.work = Schedule::always(0.1).then(300.0, 1.0);
    let (calm, busy) = (2100, 2100 + HOUR);
    scenario.load = scenario.load.then(calm as f64, 4.0).then(busy as f64, 80.0);
    let trace = scenario.run(gradient2());
    // No collapse: the limit is halved at most, what that serves is served, and it is taken back as it is seen to have been for
    // nothing. Of 40 answers a second:
    for start in (330..calm - MINUTE).step_by(MINUTE) {
        let part = trace.between(start, start + MINUTE);
        assert_within("throughput", part.throughput(), 0.75 * 40.0, 1.1 * 40.0);
        assert_within("the baseline", part.greatest_baseline(), 0.08, 0.125);
    }
    let held = trace.between(600, calm - 1);
    assert_within("throughput", held.throughput(), 0.92 * 40.0, 1.05 * 40.0);
    assert_within("latency", held.latency(), 0.95, 1.3);
    // Where nobody queues it is learnt, not sooner than by a doubling in five minutes.
    for minutes in 0..15 {
        let doublings = f64::from(minutes + 1) / 5.0;
        let from = calm + minutes as usize * MINUTE;
        let baseline = trace.between(from, from + MINUTE).greatest_baseline();
        assert_within("the baseline", baseline, 0.08, 0.125 * doublings.exp2());
    }
    let end = trace.between(busy + 120, 9000 - 1);
    assert_within("the limit", end.limit(), 45.0, 78.0);
    assert_within("throughput", end.throughput(), 0.9 * 40.0, 1.05 * 40.0);
}

#[test]
fn lanes_that_share_a_server_do_not_learn_one_anothers_queue() {
    // A probe of one lane sees the queue of the other, however few requests of its own are left.
    for lanes in [2, 4] {
        let mut scenario = Scenario::of_load(2.0, HOUR as f64);
        scenario.lanes = lanes;
        let trace = scenario.run(gradient2());
        for start in (5 * MINUTE..HOUR - 5 * MINUTE).step_by(5 * MINUTE) {
            let part = trace.between(start, start + 5 * MINUTE);
            assert_within("the limits", part.limit(), 48.0, 100.0);
            assert_within("throughput", part.throughput(), 0.97 * 400.0, 1.03 * 400.0);
            assert_within("latency", part.latency(), 0.12, 0.25);
            let fair = 400.0 / lanes as f64;
            for lane in 0..lanes {
                assert_within(
                    "a lane's share",
                    part.throughput_of(lane),
                    0.3 * fair,
                    2.0 * fair,
                );
            }
        }
    }
}

#[test]
fn a_slow_backend_with_room_to_spare_refuses_nobody() {
    let mut scenario = Scenario::of_load(0.05, 1200.0);
    scenario.work = Schedule::always(0.1).then(300.0, 1.0);
    // 20 in flight then, on average.
    let trace = scenario.run(gradient2().initial(100));
    let refused: u32 = trace.0.iter().map(|second| second.refused).sum();
    assert_eq!(refused, 0);
}

#[test]
fn bursts_are_served_as_far_as_they_can_be() {
    let trace = bursts(20).run(gradient2());
    for minute in 2..20 {
        let burst = trace.between(minute * MINUTE + 1, minute * MINUTE + 10);
        assert_within("throughput", burst.throughput(), 0.9 * 400.0, 1.1 * 400.0);
        assert_within("latency", burst.latency(), 0.1, 0.3);
        let rest = trace.between(minute * MINUTE + 15, minute * MINUTE + 59);
        assert_within("throughput", rest.throughput(), 0.95 * 200.0, 1.05 * 200.0);
        assert_within("latency", rest.latency(), 0.09, 0.12);
    }
}

#[test]
fn a_server_that_hangs_gets_the_least_and_comes_back() {
    let trace = hang().run(gradient2());
    let hangs = trace.between(260, 400);
    assert_eq!((hangs.least_limit(), hangs.greatest_limit()), (4, 4));
    let after = trace.between(430, 599);
    assert_within("the limit", after.limit(), 48.0, 72.0);
    assert_within("throughput", after.throughput(), 0.97 * 400.0, 1.03 * 400.0);
}

#[test]
fn what_always_fails_now_and_then_does_not_matter() {
    // One request in 150 or so takes for ever.
    let mut scenario = Scenario::of_load(2.0, 1200.0);
    scenario.hangs = 1.0 / 150.0;
    scenario.timeout = Some(1.0);
    let trace = scenario.run(gradient2());
    let part = trace.between(60, 1199);
    assert!(part.drops() > 0.0);
    assert_within("throughput", part.throughput(), 0.85 * 400.0, 1.03 * 400.0);
}

#[test]
fn little_servers_with_little_to_do() {
    // Four workers of a second each: a hundred samples take half a minute.
    let mut scenario = Scenario::of_load(1.0, 2.0 * HOUR as f64);
    scenario.workers = Schedule::always(4.0);
    scenario.work = Schedule::always(1.0);
    scenario.load = Schedule::always(8.0);
    scenario.spread = 1.0;
    let trace = scenario.run(gradient2());
    for start in (10 * MINUTE..2 * HOUR - 10 * MINUTE).step_by(10 * MINUTE) {
        let part = trace.between(start, start + 10 * MINUTE);
        assert_within("the limit", part.limit(), 4.0, 12.0);
        assert_within("throughput", part.throughput(), 0.85 * 4.0, 1.15 * 4.0);
    }
}

#[test]
fn times_that_differ_much_or_not_at_all() {
    for spread in [0.0, 1.0] {
        let mut scenario = Scenario::of_load(2.0, HOUR as f64);
        scenario.spread = spread;
        let trace = scenario.run(gradient2());
        for start in (MINUTE..HOUR - 5 * MINUTE).step_by(5 * MINUTE) {
            let part = trace.between(start, start + 5 * MINUTE);
            assert_within("the limit", part.limit(), 42.0, 80.0);
            assert_within("throughput", part.throughput(), 0.95 * 400.0, 1.03 * 400.0);
        }
    }
}

#[test]
fn load_that_can_be_served_is() {
    for load in [0.3, 0.8, 0.95] {
        let trace = Scenario::of_load(load, 1800.0).run(gradient2());
        let part = trace.between(30, 1799);
        let asked = 400.0 * load;
        assert_within("throughput", part.throughput(), 0.99 * asked, 1.01 * asked);
    }
}

#[test]
fn aimd_holds_a_latency_that_is_known() {
    let aimd = || {
        let aimd = Aimd::default().latency(std::time::Duration::from_millis(150));
        Limit::adaptive(aimd).min(4).max(2000)
    };
    let trace = capacity().run(aimd());
    for (from, to, workers) in [(30, 300, 40.0), (330, 600, 10.0), (630, 899, 60.0)] {
        let part = trace.between(from, to);
        assert_within("the limit", part.limit(), workers, 1.6 * workers);
        let answered = 10.0 * workers;
        assert_within(
            "throughput",
            part.throughput(),
            0.94 * answered,
            1.04 * answered,
        );
    }
}
