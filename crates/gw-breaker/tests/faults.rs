//! Faults that circuit breakers are known to have, one by one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::time::Duration;

use gw_breaker::{
    Admission, Breaker, BreakerConfig, Ended, HalfOpen, Jitter, OpenTime, Outcome, State, Window,
};
use gw_testkit::gw_core::context::Deadline;
use http::Request;
use support::{Act, SECOND, World, config, is_refused};
use tokio::time::{Instant, advance, timeout};

/// Changes within one millisecond are put down one after the other.
const MOMENT: Duration = Duration::from_millis(5);

/// After any breaker of the test is made.
fn begin() -> Instant {
    Instant::now() + SECOND
}

fn breaker(config: BreakerConfig) -> Breaker {
    Breaker::new("orders", &config).unwrap()
}

/// Opens if half of what the window holds failed, from 20 calls on.
fn rated(window: Window) -> Breaker {
    let config = BreakerConfig::without_policies().window(window);
    breaker(config.min_calls(20).failure_rate(0.5))
}

fn ends(breaker: &Breaker, now: Instant, outcome: Outcome) {
    breaker
        .admit(now)
        .unwrap()
        .record(Ended::with(outcome), now);
}

fn opened(config: BreakerConfig, now: Instant) -> Breaker {
    let breaker = breaker(config);
    for _ in 0..3 {
        ends(&breaker, now, Outcome::Failure);
    }
    assert_eq!(breaker.state(now), State::Open);
    breaker
}

/// Story: a count window that only grew needed as many failures in a row as there had been successes since the start.
#[test]
fn a_count_window_evicts() {
    for length in [100, 1_000] {
        let (breaker, now) = (rated(Window::Calls(length)), begin());
        for _ in 0..10_000 {
            ends(&breaker, now, Outcome::Success);
        }
        for failures in 1..=length / 2 {
            assert_eq!(breaker.state(now), State::Closed, "{failures} of {length}");
            ends(&breaker, now, Outcome::Failure);
        }
        assert_eq!(breaker.state(now), State::Open);
    }
}

/// Story: a window that had to be full before it was looked at kept a dead upstream in use for a hundred calls.
#[test]
fn a_rate_means_something_from_the_least_number_of_calls_on_and_not_before() {
    for window in [Window::Calls(100), Window::Time(10 * SECOND)] {
        let (breaker, now) = (rated(window), begin());
        for calls in 0..20 {
            assert_eq!(breaker.state(now), State::Closed, "after {calls}");
            ends(&breaker, now, Outcome::Failure);
        }
        assert_eq!(breaker.state(now), State::Open);
    }
}

/// Story: probes that expired from a window, or whose callers left, held their slots for good: six days, in one case.
#[test]
fn lost_probes_do_not_wedge_it() {
    let config = config().half_open(HalfOpen::probes(2).successes(2).max_wait(10 * SECOND));
    let mut now = begin();
    let breaker = opened(config, now);
    for _ in 0..100 {
        now += breaker.snapshot(now).open_for.unwrap();
        // Two pass, and no more, however often it is asked.
        let probes: Vec<Admission> = (0..10).filter_map(|_| breaker.admit(now).ok()).collect();
        assert_eq!(probes.len(), 2);
        drop(probes);
        // Their slots are free at once.
        let probes: Vec<Admission> = (0..10).filter_map(|_| breaker.admit(now).ok()).collect();
        assert_eq!(probes.len(), 2);
        // These never come back.
        std::mem::forget(probes);
        assert!(breaker.admit(now + 9 * SECOND).is_err());
        now += 10 * SECOND;
        assert_eq!(breaker.state(now), State::Open);
    }
    now += breaker.snapshot(now).open_for.unwrap();
    ends(&breaker, now, Outcome::Success);
    // There may be an hour between two probes.
    now += 3600 * SECOND;
    ends(&breaker, now, Outcome::Success);
    assert_eq!(breaker.state(now), State::Closed);
}

/// Story: of five probes that were allowed at the same time only three passed, because three had to succeed. One that hung was a
/// third of what could close it.
#[test]
fn as_many_probes_pass_as_are_allowed() {
    let mut now = begin();
    let breaker = opened(config().half_open(HalfOpen::probes(5)), now);
    now += 10 * SECOND;
    let mut probes: Vec<Admission> = (0..10).filter_map(|_| breaker.admit(now).ok()).collect();
    assert_eq!(probes.len(), 5);
    // Two hang, the others close it.
    for probe in probes.drain(..3) {
        assert_eq!(breaker.state(now), State::HalfOpen);
        probe.record(Ended::with(Outcome::Success), now);
    }
    assert_eq!(breaker.state(now), State::Closed);
}

/// All that the word has room for.
#[test]
fn the_most_probes_and_successes_are_told_apart() {
    let mut now = begin();
    let breaker = opened(config().half_open(HalfOpen::probes(31).successes(31)), now);
    now += 10 * SECOND;
    let admit = || -> Vec<Admission> { (0..40).filter_map(|_| breaker.admit(now).ok()).collect() };
    let mut probes = admit();
    assert_eq!(probes.len(), 31);
    for probe in probes.drain(..30) {
        probe.record(Ended::with(Outcome::Success), now);
    }
    probes.extend(admit());
    let counts = || {
        let snapshot = breaker.snapshot(now);
        (snapshot.state, snapshot.probes, snapshot.probes_succeeded)
    };
    assert_eq!(counts(), (State::HalfOpen, 31, 30));
    for probe in &mut probes {
        probe.answered(now);
        assert_eq!(counts(), (State::HalfOpen, 31, 30));
    }
    drop(probes.split_off(1));
    assert_eq!(counts(), (State::HalfOpen, 1, 30));
    for last in probes {
        last.record(Ended::with(Outcome::Success), now);
    }
    assert_eq!(breaker.state(now), State::Closed);
}

/// Story: the time for all probes together was bounded. An upstream whose answers took longer than a part of it was never called
/// again; and where calls were few, the breaker opened again though each probe had succeeded.
#[test]
fn a_slow_upstream_proves_itself_one_probe_after_the_other() {
    let mut now = begin();
    let half_open = HalfOpen::probes(1).successes(3).max_wait(10 * SECOND);
    let breaker = opened(config().half_open(half_open), now);
    now += 10 * SECOND;
    for succeeded in 0..3 {
        assert_eq!(breaker.snapshot(now).probes_succeeded, succeeded);
        let probe = breaker.admit(now).unwrap();
        assert!(breaker.admit(now + 6 * SECOND).is_err());
        now += 9 * SECOND;
        probe.record(Ended::with(Outcome::Success), now);
    }
    assert_eq!(breaker.state(now), State::Closed);

    // One that hangs opens it again as long after the last success as it may take.
    now += MOMENT;
    for _ in 0..3 {
        ends(&breaker, now, Outcome::Failure);
    }
    now += 20 * SECOND + MOMENT;
    ends(&breaker, now, Outcome::Success);
    let _hangs = breaker.admit(now + 5 * SECOND).unwrap();
    assert_eq!(breaker.state(now + 9 * SECOND), State::HalfOpen);
    assert_eq!(breaker.state(now + 10 * SECOND + MOMENT), State::Open);
}

/// Story: what bounds the wait for a head bounded streams as well. Where calls may take minutes, one quiet stream as the probe kept
/// all others away for so long.
#[test]
fn a_stream_is_not_waited_for_as_long_as_a_head() {
    let mut now = begin();
    let half_open = HalfOpen::probes(1).successes(2).max_wait(600 * SECOND);
    let config = config().half_open(half_open).ramp(10 * SECOND);
    let breaker = opened(config, now);
    now += 10 * SECOND;
    let mut quiet = breaker.admit(now).unwrap();
    quiet.answered(now + SECOND);
    assert!(breaker.admit(now + 10 * SECOND - MOMENT).is_err());
    now += 10 * SECOND + MOMENT;
    let mut slow = breaker.admit(now).unwrap();
    assert_eq!(breaker.snapshot(now).probes_succeeded, 1);
    // A head that comes later than that is proof when it comes, and not before.
    now += 300 * SECOND;
    assert_eq!(breaker.state(now), State::HalfOpen);
    slow.answered(now);
    assert_eq!(breaker.state(now + MOMENT), State::Ramping);
    assert_eq!(breaker.state(now + 10 * SECOND - MOMENT), State::Ramping);
    assert_eq!(breaker.state(now + 10 * SECOND + MOMENT), State::Closed);
}

/// As long as one has not answered, it is that one which is waited for.
#[test]
fn a_stream_proves_nothing_while_another_probe_waits() {
    let mut now = begin();
    let half_open = HalfOpen::probes(2).successes(2).max_wait(60 * SECOND);
    let breaker = opened(config().half_open(half_open), now);
    now += 10 * SECOND;
    let mut streams = breaker.admit(now).unwrap();
    streams.answered(now);
    let waits = breaker.admit(now).unwrap();
    now += 20 * SECOND;
    assert_eq!(breaker.state(now), State::HalfOpen);
    assert_eq!(breaker.state(now + 40 * SECOND + MOMENT), State::Open);
    // With the other's success both have shown it.
    waits.record(Ended::with(Outcome::Success), now);
    let snapshot = breaker.snapshot(now);
    assert_eq!((snapshot.state, snapshot.probes), (State::Closed, 0));
    drop(streams);
}

/// Story: where several were allowed and calls were many, one was always under way when the time was over.
#[test]
fn probes_that_take_turns_do_not_keep_it_half_open() {
    let mut now = begin();
    let half_open = HalfOpen::probes(2).successes(10).max_wait(10 * SECOND);
    let breaker = opened(config().half_open(half_open), now);
    now += 10 * SECOND;
    let mut under_way: Vec<(Instant, Admission)> = Vec::new();
    for _ in 0..60 {
        for (_, probe) in under_way.extract_if(.., |(began, _)| now - *began >= 4 * SECOND) {
            probe.record(Ended::with(Outcome::Success), now);
        }
        under_way.extend(breaker.admit(now).ok().map(|probe| (now, probe)));
        now += SECOND;
    }
    assert_eq!(breaker.state(now), State::Closed);
}

/// Story: results of calls from before the breaker opened closed it without a probe, or opened it again.
#[test]
fn late_results_are_nobodys() {
    let now = begin();
    for outcome in [Outcome::Success, Outcome::Failure] {
        let breaker = breaker(config());
        let late: Vec<Admission> = (0..10).map(|_| breaker.admit(now).unwrap()).collect();
        for _ in 0..3 {
            ends(&breaker, now, Outcome::Failure);
        }
        let later = now + 10 * SECOND;
        let probe = breaker.admit(later).unwrap();
        for admission in late {
            admission.record(Ended::with(outcome), later);
        }
        assert_eq!(breaker.state(later), State::HalfOpen);
        assert_eq!(breaker.snapshot(later).probes_succeeded, 0);
        probe.record(Ended::with(Outcome::Success), later);
        ends(&breaker, later, Outcome::Success);
        let snapshot = breaker.snapshot(later);
        assert_eq!(
            (snapshot.state, snapshot.consecutive_failures),
            (State::Closed, 0)
        );
    }
}

/// Story: when the open time was over, all who waited went through at once, and the upstream was down again.
#[tokio::test(start_paused = true)]
async fn half_open_is_no_stampede() {
    let world = World::new(config());
    world.fails(3).await;
    advance(10 * SECOND).await;
    let before = world.inner.calls();
    let mut refused = 0;
    for _ in 0..100 {
        world.inner.does(Act::Hang);
        // Who is given up gives its slot back at once.
        if let Ok(answer) = timeout(Duration::ZERO, world.send()).await {
            refused += usize::from(is_refused(&answer.unwrap()));
        }
    }
    assert_eq!(refused, 0);
    let waiting = world.inner.calls() - before;
    assert_eq!(waiting, 100);

    // Those who stay keep the others out.
    world.inner.does(Act::Hang);
    let mut staying = Box::pin(world.send());
    assert!(timeout(Duration::ZERO, &mut staying).await.is_err());
    let before = world.inner.calls();
    for _ in 0..100 {
        assert!(is_refused(&world.send().await.unwrap()));
    }
    assert_eq!(world.inner.calls(), before);
}

/// Story: an upstream that was just back got the whole load of everybody in the same moment.
#[test]
fn closing_is_no_stampede() {
    let ramp = 10 * SECOND;
    let mut now = begin();
    let config = config()
        .half_open(HalfOpen::probes(1).successes(1))
        .ramp(ramp);
    let breaker = opened(config, now);
    now += 10 * SECOND;
    ends(&breaker, now, Outcome::Success);
    assert_eq!(breaker.state(now), State::Ramping);
    for tenth in 0..10_u32 {
        let mut passed = 0_u32;
        for _ in 0..1_000 {
            now += SECOND / 1_000;
            if let Ok(admission) = breaker.admit(now) {
                passed += 1;
                admission.record(Ended::with(Outcome::Success), now);
            }
        }
        // From a tenth to all: on average in the middle of what this second began and ended with.
        let expected = 100 + 90 * tenth + 45;
        assert!(
            passed.abs_diff(expected) <= 10,
            "{passed}, about {expected}"
        );
    }
    assert_eq!(breaker.state(now + MOMENT), State::Closed);
}

/// Story: a timer around the breaker dropped the calls to an upstream that hung, and nobody counted them.
#[tokio::test(start_paused = true)]
async fn a_timer_outside_does_not_blind_it() {
    // It is known from the deadline which the request carries.
    let world = World::new(config());
    for _ in 0..3 {
        let mut request = Request::new(());
        let deadline = Deadline::at(Instant::now() + 2 * SECOND);
        request.extensions_mut().insert(deadline);
        assert!(timeout(2 * SECOND, world.send_this(request)).await.is_err());
    }
    assert_eq!(world.snapshot().state, State::Open);
    // Or from the time it took.
    let world = World::new(config().slow_rate(0.8, SECOND).min_calls(5));
    for _ in 0..5 {
        assert!(timeout(2 * SECOND, world.send()).await.is_err());
    }
    assert_eq!(world.snapshot().state, State::Open);
}

/// Story: the connector of a dead upstream was never ready, so callers hung before the breaker could refuse them.
#[tokio::test(start_paused = true)]
async fn a_dead_upstreams_readiness_is_not_waited_for() {
    let world = World::new(config());
    world.fails(3).await;
    world.inner.does(Act::NotReady);
    for _ in 0..10 {
        let answer = timeout(Duration::ZERO, world.send()).await;
        assert!(is_refused(&answer.expect("at once").unwrap()));
    }
    // When the open time is over, one waits for it, as its probe, and the others are refused as before.
    advance(10 * SECOND).await;
    let mut probe = Box::pin(world.send());
    assert!(timeout(Duration::ZERO, &mut probe).await.is_err());
    for _ in 0..10 {
        let answer = timeout(Duration::ZERO, world.send()).await;
        assert!(is_refused(&answer.expect("at once").unwrap()));
    }
    // The probe has no answer when its time is over, so the breaker is open again.
    advance(10 * SECOND).await;
    assert!(is_refused(&world.send().await.unwrap()));
    assert_eq!(world.snapshot().state, State::Open);
    drop(probe);
    assert_eq!(world.snapshot().state, State::Open);
}

/// Story: an upstream of long streams never proved that it was back, since none of them ended in time.
#[tokio::test(start_paused = true)]
async fn a_probe_that_streams_on_is_a_success() {
    let world = World::new(config());
    world.fails(3).await;
    advance(10 * SECOND).await;
    let mut streams = Vec::new();
    for _ in 0..2 {
        let script = gw_testkit::body::ScriptedBody::script().data("data").hold();
        let body = gw_testkit::gw_core::Body::new(script.build().0);
        world.inner.does(Act::Answer(http::Response::new(body)));
        streams.push(world.send().await.unwrap());
        assert!(is_refused(&world.send().await.unwrap()));
        advance(10 * SECOND).await;
    }
    assert_eq!(
        world.snapshot().state,
        State::Closed,
        "{:?}",
        world.snapshot()
    );
    drop(streams);
    assert_eq!(world.snapshot().state, State::Closed);
}

/// Story: the client of one probe left. The next probe was answered and streamed on, and all the same the breaker opened
/// again when the half-open state had lasted for long, because one had been lost.
#[test]
fn a_probe_that_is_answered_makes_up_for_one_that_was_lost() {
    let mut now = begin();
    let breaker = opened(config().half_open(HalfOpen::probes(1).successes(1)), now);
    now += 10 * SECOND;
    drop(breaker.admit(now).unwrap());
    let mut streaming = breaker.admit(now).unwrap();
    streaming.answered(now);
    now += 10 * SECOND;
    assert_eq!(breaker.state(now), State::Closed);
    drop(streaming);
}

/// Story: when a probe was answered was looked up on the clock, whatever time the calls were said to be made at. One that was
/// answered too late counted as a stream, and the breaker closed.
#[test]
fn a_probe_that_is_answered_too_late_does_not_close_it() {
    let mut now = begin();
    let breaker = opened(config().half_open(HalfOpen::probes(1).successes(1)), now);
    now += 10 * SECOND;
    let mut probe = breaker.admit(now).unwrap();
    now += 10 * SECOND;
    probe.answered(now);
    assert_eq!(breaker.state(now), State::Open);
    now += 10 * SECOND;
    probe.record(Ended::with(Outcome::Success), now);
    assert_eq!(breaker.state(now), State::Open);
}

/// Story: what was cloned before a new configuration looked it up under a lock with each call, for good.
#[test]
fn a_clone_catches_up_with_a_new_configuration() {
    let (breaker, now) = (breaker(config()), begin());
    let mut clone = breaker.clone();
    breaker
        .reconfigure(&config().consecutive_failures(1), now)
        .unwrap();
    // It obeys before it has caught up.
    assert!(clone.admit_if_closed().is_none());
    ends(&clone, now, Outcome::Failure);
    assert_eq!(breaker.state(now), State::Open);
    breaker.reset(now);
    clone.refresh();
    assert!(clone.admit_if_closed().is_some());
}

/// Story: a breaker that opened and closed all the time waited equally short each time.
#[test]
fn flapping_doubles_the_open_time_until_it_stays_closed_for_long() {
    let config = config().half_open(HalfOpen::probes(1).successes(1));
    let mut now = begin();
    let breaker = opened(config, now);
    for seconds in [10, 20, 40, 80, 80, 80] {
        assert_eq!(breaker.snapshot(now).open_for, Some(seconds * SECOND));
        now += seconds * SECOND;
        ends(&breaker, now, Outcome::Success);
        assert_eq!(breaker.state(now), State::Closed);
        // Almost as long as it would take to be forgotten.
        now += 79 * SECOND;
        for _ in 0..3 {
            ends(&breaker, now, Outcome::Failure);
        }
    }
    now += 80 * SECOND;
    ends(&breaker, now, Outcome::Success);
    now += 80 * SECOND + MOMENT;
    for _ in 0..3 {
        ends(&breaker, now, Outcome::Failure);
    }
    assert_eq!(breaker.snapshot(now).open_for, Some(10 * SECOND));
}

/// Story: what was said to be how often in a row it had opened was 0 while it was open for the first time, and never went back to
/// 0 by itself when it was forgotten.
#[test]
fn how_often_it_has_opened_in_a_row_is_told_until_it_is_forgotten() {
    let ramp = 10 * SECOND;
    let half_open = HalfOpen::probes(1).successes(1);
    let mut now = begin();
    let breaker = opened(config().half_open(half_open).ramp(ramp), now);
    let is = |now, state, opened| {
        let snapshot = breaker.snapshot(now);
        assert_eq!((snapshot.state, snapshot.opened), (state, opened));
    };
    is(now, State::Open, 1);
    now += 10 * SECOND + MOMENT;
    let probe = breaker.admit(now).unwrap();
    is(now, State::HalfOpen, 1);
    probe.record(Ended::with(Outcome::Failure), now);
    is(now, State::Open, 2);
    now += 20 * SECOND + MOMENT;
    ends(&breaker, now, Outcome::Success);
    is(now, State::Ramping, 2);
    is(now + 79 * SECOND, State::Closed, 2);
    is(now + 80 * SECOND + MOMENT, State::Closed, 0);
    breaker.force_open(now);
    is(now, State::ForcedOpen, 0);
}

/// Story: each new configuration had the time closed begin anew. Where one came every minute, how often the breaker had opened was
/// never forgotten.
#[test]
fn a_new_configuration_does_not_put_off_that_it_is_forgotten() {
    let config = config().half_open(HalfOpen::probes(1).successes(1));
    let mut now = begin();
    let breaker = opened(config, now);
    now += 10 * SECOND;
    ends(&breaker, now, Outcome::Success);
    for passed in 1..=3 {
        now += 30 * SECOND;
        breaker.reconfigure(&config, now).unwrap();
        let lasted = breaker.snapshot(now).lasted;
        assert!(
            lasted.abs_diff(passed * 30 * SECOND) <= MOMENT,
            "{lasted:?}"
        );
    }
    for _ in 0..3 {
        ends(&breaker, now, Outcome::Failure);
    }
    assert_eq!(breaker.snapshot(now).open_for, Some(10 * SECOND));
}

/// Story: what an upstream asked for was cut to whole seconds, so it was called earlier; and a cap below a second was none at all.
#[test]
fn an_upstream_is_not_called_earlier_than_it_asks() {
    let asked = |wait, open_time, cap| {
        let open_time = OpenTime::exponential(open_time, open_time).retry_after_cap(cap);
        let config = config().open_time(open_time.jitter(Jitter::None));
        let (breaker, now) = (breaker(config.consecutive_failures(1)), begin());
        let failed = Ended::with(Outcome::Failure).retry_after(wait);
        breaker.admit(now).unwrap().record(failed, now);
        breaker.snapshot(now).open_for.unwrap()
    };
    let ms = Duration::from_millis;
    for (wait, open_time, cap, open_for) in [
        (ms(1500), ms(1000), ms(60_000), ms(2000)),
        (ms(900), ms(100), ms(60_000), ms(1000)),
        (Duration::from_nanos(1), ms(100), ms(60_000), ms(1000)),
        (ms(2000), ms(1000), ms(60_000), ms(2000)),
        // The cap is exact, and zero does not listen.
        (ms(1500), ms(1000), ms(1700), ms(1700)),
        (ms(900), ms(100), ms(400), ms(400)),
        (ms(900), ms(100), ms(0), ms(100)),
        (ms(900), ms(1000), ms(400), ms(1000)),
        (Duration::MAX, ms(100), 65_535 * SECOND, 65_535 * SECOND),
    ] {
        assert_eq!(asked(wait, open_time, cap), open_for, "{wait:?}");
    }
}

/// Story: only what the failure asked for that opened it was heard. Where an overloaded upstream asked for half a minute and then
/// reset a connection, it was called after a few seconds.
#[test]
fn what_any_failure_of_the_row_has_asked_for_is_heard() {
    let mut now = begin();
    let breaker = breaker(config());
    let fails = |now, asks: u32| {
        let failed = Ended::with(Outcome::Failure).retry_after(asks * SECOND);
        breaker.admit(now).unwrap().record(failed, now);
    };
    fails(now, 30);
    fails(now + SECOND, 3);
    now += 5 * SECOND;
    fails(now, 0);
    assert_eq!(breaker.snapshot(now).open_for, Some(25 * SECOND));
    // What was before a reset is forgotten, this as well.
    breaker.reset(now);
    now += SECOND;
    fails(now, 30);
    breaker.reset(now);
    now += SECOND;
    for _ in 0..3 {
        fails(now, 0);
    }
    assert_eq!(breaker.snapshot(now).open_for, Some(10 * SECOND));
}

/// Story: the cap was applied when the breaker opened, and not when it was asked for. So a failure of long ago that had asked for
/// an hour kept it open for as long as the cap.
#[test]
fn what_is_asked_for_is_over_when_the_cap_is() {
    for (later, open_for) in [(40, 20), (59, 10), (3_000, 10)] {
        let mut now = begin();
        let breaker = breaker(config());
        let asks = Ended::with(Outcome::Failure).retry_after(3_600 * SECOND);
        breaker.admit(now).unwrap().record(asks, now);
        ends(&breaker, now, Outcome::Success);
        now += later * SECOND;
        for _ in 0..3 {
            ends(&breaker, now, Outcome::Failure);
        }
        let snapshot = breaker.snapshot(now);
        assert_eq!(
            snapshot.open_for,
            Some(open_for * SECOND),
            "{later} s later"
        );
    }
}

/// Story: a call that took as long as can be said was slow to a breaker that does not look at how long calls take, and failed its
/// probe.
#[test]
fn nothing_is_slow_where_slow_calls_do_not_matter() {
    let mut now = begin();
    let config = config()
        .failure_rate(1.0)
        .half_open(HalfOpen::probes(1).successes(1));
    let breaker = opened(config, now);
    let endless = Ended::with(Outcome::Success).latency(Duration::MAX);
    now += 10 * SECOND;
    breaker.admit(now).unwrap().record(endless, now);
    assert_eq!(breaker.state(now), State::Closed);
    breaker.admit(now).unwrap().record(endless, now);
    let snapshot = breaker.snapshot(now);
    assert_eq!((snapshot.calls, snapshot.slow), (1, 0));
}

#[test]
fn open_times_are_spread_over_their_upper_half() {
    let now = begin();
    let open_for = |seed| {
        let open_time = OpenTime::exponential(10 * SECOND, 80 * SECOND)
            .jitter(Jitter::Equal)
            .seed(seed);
        let breaker = opened(config().open_time(open_time), now);
        breaker.snapshot(now).open_for.unwrap()
    };
    let times: Vec<Duration> = (0..200).map(open_for).collect();
    let (least, most) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!((5 * SECOND..6 * SECOND).contains(least), "{least:?}");
    assert!((9 * SECOND..=10 * SECOND).contains(most), "{most:?}");
    let mean = times.iter().sum::<Duration>() / 200;
    assert!((7 * SECOND..8 * SECOND).contains(&mean), "{mean:?}");
}

/// Threads that fail at the same moment open it once, and one of them has the probe.
#[test]
fn many_threads_open_it_once() {
    let breaker = breaker(config());
    let mut now = begin();
    for round in 0..200 {
        breaker.reset(now);
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let admission = breaker.admit(now);
                    barrier.wait();
                    for _ in 0..3 {
                        if let Ok(admission) = breaker.admit(now) {
                            admission.record(Ended::with(Outcome::Failure), now);
                        }
                    }
                    drop(admission);
                });
            }
        });
        let snapshot = breaker.snapshot(now);
        assert_eq!(
            (snapshot.state, snapshot.opened),
            (State::Open, 1),
            "round {round}"
        );
        let later = now + 10 * SECOND + MOMENT;
        let probes: usize = std::thread::scope(|scope| {
            let ask = || breaker.admit(later).map(std::mem::forget).is_ok();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads
                .into_iter()
                .map(|thread| usize::from(thread.join().unwrap()))
                .sum()
        });
        assert_eq!(probes, 1);
        now = later + SECOND;
    }
}
