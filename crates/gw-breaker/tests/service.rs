//! How the layer behaves, request by request.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gw_breaker::{
    Breaker, BreakerConfig, BreakerLayer, CIRCUIT_OPEN, Fail, Failure, GrpcClassifier, HalfOpen,
    Jitter, JudgeAt, LayerError, Mode, OpenTime, Rejection, State, UpstreamName, errors_by,
};
use gw_testkit::body::{BodyScript, ScriptedBody};
use gw_testkit::gw_core::context::Deadline;
use gw_testkit::gw_core::record::Record;
use gw_testkit::gw_core::stage::{NoFacts, Stage};
use gw_testkit::gw_core::{Body, Code, GrpcStatus};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt as _;
use support::{Act, Inner, SECOND, World, answer, config, grpc_call, is_refused};
use tokio::time::{Instant, advance, timeout};
use tower::{Layer as _, Service as _, ServiceExt as _};

const ANY: Code = Code::new(
    "ANY",
    StatusCode::BAD_GATEWAY,
    "A test.",
    GrpcStatus::Unavailable,
);

fn refusal(failure: Failure) -> Rejection {
    Rejection::new(&ANY).failed(failure)
}

/// The answer that a stage inside makes of it.
fn rendered(failure: Failure) -> Response<Body> {
    let mut answer = answer(502);
    answer.extensions_mut().insert(refusal(failure));
    answer
}

/// A stage inside refuses by no fault of the upstream's, with an answer or an error.
fn refused_within(answers: bool) -> Result<Response<Body>, Rejection> {
    match answers {
        true => Ok(rendered(Failure::Local)),
        false => Err(refusal(Failure::Local)),
    }
}

#[tokio::test(start_paused = true)]
async fn opens_refuses_probes_and_closes() {
    let world = World::new(config());
    let mut changes = world.handle.subscribe();
    assert_eq!(world.answers(200).await, 200);
    world.fails(3).await;
    assert_eq!(world.snapshot().state, State::Open);
    assert_eq!(changes.changed().await, Some(State::Open));

    let refused = world.send().await.unwrap();
    assert!(is_refused(&refused));
    assert_eq!(refused.status(), 503);
    let seconds: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((10..=12).contains(&seconds), "{seconds}");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["code"], "CIRCUIT_OPEN");
    assert_eq!(body["error"]["details"]["state"], "open");
    assert_eq!(world.inner.calls(), 4);

    advance(10 * SECOND).await;
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().state, State::HalfOpen);
    assert_eq!(changes.changed().await, Some(State::HalfOpen));
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().state, State::Closed);
    assert_eq!(changes.changed().await, Some(State::Closed));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_caller_is_told_in_its_own_words() {
    let world = World::new(config());
    world.handle.force_open();
    let request = Request::post("/s/m").header("content-type", "application/grpc");
    let refused = world.send_this(request.body(()).unwrap()).await.unwrap();
    assert_eq!(refused.status(), 200);
    assert_eq!(refused.headers()["grpc-status"], "14");
}

#[tokio::test(start_paused = true)]
async fn the_observer_is_told() {
    let world = World::new(config());
    world.handle.force_open();
    let record = Record::default();
    let mut request = Request::new(());
    request.extensions_mut().insert(record.clone());
    world.send_this(request).await.unwrap();
    assert_eq!(record.exchange().code, Some(&CIRCUIT_OPEN));
    assert_eq!(record.exchange().refused_by, Some("forward"));
}

/// Story: a breaker in another slot of a pipeline refused in the name of `forward`.
#[tokio::test(start_paused = true)]
async fn the_observer_is_told_the_slot() {
    let one = BreakerLayer::builder("orders").build().unwrap();
    one.handle().force_open();
    let keyed = BreakerLayer::builder("orders").per_upstream();
    let keyed = keyed.build().unwrap();
    for breaker in keyed.handle().all() {
        breaker.force_open();
    }
    let record = Record::default();
    let mut request = Request::new(());
    request.extensions_mut().insert(record.clone());
    let one = Stage::<NoFacts>::into_layer_in(one, "transform");
    one.layer(Inner::new())
        .oneshot(request.clone())
        .await
        .unwrap();
    assert_eq!(record.exchange().refused_by, Some("transform"));
    let keyed = Stage::<NoFacts>::into_layer_in(keyed, "validate");
    keyed.layer(Inner::new()).oneshot(request).await.unwrap();
    assert_eq!(record.exchange().refused_by, Some("validate"));
}

#[tokio::test(start_paused = true)]
async fn errors_are_judged_by_how_the_attempt_failed() {
    let world = World::new(config());
    for (failure, state) in [
        (Failure::Local, State::Closed),
        (Failure::Unprocessed, State::Closed),
        (Failure::NotSent, State::Open),
        (Failure::Unknown, State::Open),
    ] {
        world.handle.reset();
        for _ in 0..3 {
            world.inner.does(Act::Fail(refusal(failure)));
            world.send().await.unwrap_err();
        }
        assert_eq!(world.snapshot().state, state, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn answers_given_in_the_upstreams_place_are_judged_as_errors_are() {
    let world = World::new(config());
    for (failure, state) in [
        (Failure::Local, State::Closed),
        (Failure::Unknown, State::Open),
    ] {
        for _ in 0..3 {
            world.inner.does(Act::Answer(rendered(failure)));
            world.send().await.unwrap();
        }
        assert_eq!(world.snapshot().state, state, "{failure:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_errors_are_judged_by_a_function() {
    let layer = BreakerLayer::builder("orders")
        .config(config())
        .build()
        .unwrap();
    let judge = |_: &&str| gw_breaker::Outcome::Failure;
    let layer = layer.classify(errors_by(gw_breaker::ContentClassifier, judge));
    let handle = layer.handle();
    let inner = tower::service_fn(async |_: Request<()>| Err::<Response<Body>, _>("no route"));
    for _ in 0..3 {
        let answer = tower::ServiceExt::oneshot(layer.layer(inner), Request::new(())).await;
        assert_eq!(answer.map(|_| ()), Err("no route"));
    }
    assert_eq!(handle.snapshot().state, State::Open);
}

#[tokio::test(start_paused = true)]
async fn fails_instead_of_answering_where_that_is_wanted() {
    let layer = BreakerLayer::builder("orders")
        .build()
        .unwrap()
        .on_reject(Fail);
    layer.handle().force_open();
    let answer = tower::ServiceExt::oneshot(layer.layer(Inner::new()), Request::new(())).await;
    let Err(LayerError::Rejected(rejection)) = answer.map(|_| ()) else {
        panic!("it answered");
    };
    assert_eq!(rejection.code(), &CIRCUIT_OPEN);
}

#[tokio::test(start_paused = true)]
async fn throttling_is_not_failure() {
    let world = World::new(config().failure_rate(0.5).min_calls(10));
    for _ in 0..100 {
        assert_eq!(world.answers(429).await, 429);
    }
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.calls, snapshot.failed),
        (State::Closed, 100, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_throttled_fails_and_what_it_asks_for_is_heard() {
    let world = World::new(config());
    world.fails(3).await;
    advance(10 * SECOND).await;
    let mut throttled = answer(429);
    throttled.headers_mut().insert("retry-after", 50.into());
    world.inner.does(Act::Answer(throttled));
    world.send().await.unwrap();
    let snapshot = world.snapshot();
    assert_eq!(snapshot.state, State::Open);
    // More than twice the open time.
    assert_eq!(snapshot.open_for, Some(50 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn what_a_failing_upstream_asks_for_is_heard_up_to_a_cap() {
    let open_time = OpenTime::exponential(SECOND, SECOND).retry_after_cap(30 * SECOND);
    let world = World::new(config().consecutive_failures(1).open_time(open_time));
    let mut failed = answer(503);
    failed.headers_mut().insert("retry-after", 86_400.into());
    world.inner.does(Act::Answer(failed));
    world.send().await.unwrap();
    assert_eq!(world.snapshot().open_for, Some(30 * SECOND));
}

/// Story: a timer inside the breaker answered in the upstream's place, and had clients come back after a second or two. It was heard
/// as the upstream's wish, and a breaker that opens for a tenth of a second was open for that long.
#[tokio::test(start_paused = true)]
async fn what_a_stage_inside_asks_for_is_not_heard() {
    let tenth = SECOND / 10;
    let open_time = OpenTime::exponential(tenth, tenth).jitter(Jitter::None);
    for (name, value) in [("retry-after", "2"), ("grpc-retry-pushback-ms", "1500")] {
        let world = World::new(config().consecutive_failures(1).open_time(open_time));
        let mut timed_out = rendered(Failure::Unknown);
        let headers = timed_out.headers_mut();
        headers.insert(name, value.parse().unwrap());
        world.inner.does(Act::Answer(timed_out));
        world.send().await.unwrap();
        assert_eq!(world.snapshot().open_for, Some(tenth), "{name}");
    }
}

/// Story: gRPC servers do not say `Retry-After`.
#[tokio::test(start_paused = true)]
async fn what_a_failing_grpc_server_asks_for_is_heard() {
    for (at_head, pushback, open_for) in [
        (true, "7500", 8 * SECOND),
        (false, "7500", 8 * SECOND),
        // Not to come back at all, which is no time.
        (true, "-1", SECOND),
    ] {
        let open_time = OpenTime::exponential(SECOND, SECOND).jitter(Jitter::None);
        let config = config().consecutive_failures(1).open_time(open_time);
        let layer = BreakerLayer::builder("orders").config(config).build();
        let layer = layer.unwrap().classify(GrpcClassifier);
        let inner = Inner::new();
        let handle = layer.handle();
        let mut service = layer.layer(inner.clone());
        let fields = [("grpc-status", "14"), ("grpc-retry-pushback-ms", pushback)];
        inner.does(if at_head {
            let mut failed = answer(200);
            for (name, value) in fields {
                let headers = failed.headers_mut();
                headers.insert(name, value.parse().unwrap());
            }
            Act::Answer(failed)
        } else {
            streamed(ScriptedBody::script().data("da").trailers(fields))
        });
        let answer = service.call(Request::new(())).await.unwrap();
        drop(answer.into_body().collect().await.unwrap());
        let snapshot = handle.snapshot();
        assert_eq!(snapshot.open_for, Some(open_for), "{at_head} {pushback}");
    }
}

fn streamed(script: BodyScript) -> Act {
    streamed_as(script.build().0)
}

fn streamed_as(body: ScriptedBody) -> Act {
    Act::Answer(Response::new(Body::new(body)))
}

fn broken_off() -> Act {
    streamed(ScriptedBody::script().data("da").error("reset"))
}

/// Pauses for good after its first piece.
fn paused() -> Act {
    streamed(ScriptedBody::script().data("data").hold().data("more"))
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_is_a_failure() {
    let world = World::new(config());
    for _ in 0..3 {
        world.inner.does(broken_off());
        let answer = world.send().await.unwrap();
        answer.into_body().collect().await.unwrap_err();
    }
    assert_eq!(world.snapshot().state, State::Open);
}

#[tokio::test(start_paused = true)]
async fn at_the_head_it_would_not_have_been_seen() {
    let layer =
        BreakerLayer::of(Breaker::new("orders", &config()).unwrap()).judge_at(JudgeAt::Head);
    let inner = Inner::new();
    for _ in 0..3 {
        inner.does(broken_off());
        let answer = tower::ServiceExt::oneshot(layer.layer(inner.clone()), Request::new(())).await;
        answer.unwrap().into_body().collect().await.unwrap_err();
    }
    assert_eq!(layer.handle().snapshot().state, State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_body_cut_by_a_stage_inside_is_not_the_upstreams_fault() {
    let world = World::new(config());
    let body = || {
        let frame = Err::<http_body::Frame<bytes::Bytes>, _>(refusal(Failure::Local));
        Body::new(http_body_util::StreamBody::new(Once(Some(frame))))
    };
    for _ in 0..3 {
        world.inner.does(Act::Answer(Response::new(body())));
        world
            .send()
            .await
            .unwrap()
            .into_body()
            .collect()
            .await
            .unwrap_err();
    }
    assert_eq!(world.snapshot().consecutive_failures, 0);
}

/// One item.
struct Once<T>(Option<T>);

impl<T: Unpin> futures_core::Stream for Once<T> {
    type Item = T;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.take())
    }
}

#[tokio::test(start_paused = true)]
async fn grpc_is_judged_by_its_trailers() {
    let layer = BreakerLayer::builder("orders")
        .config(config())
        .build()
        .unwrap();
    let layer = layer.classify(GrpcClassifier);
    let handle = layer.handle();
    let inner = Inner::new();
    for (status, failures) in [
        ("14", 1),
        ("13", 2),
        ("5", 0),
        ("14", 1),
        ("8", 1),
        ("1", 1),
    ] {
        let script = ScriptedBody::script()
            .data("data")
            .trailers([("grpc-status", status)]);
        inner.does(streamed(script));
        let answer = tower::ServiceExt::oneshot(layer.layer(inner.clone()), Request::new(())).await;
        let collected = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], status);
        assert_eq!(handle.snapshot().consecutive_failures, failures, "{status}");
    }
}

/// Story: a breaker as its builder makes it read no `grpc-status`, and stayed closed in front of an upstream that answered
/// UNAVAILABLE to all calls, since each of them is a 200.
#[tokio::test(start_paused = true)]
async fn a_failing_grpc_upstream_opens_a_breaker_that_nobody_told_of_grpc() {
    let unavailable = [("grpc-status", "14")];
    let trailers_only = || {
        let mut answer = answer(200);
        answer
            .headers_mut()
            .insert("grpc-status", HeaderValue::from_static("14"));
        answer
    };
    let in_trailers = || {
        let script = ScriptedBody::script().data("data").trailers(unavailable);
        Response::new(Body::new(script.build().0))
    };
    for unavailable in [&trailers_only as &dyn Fn() -> _, &in_trailers] {
        let world = World::new(config());
        for _ in 0..3 {
            let mut answer = unavailable();
            let grpc = HeaderValue::from_static("application/grpc+proto");
            answer.headers_mut().insert("content-type", grpc);
            world.inner.does(Act::Answer(answer));
            let answer = world.send_this(grpc_call()).await.unwrap();
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.unwrap();
        }
        assert_eq!(world.snapshot().state, State::Open);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_panics_says_nothing() {
    let world = World::new(config());
    world.fails(2).await;
    world.inner.does(Act::Panic);
    let mut service = world.service.clone();
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    let call = || service.call(Request::new(()));
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert_eq!(world.snapshot().state, State::Closed);
    world.fails(1).await;
    assert_eq!(world.snapshot().state, State::Open);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_says_nothing() {
    let world = World::new(config());
    for _ in 0..10 {
        world.inner.does(Act::Hang);
        assert!(timeout(60 * SECOND, world.send()).await.is_err());
    }
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.consecutive_failures),
        (State::Closed, 0)
    );
}

fn judging_latency() -> BreakerConfig {
    config().slow_rate(0.5, SECOND).min_calls(4)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_a_slow_call_leaves_a_slow_call() {
    let world = World::new(judging_latency());
    for leave_after in [900, 1000, 1100, 5000] {
        world.inner.does(Act::Hang);
        let patience = Duration::from_millis(leave_after);
        assert!(timeout(patience, world.send()).await.is_err());
    }
    let snapshot = world.snapshot();
    assert_eq!((snapshot.calls, snapshot.slow, snapshot.failed), (3, 3, 0));
}

/// Story: requests waited for a place in the gateway's own pool for longer than makes a call slow, and were refused. They
/// counted as slow calls, and the breaker opened for want of room in the gateway.
#[tokio::test(start_paused = true)]
async fn our_own_refusal_is_not_slow_however_long_it_took() {
    for rendered in [false, true] {
        let layer = BreakerLayer::builder("orders").config(judging_latency());
        let layer = layer.build().unwrap();
        let queue = tower::service_fn(move |_: Request<()>| async move {
            tokio::time::sleep(2 * SECOND).await;
            refused_within(rendered)
        });
        for _ in 0..4 {
            let answer = tower::ServiceExt::oneshot(layer.layer(queue), Request::new(())).await;
            assert_eq!(answer.is_ok(), rendered);
        }
        let snapshot = layer.handle().snapshot();
        assert_eq!((snapshot.state, snapshot.calls), (State::Closed, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn slow_is_the_time_to_the_head() {
    let world = World::new(judging_latency());
    world.inner.does(paused());
    let answer = world.send().await.unwrap();
    let mut body = answer.into_body();
    // A client that reads slowly does not make the upstream slow.
    advance(60 * SECOND).await;
    body.frame().await.unwrap().unwrap();
    advance(60 * SECOND).await;
    drop(body);
    let snapshot = world.snapshot();
    assert_eq!((snapshot.calls, snapshot.slow), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_was_waited_for_too_long_is_slow() {
    let world = World::new(judging_latency());
    for (patience, slow) in [(SECOND / 2, 0), (2 * SECOND, 1)] {
        world.inner.does(paused());
        let mut body = world.send().await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert!(timeout(patience, body.frame()).await.is_err());
        drop(body);
        assert_eq!(world.snapshot().slow, slow);
    }
}

#[tokio::test(start_paused = true)]
async fn our_own_deadline_is_a_failure() {
    let world = World::new(config());
    let mut failures = 0;
    for (deadline, patience) in [(5, 4), (5, 5), (5, 6)] {
        let mut request = Request::new(());
        let deadline = Deadline::at(Instant::now() + deadline * SECOND);
        request.extensions_mut().insert(deadline);
        world.inner.does(Act::Hang);
        assert!(
            timeout(patience * SECOND, world.send_this(request))
                .await
                .is_err()
        );
        failures += u32::from(patience >= 5);
    }
    assert_eq!(world.snapshot().consecutive_failures, failures);
}

/// Story: who sent a few calls with a deadline of a millisecond opened the breaker of whoever they were for.
#[tokio::test(start_paused = true)]
async fn a_deadline_of_the_clients_is_not_the_upstreams_failure() {
    let world = World::new(config());
    for by_client in [true, false] {
        let mut request = Request::new(());
        let deadline = Deadline::at(Instant::now() + 5 * SECOND);
        let deadline = match by_client {
            true => deadline.by_client(),
            false => deadline,
        };
        request.extensions_mut().insert(deadline);
        world.inner.does(Act::Hang);
        let sent = world.send_this(request);
        assert!(timeout(5 * SECOND, sent).await.is_err());
        let failures = world.snapshot().consecutive_failures;
        assert_eq!(failures, u32::from(!by_client));
    }
}

/// Story: all clients gave little time, so an upstream that hung was never seen to: each attempt ended by their deadline, and
/// said nothing.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_hangs_is_slow_though_clients_give_up_by_deadline() {
    for rendered in [false, true] {
        let layer = BreakerLayer::builder("orders").config(judging_latency());
        let layer = layer.build().unwrap();
        let hangs = tower::service_fn(move |request: Request<()>| async move {
            let deadline = request.extensions().get::<Deadline>().unwrap().instant();
            tokio::time::sleep_until(deadline).await;
            refused_within(rendered)
        });
        for _ in 0..4 {
            let mut request = Request::new(());
            let deadline = Deadline::at(Instant::now() + 2 * SECOND).by_client();
            request.extensions_mut().insert(deadline);
            let answer = tower::ServiceExt::oneshot(layer.layer(hangs), request).await;
            assert_eq!(answer.is_ok(), rendered);
        }
        assert_eq!(layer.handle().snapshot().state, State::Open);
    }
}

/// Story: an answer was cut at the deadline because its client read it slowly. It counted as the upstream's failure, so
/// five slow readers opened the breaker for everybody.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_a_slow_reader_is_not_the_upstreams_failure() {
    let world = World::new(config());
    for (reads_late, failures) in [(true, 0), (false, 1)] {
        let mut request = Request::new(());
        let deadline = Instant::now() + 5 * SECOND;
        request.extensions_mut().insert(Deadline::at(deadline));
        let script = ScriptedBody::script()
            .data("data")
            .claim_size(SizeHint::new());
        let script = match reads_late {
            true => script,
            // The upstream is waited for.
            false => script.hold(),
        };
        let (body, control) = script.error("the deadline has passed").build();
        world.inner.does(streamed_as(body));
        let mut body = world.send_this(request).await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        if !reads_late {
            assert!(timeout(SECOND, body.frame()).await.is_err());
        }
        advance(10 * SECOND).await;
        control.resume();
        body.frame().await.unwrap().unwrap_err();
        assert_eq!(world.snapshot().consecutive_failures, failures);
    }
}

/// Story: browsers that left a stream of events while it was quiet each left a slow call, and nothing else was counted:
/// twenty of them opened the breaker of a healthy upstream.
#[tokio::test(start_paused = true)]
async fn a_stream_of_events_may_be_quiet() {
    let world = World::new(judging_latency());
    for _ in 0..4 {
        let events = ScriptedBody::script().data("data").hold().data("more");
        let events = events.claim_size(SizeHint::new());
        world.inner.does(streamed(events));
        let mut body = world.send().await.unwrap().into_body();
        body.frame().await.unwrap().unwrap();
        assert!(timeout(60 * SECOND, body.frame()).await.is_err());
    }
    let snapshot = world.snapshot();
    assert_eq!((snapshot.state, snapshot.slow), (State::Closed, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_when_its_last_frame_is_handed_out() {
    let world = World::new(judging_latency());
    world
        .inner
        .does(streamed(ScriptedBody::script().data("data")));
    let mut body = world.send().await.unwrap().into_body();
    assert_eq!(world.snapshot().calls, 0);
    body.frame().await.unwrap().unwrap();
    // It is neither polled again nor dropped.
    assert_eq!(world.snapshot().calls, 1);
    assert!(body.is_end_stream());
    drop(body);
    assert_eq!(world.snapshot().calls, 1);
}

/// A server that knows the length polls no more when each byte is there.
#[tokio::test(start_paused = true)]
async fn a_stream_counts_when_each_byte_was_given_though_it_did_not_say_that_it_ended() {
    let world = World::new(judging_latency());
    let script = ScriptedBody::script().data("data").claim_end(false);
    world.inner.does(streamed(script));
    let mut body = world.send().await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(world.snapshot().calls, 0);
    drop(body);
    assert_eq!(world.snapshot().calls, 1);
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_ready_though_the_inner_service_is_not() {
    let world = World::new(config());
    world.fails(3).await;
    world.inner.does(Act::NotReady);
    let asked = world.inner.asked();
    assert!(is_refused(&world.send().await.unwrap()));
    assert_eq!(world.inner.asked(), asked);

    // The probe drives it to be ready, within the attempt: so it is known to hang.
    advance(10 * SECOND).await;
    assert!(timeout(SECOND, world.send()).await.is_err());
    assert_eq!(world.snapshot().state, State::HalfOpen);
    assert_eq!(world.snapshot().probes, 0);
    assert!(world.inner.asked() > asked);
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().probes_succeeded, 1);
}

#[tokio::test(start_paused = true)]
async fn while_closed_the_inner_service_is_asked() {
    let mut world = World::new(config());
    world.inner.does(Act::NotReady);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(world.service.poll_ready(&mut cx).is_pending());
    world.inner.status(200);
    assert!(world.service.poll_ready(&mut cx).is_ready());
    let future = pin!(world.service.call(Request::new(())));
    assert!(matches!(future.poll(&mut cx), Poll::Ready(Ok(_))));
}

#[tokio::test(start_paused = true)]
async fn shadow_lets_pass_what_it_would_refuse() {
    let world = World::new(config());
    world.handle.set_mode(Mode::Shadow);
    world.fails(3).await;
    assert_eq!(world.snapshot().state, State::Open);
    assert_eq!(world.answers(200).await, 200);
    // It does not count: enforced, it would not have been.
    assert_eq!(world.snapshot().state, State::Open);
    world.handle.set_mode(Mode::Enforce);
    assert!(is_refused(&world.send().await.unwrap()));
}

#[tokio::test(start_paused = true)]
async fn off_does_nothing_and_forgets() {
    let world = World::new(config());
    world.fails(3).await;
    world.handle.set_mode(Mode::Off);
    world.fails(10).await;
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.mode),
        (State::Disabled, Mode::Off)
    );
    world.handle.set_mode(Mode::Enforce);
    assert_eq!(world.snapshot().state, State::Closed);
    world.fails(3).await;
    assert_eq!(world.snapshot().state, State::Open);
}

#[tokio::test(start_paused = true)]
async fn what_is_forced_stays_until_it_is_reset() {
    let world = World::new(config());
    world.handle.force_closed();
    world.fails(10).await;
    let snapshot = world.snapshot();
    assert_eq!(
        (snapshot.state, snapshot.consecutive_failures),
        (State::ForcedClosed, 10)
    );
    world.handle.force_open();
    advance(3600 * SECOND).await;
    assert!(is_refused(&world.send().await.unwrap()));
    world.handle.reset();
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn it_is_configured_while_it_runs() {
    let world = World::new(config());
    world.fails(2).await;
    assert!(
        world
            .handle
            .reconfigure(&config().failure_rate(2.0))
            .is_err()
    );
    world
        .handle
        .reconfigure(&config().consecutive_failures(1))
        .unwrap();
    assert_eq!(world.snapshot().state, State::Closed);
    // This service was made before, and obeys all the same.
    world.fails(1).await;
    assert_eq!(world.snapshot().state, State::Open);
    // The state stays, and the open time is what is configured now.
    advance(Duration::from_millis(10)).await;
    let shorter = OpenTime::exponential(2 * SECOND, 80 * SECOND).jitter(gw_breaker::Jitter::None);
    world
        .handle
        .reconfigure(&config().open_time(shorter))
        .unwrap();
    assert!(world.snapshot().open_for < Some(2 * SECOND));
    advance(2 * SECOND).await;
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().state, State::HalfOpen);
    // A probe of the former configuration counts for nothing, and holds no slot.
    world
        .inner
        .does(streamed(ScriptedBody::script().data("data").hold()));
    let streaming = world.send().await.unwrap();
    assert_eq!(world.snapshot().probes, 1);
    world
        .handle
        .reconfigure(&config().half_open(HalfOpen::probes(1).successes(1)))
        .unwrap();
    assert_eq!(
        (world.snapshot().state, world.snapshot().probes),
        (State::HalfOpen, 0)
    );
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().state, State::Closed);
    drop(streaming);
    assert_eq!(world.snapshot().state, State::Closed);
}

/// Story: a reload of the configuration just after the upstream was back let everybody through at once, and who had
/// subscribed was never told.
#[tokio::test(start_paused = true)]
async fn a_ramp_outlives_a_new_configuration() {
    let config = config().ramp(100 * SECOND);
    let world = World::new(config);
    world.fails(3).await;
    advance(10 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(world.answers(200).await, 200);
    }
    assert_eq!(world.snapshot().state, State::Ramping);
    world.handle.reconfigure(&config).unwrap();
    assert_eq!(world.snapshot().state, State::Ramping);
    assert_eq!(world.handle.subscribe().state(), State::Ramping);
    let mut passed = 0;
    for _ in 0..100 {
        passed += u32::from(world.answers(200).await == 200);
    }
    assert!((5..=15).contains(&passed), "{passed}");
    // Without a ramp there is none to finish.
    world
        .handle
        .reconfigure(&config.ramp(Duration::ZERO))
        .unwrap();
    assert_eq!(world.answers(200).await, 200);
    assert_eq!(world.snapshot().state, State::Closed);
    assert_eq!(world.handle.subscribe().state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn each_upstream_has_a_breaker_of_its_own() {
    let layer = BreakerLayer::builder("other")
        .config(config())
        .per_upstream()
        .build()
        .unwrap();
    let handle = layer.handle();
    let inner = Inner::new();
    let send = async |upstream: Option<&str>, status| {
        inner.status(status);
        let mut request = Request::new(());
        if let Some(upstream) = upstream {
            request.extensions_mut().insert(UpstreamName::new(upstream));
        }
        tower::ServiceExt::oneshot(layer.layer(inner.clone()), request)
            .await
            .unwrap()
    };
    assert!(handle.upstream("orders").is_none());
    for _ in 0..3 {
        send(Some("orders"), 500).await;
        send(Some("users"), 200).await;
    }
    assert!(is_refused(&send(Some("orders"), 200).await));
    assert!(!is_refused(&send(Some("users"), 200).await));
    assert!(!is_refused(&send(None, 200).await));
    assert_eq!(
        handle.upstream("orders").unwrap().snapshot().state,
        State::Open
    );
    let names: Vec<_> = handle
        .snapshot()
        .into_iter()
        .map(|one| one.upstream.to_string())
        .collect();
    assert_eq!(names, ["orders", "users", "other"]);

    handle.set_mode(Mode::Off);
    assert!(!is_refused(&send(Some("orders"), 200).await));
    assert_eq!(send(Some("new"), 500).await.status(), 500);
    assert_eq!(handle.upstream("new").unwrap().mode(), Mode::Off);
}

#[tokio::test(start_paused = true)]
async fn a_reservation_is_not_kept_by_who_was_refused() {
    let layer = BreakerLayer::builder("orders")
        .config(config())
        .build()
        .unwrap();
    let limit = tower::limit::ConcurrencyLimit::new(Inner::new(), 1);
    let mut first = layer.layer(limit);
    let mut second = first.clone();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(first.poll_ready(&mut cx).is_ready());
    assert!(second.poll_ready(&mut cx).is_pending());
    layer.handle().force_open();
    let refused = first.call(Request::new(())).await.unwrap();
    assert!(is_refused(&refused));
    layer.handle().reset();
    assert!(second.poll_ready(&mut cx).is_ready());
}

#[test]
fn auto_traits() {
    use static_assertions::assert_impl_all;
    assert_impl_all!(BreakerLayer: Clone, Send, Sync);
    assert_impl_all!(support::Breaking: Clone, Send, Sync);
    assert_impl_all!(gw_breaker::Breaker: Clone, Send, Sync);
    assert_impl_all!(gw_breaker::Admission: Send, Sync);
    assert_impl_all!(gw_breaker::BreakerHandle: Clone, Send, Sync);
    assert_impl_all!(gw_breaker::ResponseBody<Body, gw_breaker::ContentClassifier>: Send);
    assert_impl_all!(gw_breaker::Changes: Clone, Send, Sync);
    fn is_send<T: Send>(_: &T) {}
    let mut world = World::new(config());
    is_send(&world.service.call(Request::new(())));
}

#[tokio::test(start_paused = true)]
async fn an_operator_reads_the_configuration_and_changes_a_part_of_it() {
    let handle = World::new(config().slow_rate(0.8, SECOND)).handle;
    let found = handle.config();
    assert_eq!(found.consecutive_failures, Some(3));
    assert_eq!(
        (found.failure_rate, found.slow_rate),
        (None, Some((0.8, SECOND)))
    );
    assert_eq!(
        (found.open_time.shortest, found.open_time.longest),
        (10 * SECOND, 80 * SECOND)
    );
    assert_eq!((found.half_open.probes, found.half_open.successes), (1, 2));

    let longer = found.half_open.max_wait(20 * SECOND);
    handle.reconfigure(&found.half_open(longer)).unwrap();
    let changed = handle.config();
    assert_eq!(
        (changed.half_open.successes, changed.half_open.max_wait),
        (2, 20 * SECOND)
    );
    assert_eq!(changed.open_time, found.open_time);
}
