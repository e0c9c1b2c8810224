//! All interleavings of those who change the word and count under it. Run with `RUSTFLAGS="--cfg loom"`.

use std::time::Duration;

use gw_core::awaited::Awaited;
use gw_core::classify::Outcome;
use loom::thread;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::breaker::{Breaker, Ended};
use crate::config::{BreakerConfig, HalfOpen, Jitter, OpenTime, Window};
use crate::state::State;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> BreakerConfig {
    BreakerConfig::without_policies()
        .open_time(OpenTime::exponential(SECOND, 8 * SECOND).jitter(Jitter::None))
        .half_open(HalfOpen::probes(1).successes(1))
        .ramp(Duration::ZERO)
}

fn breaker(config: &BreakerConfig) -> Breaker {
    Breaker::new("orders", config).unwrap()
}

fn ends(admission: Admission, outcome: Outcome, now: Instant) {
    admission.record(Ended::with(outcome), now);
}

/// Runs it in two threads.
fn twice(breaker: &Breaker, run: fn(&Breaker, Instant) -> usize, now: Instant) -> usize {
    let other = {
        let breaker = breaker.clone();
        thread::spawn(move || run(&breaker, now))
    };
    run(breaker, now) + other.join().unwrap()
}

#[test]
fn failures_at_the_same_moment_open_it_once() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(&config().consecutive_failures(1));
        let fail = |breaker: &Breaker, now| match breaker.admit(now) {
            Ok(admission) => {
                ends(admission, Outcome::Failure, now);
                1
            }
            Err(_) => 0,
        };
        assert!(twice(&breaker, fail, now) >= 1);
        let snapshot = breaker.snapshot(now);
        assert_eq!((snapshot.state, snapshot.opened), (State::Open, 1));
        assert_eq!(breaker.subscribe().state(), State::Open);
    });
}

#[test]
fn one_of_two_has_the_probe() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(&config().consecutive_failures(1));
        ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
        let later = now + 2 * SECOND;
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.admit(later))
        };
        let mine = breaker.admit(later);
        let others = other.join().unwrap();
        assert_eq!(usize::from(mine.is_ok()) + usize::from(others.is_ok()), 1);
        assert_eq!(breaker.snapshot(later).probes, 1);
    });
}

#[test]
fn a_probe_that_is_dropped_and_one_that_ends_leave_no_slot_taken() {
    loom::model(|| {
        let now = Instant::now();
        let later = now + 2 * SECOND;
        let half_open = HalfOpen::probes(2).successes(2);
        let breaker = breaker(&config().consecutive_failures(1).half_open(half_open));
        ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
        let (lost, kept) = (breaker.admit(later).unwrap(), breaker.admit(later).unwrap());
        let other = thread::spawn(move || drop(lost));
        ends(kept, Outcome::Success, later);
        other.join().unwrap();
        let snapshot = breaker.snapshot(later);
        assert_eq!((snapshot.probes, snapshot.probes_succeeded), (0, 1));
        assert!(breaker.admit(later).is_ok());
    });
}

/// Half-open with room for two probes, which are waited for ten seconds.
fn probing(now: Instant) -> (Breaker, Instant) {
    let half_open = HalfOpen::probes(2).successes(2).max_wait(10 * SECOND);
    let breaker = breaker(&config().consecutive_failures(1).half_open(half_open));
    ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
    (breaker, now + 2 * SECOND)
}

/// A probe whose client is waited for.
fn uploading(breaker: &Breaker, now: Instant) -> Admission {
    let mut probe = breaker.admit(now).unwrap();
    let awaited = Awaited::new(now);
    awaited.pauses();
    probe.follow(&awaited);
    probe
}

/// Story: it was put aside after it had asked where it counts and before it said what had become of it, which so counted nowhere.
#[test]
fn a_probe_that_is_put_aside_while_it_ends_is_heard() {
    loom::model(|| {
        let (breaker, probed) = probing(Instant::now());
        let probe = uploading(&breaker, probed);
        let later = probed + 11 * SECOND;
        let other = thread::spawn(move || ends(probe, Outcome::Failure, later));
        // Another one has its slot, or it was too late for that.
        drop(breaker.admit(later));
        other.join().unwrap();
        assert_eq!(breaker.state(later), State::Open);
    });
}

/// Story: one that had ended was taken for one of those that are under way still, and for a moment there were enough of them who wait
/// for their clients: what waited for the upstream was put aside.
#[test]
fn a_probe_that_has_ended_speaks_for_no_other() {
    loom::model(|| {
        let (breaker, probed) = probing(Instant::now());
        let probe = uploading(&breaker, probed);
        let _late = breaker.admit(probed).unwrap();
        let other = thread::spawn(move || ends(probe, Outcome::Ignored, probed));
        let later = probed + 11 * SECOND;
        assert!(breaker.admit(later).is_err());
        other.join().unwrap();
        assert_eq!(breaker.state(later), State::Open);
    });
}

#[test]
fn a_window_loses_no_call_and_counts_none_twice() {
    for window in [Window::Calls(2), Window::Time(10 * SECOND)] {
        loom::model(move || {
            let now = Instant::now();
            let breaker = breaker(&config().window(window).min_calls(2).failure_rate(1.0));
            let other = {
                let breaker = breaker.clone();
                thread::spawn(move || ends(breaker.admit(now).unwrap(), Outcome::Success, now))
            };
            ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
            other.join().unwrap();
            let snapshot = breaker.snapshot(now);
            assert_eq!((snapshot.calls, snapshot.failed), (2, 1));
            assert_eq!(snapshot.state, State::Closed);
        });
    }
}

#[test]
fn a_rate_does_not_open_before_its_least_number_of_calls() {
    for window in [Window::Calls(4), Window::Time(10 * SECOND)] {
        loom::model(move || {
            let now = Instant::now();
            let breaker = breaker(&config().window(window).min_calls(3).failure_rate(0.5));
            let fail = |breaker: &Breaker, now| {
                ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
                1
            };
            twice(&breaker, fail, now);
            assert_eq!(breaker.snapshot(now).state, State::Closed);
            ends(breaker.admit(now).unwrap(), Outcome::Failure, now);
            assert_eq!(breaker.snapshot(now).state, State::Open);
        });
    }
}

#[test]
fn what_comes_late_counts_for_no_other_generation() {
    loom::model(|| {
        let now = Instant::now();
        let window = Window::Calls(2);
        let config = config().consecutive_failures(1).failure_rate(1.0);
        let breaker = breaker(&config.window(window).min_calls(2));
        let late = breaker.admit(now).unwrap();
        let other = thread::spawn(move || ends(late, Outcome::Failure, now));
        breaker.reset(now);
        ends(breaker.admit(now).unwrap(), Outcome::Success, now);
        other.join().unwrap();
        // It opened what was reset, or nothing.
        assert_eq!(breaker.snapshot(now).state, State::Closed);
        let snapshot = breaker.snapshot(now);
        assert_eq!(
            (
                snapshot.calls,
                snapshot.failed,
                snapshot.consecutive_failures
            ),
            (1, 0, 0)
        );
    });
}

#[test]
fn who_asks_while_it_is_configured_is_answered() {
    loom::model(|| {
        let now = Instant::now();
        let breaker = breaker(&config().consecutive_failures(1));
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || match breaker.admit(now) {
                Ok(admission) => ends(admission, Outcome::Failure, now),
                Err(_) => panic!("nothing has failed yet"),
            })
        };
        breaker
            .reconfigure(&config().consecutive_failures(2), now)
            .unwrap();
        other.join().unwrap();
        let snapshot = breaker.snapshot(now);
        // Before: it opened, and stays so. In between: it counts for nobody. After: one of two.
        match snapshot.state {
            State::Open => {}
            State::Closed => assert!(snapshot.consecutive_failures <= 1),
            other => panic!("{other:?}"),
        }
    });
}
