//! What clients leave behind that do not wait for the end of an answer.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use gw_breaker::{
    BreakerConfig, BreakerHandle, BreakerLayer, ContentClassifier, HalfOpen, Single, Snapshot,
    State,
};
use gw_testkit::body::ScriptedBody;
use gw_testkit::gw_core::Body;
use gw_testkit::gw_core::context::Deadline;
use http::{HeaderValue, Request, Response};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use support::{Act, SECOND, World, config, grpc_call, is_refused};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer as _, ServiceExt as _};

type Layer = BreakerLayer<Single, ContentClassifier>;

/// Goes on for good after its first piece, and nobody knows how long it is.
fn stream() -> Response<Body> {
    let events = ScriptedBody::script().data("data").hold().data("more");
    let events = events.claim_size(SizeHint::new());
    Response::new(Body::new(events.build().0))
}

fn grpc() -> Response<Body> {
    let mut answer = stream();
    let grpc = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", grpc);
    answer
}

fn judging_latency() -> BreakerConfig {
    config().slow_rate(0.5, SECOND).min_calls(4)
}

/// An answer whose head takes so long.
async fn after(
    latency: Duration,
    answer: fn() -> Response<Body>,
    layer: &Layer,
) -> Response<impl http_body::Body> {
    let upstream = tower::service_fn(move |_: Request<()>| async move {
        sleep(latency).await;
        Ok::<_, Infallible>(answer())
    });
    let answer = layer.layer(upstream).oneshot(grpc_call()).await;
    answer.unwrap()
}

fn layer(
    config: BreakerConfig,
) -> (
    BreakerLayer<gw_breaker::Single, ContentClassifier>,
    BreakerHandle,
) {
    let layer = BreakerLayer::builder("orders").config(config);
    let layer = layer.build().unwrap().classify(ContentClassifier);
    let handle = layer.handle();
    (layer, handle)
}

const fn counts(snapshot: &Snapshot) -> (u32, u32, u32) {
    (snapshot.calls, snapshot.failed, snapshot.slow)
}

/// Story: the heads of a slow upstream took two seconds, and its clients then read a part of the answer and left. That it was
/// slow was forgotten with the answer, and the breaker never opened.
#[tokio::test(start_paused = true)]
async fn a_slow_head_counts_though_its_client_leaves_the_body() {
    for answer in [stream, grpc] {
        for polled in [false, true] {
            let (layer, handle) = layer(judging_latency());
            for calls in 1..=4 {
                assert_eq!(handle.snapshot().state, State::Closed);
                let answer = after(2 * SECOND, answer, &layer).await;
                let mut body = Box::pin(answer.into_body());
                if polled {
                    assert!(body.frame().await.unwrap().is_ok());
                }
                assert_eq!(handle.snapshot().calls, calls - 1);
                drop(body);
                if calls < 4 {
                    assert_eq!(counts(&handle.snapshot()), (calls, 0, calls));
                }
            }
            assert_eq!(handle.snapshot().state, State::Open);
        }
    }
}

/// Story: 49 of 50 answers were streams that their viewers left at some time, and one failed. Nothing but failures was counted,
/// so after 250 requests there had been five in a row, and the breaker opened.
#[tokio::test(start_paused = true)]
async fn a_good_answer_that_its_client_leaves_is_a_success() {
    let world = World::new(config().failure_rate(0.5).min_calls(20));
    for call in 1..=1_000 {
        if call % 50 == 0 {
            world.fails(1).await;
            continue;
        }
        world.inner.does(Act::Answer(stream()));
        let mut body = world.send().await.unwrap().into_body();
        // Unpolled, after a piece, and while it is quiet.
        if call % 3 > 0 {
            body.frame().await.unwrap().unwrap();
        }
        if call % 3 > 1 {
            assert!(timeout(60 * SECOND, body.frame()).await.is_err());
        }
        drop(body);
        assert_eq!(world.snapshot().consecutive_failures, 0);
    }
    let snapshot = world.snapshot();
    assert_eq!(snapshot.state, State::Closed);
    assert_eq!(counts(&snapshot), (100, 2, 0));
}

/// Story: an upstream sent good heads and half of each body, and halted. Each client that gave up waiting ended the row.
#[tokio::test(start_paused = true)]
async fn who_leaves_a_body_that_halts_says_nothing() {
    let world = World::new(config());
    world.fails(2).await;
    let halting = ScriptedBody::script().data("half").hold().data("rest");
    let halting = halting.claim_size(SizeHint::with_exact(8));
    world
        .inner
        .does(Act::Answer(Response::new(Body::new(halting.build().0))));
    let mut body = world.send().await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert!(timeout(60 * SECOND, body.frame()).await.is_err());
    drop(body);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.consecutive_failures, snapshot.calls), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn where_only_the_end_can_tell_who_leaves_before_says_nothing() {
    let (layer, handle) = layer(config().failure_rate(0.5).min_calls(1));
    for polled in [false, true] {
        let answer = after(SECOND, grpc, &layer).await;
        let mut body = Box::pin(answer.into_body());
        if polled {
            assert!(body.frame().await.unwrap().is_ok());
        }
    }
    assert_eq!(counts(&handle.snapshot()), (0, 0, 0));
}

/// Our own timer has given up while the upstream was waited for, whatever it said at first.
#[tokio::test(start_paused = true)]
async fn a_good_head_does_not_excuse_what_comes_too_late() {
    let world = World::new(config());
    for (patience, failures) in [(6, 1), (4, 0)] {
        let mut request = Request::new(());
        let deadline = Deadline::at(Instant::now() + 5 * SECOND);
        request.extensions_mut().insert(deadline);
        world.inner.does(Act::Answer(stream()));
        let mut body = world.send_this(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        let waited = timeout(patience * SECOND, body.frame()).await;
        assert!(waited.is_err());
        drop(body);
        assert_eq!(world.snapshot().consecutive_failures, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_client_leaves_a_good_answer_has_succeeded_and_gives_its_slot_back_once() {
    let world = World::new(config().half_open(HalfOpen::probes(1).successes(3)));
    world.fails(3).await;
    advance(10 * SECOND).await;
    for succeeded in 0..3 {
        world.inner.does(Act::Answer(stream()));
        let answer = world.send().await.unwrap();
        let snapshot = world.snapshot();
        let probes = (snapshot.probes, snapshot.probes_succeeded);
        assert_eq!((snapshot.state, probes), (State::HalfOpen, (1, succeeded)));
        assert!(is_refused(&world.send().await.unwrap()));
        drop(answer);
        assert_eq!(world.snapshot().probes, 0);
    }
    assert_eq!(world.snapshot().state, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_only_its_end_can_judge_comes_to_nothing_when_its_client_leaves() {
    let (layer, handle) = layer(config());
    for _ in 0..3 {
        let failed = after(Duration::ZERO, || support::answer(500), &layer).await;
        drop(failed);
    }
    advance(10 * SECOND).await;
    for _ in 0..3 {
        let answer = after(Duration::ZERO, grpc, &layer).await;
        assert_eq!(handle.snapshot().probes, 1);
        drop(answer);
        let snapshot = handle.snapshot();
        let probes = (snapshot.probes, snapshot.probes_succeeded);
        assert_eq!((snapshot.state, probes), (State::HalfOpen, (0, 0)));
    }
}
