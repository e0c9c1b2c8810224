//! Probes whose clients send slowly.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use gw_breaker::upload::{RequestBody, UploadLayer};
use gw_breaker::{
    Admission, Awaited, Breaker, BreakerConfig, BreakerLayer, Ended, HalfOpen, LatencyFrom,
    Outcome, State,
};
use gw_testkit::body::ScriptedBody;
use gw_testkit::gw_core::{Body, Code, GrpcStatus, Rejection};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use support::{SECOND, config};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer as _, ServiceExt as _};

/// Two must succeed, and are waited for ten seconds.
fn half_open(probes: u8) -> BreakerConfig {
    let half_open = HalfOpen::probes(probes).successes(2);
    config().half_open(half_open.max_wait(10 * SECOND))
}

/// Half-open, with a first probe.
async fn probing(config: BreakerConfig) -> (Breaker, Admission) {
    let breaker = Breaker::new("orders", &config).unwrap();
    advance(SECOND).await;
    for _ in 0..3 {
        ends(breaker.admit(Instant::now()).unwrap(), Outcome::Failure);
    }
    advance(10 * SECOND).await;
    let probe = breaker.admit(Instant::now()).unwrap();
    (breaker, probe)
}

fn ends(admission: Admission, outcome: Outcome) {
    admission.record(Ended::with(outcome), Instant::now());
}

/// It waits for its client.
fn uploading(admission: &mut Admission) -> Awaited {
    let awaited = Awaited::new(Instant::now());
    admission.follow(&awaited);
    awaited.pauses();
    awaited
}

fn state(breaker: &Breaker) -> State {
    breaker.state(Instant::now())
}

/// Story: an upload of twelve seconds was a probe. After ten the breaker opened again, for twice as long, though nobody had waited
/// for the upstream; its good answer came too late to count. Where all calls were such uploads the breaker never closed.
#[tokio::test(start_paused = true)]
async fn a_breaker_closes_though_all_calls_are_slow_uploads() {
    for slow_rate in [true, false] {
        let config = match slow_rate {
            true => half_open(1).slow_rate(0.5, 2 * SECOND).min_calls(100),
            false => half_open(1),
        };
        let layer = BreakerLayer::builder("orders")
            .config(config)
            .build()
            .unwrap()
            .latency_from(LatencyFrom::Sent);
        let handle = layer.handle();
        let handler = tower::service_fn(async |request: Request<RequestBody<Body>>| {
            let broken = request.uri().path() == "/broken";
            request.into_body().collect().await.unwrap();
            let mut answer = Response::new(Body::empty());
            if broken {
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
            }
            Ok::<_, Infallible>(answer)
        });
        let service = layer.layer(UploadLayer.layer(handler));
        let send = |path: &str, takes: Duration| {
            let (body, control) = ScriptedBody::script().data("a").hold().data("b").build();
            let request = Request::builder().uri(path).body(Body::new(body)).unwrap();
            let sent = service.clone().oneshot(request);
            tokio::spawn(async move {
                sleep(takes).await;
                control.resume();
            });
            tokio::spawn(async move { sent.await.unwrap().status() })
        };
        for _ in 0..3 {
            send("/broken", SECOND).await.unwrap();
        }
        assert_eq!(handle.snapshot().state, State::Open);
        sleep(10 * SECOND).await;
        for second in 0.. {
            assert!(second < 40, "{:?}", handle.snapshot());
            let snapshot = handle.snapshot();
            if snapshot.state == State::Closed {
                break;
            }
            assert!(snapshot.opened == 1 && snapshot.probes <= 1, "{snapshot:?}");
            drop(send("/", 12 * SECOND));
            sleep(SECOND).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_waited_for_does_not_keep_its_slot() {
    let (breaker, mut slow) = probing(half_open(1)).await;
    let awaited = uploading(&mut slow);
    advance(9 * SECOND).await;
    assert!(breaker.admit(Instant::now()).is_err());
    advance(SECOND).await;
    let other = breaker.admit(Instant::now()).unwrap();
    assert!(breaker.admit(Instant::now()).is_err());
    ends(other, Outcome::Success);
    assert_eq!(breaker.snapshot(Instant::now()).probes_succeeded, 1);
    // What becomes of it counts all the same, as long as nothing has opened the breaker.
    advance(3600 * SECOND).await;
    awaited.starts(Instant::now());
    ends(slow, Outcome::Success);
    assert_eq!(state(&breaker), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn its_answer_may_be_a_stream_or_a_failure() {
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::Ignored] {
        let (breaker, mut slow) = probing(half_open(1)).await;
        let awaited = uploading(&mut slow);
        advance(12 * SECOND).await;
        let other = breaker.admit(Instant::now()).unwrap();
        awaited.starts(Instant::now());
        slow.answered(Instant::now());
        slow.answered(Instant::now());
        assert_eq!(breaker.snapshot(Instant::now()).probes, 1);
        ends(slow, outcome);
        let (state, succeeded) = match outcome {
            Outcome::Success => (State::HalfOpen, 1),
            Outcome::Failure => (State::Open, 0),
            _ => (State::HalfOpen, 0),
        };
        let snapshot = breaker.snapshot(Instant::now());
        assert_eq!(
            (snapshot.state, snapshot.probes_succeeded),
            (state, succeeded)
        );
        drop(other);
    }
}

/// Of a state before the breaker opened again nothing is heard.
#[tokio::test(start_paused = true)]
async fn what_is_put_aside_does_not_outlast_a_failure() {
    let (breaker, mut slow) = probing(half_open(1)).await;
    let _awaited = uploading(&mut slow);
    advance(10 * SECOND).await;
    ends(breaker.admit(Instant::now()).unwrap(), Outcome::Failure);
    advance(21 * SECOND).await;
    let probe = breaker.admit(Instant::now()).unwrap();
    ends(slow, Outcome::Success);
    let snapshot = breaker.snapshot(Instant::now());
    assert_eq!(
        (snapshot.state, snapshot.probes_succeeded),
        (State::HalfOpen, 0)
    );
    drop(probe);
}

/// An upstream that hangs is found out by the probes that wait for it.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_upstream_is_late() {
    // Sent at once, after half of the time, and beside one that waits for its client.
    for (sent_after, beside, late) in [
        (0, false, true),
        (5, false, true),
        (6, false, false),
        (5, true, true),
    ] {
        let (breaker, mut probe) = probing(half_open(2)).await;
        let awaited = uploading(&mut probe);
        let mut other = beside.then(|| breaker.admit(Instant::now()).unwrap());
        let _other = other.as_mut().map(uploading);
        advance(sent_after * SECOND).await;
        awaited.starts(Instant::now());
        advance((10 - sent_after) * SECOND).await;
        let expected = match late {
            true => State::Open,
            false => State::HalfOpen,
        };
        assert_eq!(state(&breaker), expected, "{sent_after} {beside}");
    }
    // What it told first does not stand in for another one.
    let (breaker, mut probe) = probing(half_open(2)).await;
    let _before = uploading(&mut probe);
    let _now = uploading(&mut probe);
    let _other = breaker.admit(Instant::now()).unwrap();
    advance(10 * SECOND).await;
    assert_eq!(state(&breaker), State::Open);
    // Nobody tells of this one.
    let (breaker, mut probe) = probing(half_open(2)).await;
    let _awaited = uploading(&mut probe);
    let _other = breaker.admit(Instant::now()).unwrap();
    advance(10 * SECOND).await;
    assert_eq!(state(&breaker), State::Open);
}

/// Nor is a client that gives up its upload one that had no patience with the upstream.
#[tokio::test(start_paused = true)]
async fn an_upload_that_is_given_up_leaves_nothing() {
    for (paused, expected) in [(true, State::HalfOpen), (false, State::Open)] {
        let (breaker, mut probe) = probing(half_open(1)).await;
        let awaited = uploading(&mut probe);
        advance(SECOND).await;
        if !paused {
            awaited.starts(Instant::now());
        }
        drop(probe);
        advance(9 * SECOND).await;
        assert_eq!(state(&breaker), expected);
    }
}

/// Story: an upload that broke off counted as sent, so what was refused for that, which says nothing about the upstream, left a probe
/// of which nobody knew what had become of it: the breaker opened again, for twice as long.
#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    const BROKEN_OFF: Code = Code::new(
        "BAD_REQUEST",
        StatusCode::BAD_REQUEST,
        "",
        GrpcStatus::InvalidArgument,
    );
    for (breaks_off, expected) in [(true, State::HalfOpen), (false, State::Open)] {
        let layer = BreakerLayer::builder("orders")
            .config(half_open(1))
            .build()
            .unwrap()
            .latency_from(LatencyFrom::Sent);
        let handle = layer.handle();
        let handler = tower::service_fn(async |request: Request<RequestBody<Body>>| {
            let broken = request.uri().path() == "/broken";
            let read = request.into_body().collect().await;
            let mut answer = Response::new(Body::empty());
            if broken {
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
            } else {
                sleep(SECOND).await;
                answer.extensions_mut().insert(Rejection::new(&BROKEN_OFF));
            }
            drop(read);
            Ok::<_, Infallible>(answer)
        });
        let service = layer.layer(UploadLayer.layer(handler));
        let send = |path: &str, body| {
            let request = Request::builder().uri(path).body(body).unwrap();
            service.clone().oneshot(request)
        };
        for _ in 0..3 {
            send("/broken", Body::empty()).await.unwrap();
        }
        assert_eq!(handle.snapshot().state, State::Open);
        sleep(10 * SECOND).await;
        let body = ScriptedBody::script().data("a");
        let (body, _) = match breaks_off {
            true => body.error("the connection broke").build(),
            false => body.data("b").build(),
        };
        send("/", Body::new(body)).await.unwrap();
        sleep(10 * SECOND).await;
        assert_eq!(handle.snapshot().state, expected);
    }
}
