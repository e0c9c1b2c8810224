//! Streams that stay open for long.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use gw_breaker::{BreakerLayer, ContentClassifier, HalfOpen, ResponseBody, State};
use gw_testkit::body::{BodyHandle, ScriptedBody};
use gw_testkit::gw_core::context::Deadline;
use gw_testkit::gw_core::{Body, BoxError};
use http::{HeaderValue, Request, Response};
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt as _;
use support::{Act, SECOND, World, config, grpc_call};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer as _, ServiceExt as _};

/// Four pieces with a pause before each, and then it breaks off.
fn stream(size: SizeHint) -> (Response<Body>, BodyHandle) {
    let script = ScriptedBody::script().hold().data("a").hold().data("b");
    let script = script.hold().data("c").hold().data("d").hold();
    let (body, pieces) = script.error("broken").claim_size(size).build();
    (Response::new(Body::new(body)), pieces)
}

/// The viewer sees the next piece, which comes so much later, and waits for another one.
async fn next<B>(viewed: &mut B, pieces: &BodyHandle, later: Duration)
where
    B: http_body::Body<Error = BoxError> + Unpin,
{
    let waits = async |viewed: &mut B| timeout(Duration::ZERO, viewed.frame()).await.is_err();
    assert!(waits(viewed).await);
    advance(later).await;
    pieces.resume();
    viewed.frame().await.unwrap().unwrap();
    assert!(waits(viewed).await);
}

/// Story: while streams were open only failures were heard. A few of them in hours opened the breaker of an upstream that served
/// all its viewers.
#[tokio::test(start_paused = true)]
async fn a_stream_that_goes_on_ends_a_row_of_failures() {
    for config in [config(), config().slow_rate(0.5, SECOND).min_calls(100)] {
        let world = World::new(config);
        let in_a_row = || world.snapshot().consecutive_failures;
        let (answer, pieces) = stream(SizeHint::new());
        world.inner.does(Act::Answer(answer));
        let mut viewed = world.send().await.unwrap().into_body();
        world.fails(2).await;
        // The clock is not asked before something has come.
        next(&mut viewed, &pieces, 60 * SECOND).await;
        next(&mut viewed, &pieces, SECOND / 2).await;
        assert_eq!(in_a_row(), 2);
        next(&mut viewed, &pieces, SECOND / 2).await;
        assert_eq!(in_a_row(), 0);
        world.fails(2).await;
        assert_eq!(world.snapshot().state, State::Closed);
        // Once: whatever else is asked of the upstream may fail.
        next(&mut viewed, &pieces, SECOND).await;
        assert_eq!(in_a_row(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_counted_once_when_it_ends() {
    enum End {
        Well,
        Left,
        BrokenOff,
    }
    for end in [End::Well, End::Left, End::BrokenOff] {
        let world = World::new(config().failure_rate(1.0).min_calls(100));
        let counts = || {
            let known = world.snapshot();
            (known.calls, known.failed, known.consecutive_failures)
        };
        let script = ScriptedBody::script().hold().data("a").hold().data("b");
        let script = script.hold().data("c").hold();
        let script = match end {
            End::BrokenOff => script.error("broken"),
            End::Well | End::Left => script,
        };
        let (body, pieces) = script.claim_size(SizeHint::new()).build();
        let answer = Response::new(Body::new(body));
        world.inner.does(Act::Answer(answer));
        let mut viewed = world.send().await.unwrap().into_body();
        for _ in 0..3 {
            next(&mut viewed, &pieces, SECOND).await;
        }
        assert_eq!(counts(), (0, 0, 0));
        pieces.resume();
        let expected = match end {
            End::Well => {
                assert!(viewed.frame().await.is_none());
                (1, 0, 0)
            }
            End::Left => (1, 0, 0),
            End::BrokenOff => {
                assert!(viewed.frame().await.unwrap().is_err());
                (1, 1, 1)
            }
        };
        drop(viewed);
        assert_eq!(counts(), expected);
    }
}

/// Our own timer that ends a quiet stream is the upstream's failure at any time; a slow reader's and the client's own is not.
#[tokio::test(start_paused = true)]
async fn our_own_deadline_is_a_failure_of_a_stream_that_goes_on() {
    for (waits, by_client, failures) in [(true, false, 1), (true, true, 0), (false, false, 0)] {
        let world = World::new(config());
        let (answer, pieces) = stream(SizeHint::new());
        world.inner.does(Act::Answer(answer));
        let mut deadline = Deadline::at(Instant::now() + 5 * SECOND);
        if by_client {
            deadline = deadline.by_client();
        }
        let mut request = Request::new(());
        request.extensions_mut().insert(deadline);
        let mut viewed = world.send_this(request).await.unwrap().into_body();
        for _ in 0..2 {
            next(&mut viewed, &pieces, SECOND).await;
        }
        if !waits {
            pieces.resume();
            viewed.frame().await.unwrap().unwrap();
        }
        advance(3 * SECOND).await;
        drop(viewed);
        assert_eq!(world.snapshot().consecutive_failures, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_early_is_a_failure() {
    let world = World::new(config());
    let (answer, pieces) = stream(SizeHint::new());
    world.inner.does(Act::Answer(answer));
    let mut viewed = world.send().await.unwrap().into_body();
    for _ in 0..4 {
        next(&mut viewed, &pieces, SECOND / 4).await;
    }
    pieces.resume();
    assert!(viewed.frame().await.unwrap().is_err());
    assert_eq!(world.snapshot().consecutive_failures, 1);
}

/// Their end is awaited: the length is known, or gRPC tells only then.
#[tokio::test(start_paused = true)]
async fn what_is_no_stream_or_tells_at_its_end_is_not_judged_before() {
    for (size, content) in [
        (SizeHint::with_exact(9), "text/plain"),
        (SizeHint::new(), "application/grpc"),
    ] {
        let layer = BreakerLayer::builder("orders").config(config());
        let layer = layer.build().unwrap().classify(ContentClassifier);
        let handle = layer.handle();
        let (mut answer, pieces) = stream(size);
        let content = HeaderValue::from_static(content);
        answer.headers_mut().insert("content-type", content);
        let world = World::new(config());
        world.inner.does(Act::Answer(answer));
        let service = layer.layer(world.inner);
        let mut viewed = service.oneshot(grpc_call()).await.unwrap().into_body();
        for _ in 0..4 {
            next(&mut viewed, &pieces, SECOND).await;
        }
        pieces.resume();
        assert!(viewed.frame().await.unwrap().is_err());
        assert_eq!(handle.snapshot().consecutive_failures, 1);
    }
}

/// Story: see `a_content_type_alone_makes_no_call` of the classifiers.
#[tokio::test(start_paused = true)]
async fn what_users_have_stored_as_grpc_is_no_call() {
    for (request, failures) in [(Request::new(()), 0), (grpc_call(), 1)] {
        let mut stored = Response::new(Body::from("stored"));
        let grpc = HeaderValue::from_static("application/grpc");
        stored.headers_mut().insert("content-type", grpc);
        let world = World::new(config());
        world.inner.does(Act::Answer(stored));
        let answer = world.send_this(request).await.unwrap();
        answer.into_body().collect().await.unwrap();
        assert_eq!(world.snapshot().consecutive_failures, failures);
    }
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_stream_goes_on_has_succeeded() {
    let world = World::new(config().half_open(HalfOpen::probes(1).successes(1)));
    world.fails(3).await;
    advance(10 * SECOND).await;
    let (answer, pieces) = stream(SizeHint::new());
    world.inner.does(Act::Answer(answer));
    let mut viewed = world.send().await.unwrap().into_body();
    next(&mut viewed, &pieces, SECOND).await;
    assert_eq!(world.snapshot().state, State::HalfOpen);
    next(&mut viewed, &pieces, SECOND).await;
    assert_eq!(world.snapshot().state, State::Closed);
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(ResponseBody::<Body, ContentClassifier>::default().is_end_stream());
}
