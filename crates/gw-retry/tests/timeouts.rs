//! Deadlines, and the timers of an attempt.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gw_core::Body;
use gw_core::body::BoxError;
use gw_core::record::{Exchange, Record};
use gw_core::stage::{NoFacts, Stage};
use gw_retry::timeout::{
    AttemptTimeoutLayer, AttemptTimeouts, DeadlineLayer, GATEWAY_TIMEOUT, TimedBody, TimedOut,
    Timer,
};
use gw_retry::{
    Budget, ConfigError, Deadline, Failure, Mode, Rejection, Respond, RetryInfo, RetryLayer,
};
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{ControlledService, ServiceHandle};
use http::{HeaderName, Method, Request, Response};
use http_body_util::BodyExt as _;
use support::{at_once, call, poll, request, with_body};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, ServiceBuilder};

const SECOND: Duration = Duration::from_secs(1);

type Inner = ControlledService<Body, Body, std::convert::Infallible>;
type Handle = ServiceHandle<Body, Body, std::convert::Infallible>;

fn inner() -> (Inner, Handle) {
    ControlledService::new()
}

fn cause(rejection: &Rejection) -> Option<&TimedOut> {
    std::error::Error::source(rejection)?.downcast_ref()
}

fn deadline(limit: Duration) -> DeadlineLayer {
    DeadlineLayer::new().limit(limit).unwrap()
}

fn attempt(limit: Duration) -> AttemptTimeouts {
    AttemptTimeouts::new().attempt(limit).unwrap()
}

fn attempts(timeouts: AttemptTimeouts) -> AttemptTimeoutLayer {
    AttemptTimeoutLayer::new(timeouts)
}

/// What a call that is never answered ends with, and when.
async fn expired<L>(layer: L, request: Request<Body>) -> (u16, Failure, Timer, Duration)
where
    L: Layer<Inner>,
    L::Service: tower::Service<
            Request<Body>,
            Response = Response<gw_retry::timeout::TimedBody<Body>>,
            Error = std::convert::Infallible,
        >,
{
    let (service, handle) = inner();
    let start = Instant::now();
    let answer = call(&mut layer.layer(service), request)
        .await
        .await
        .unwrap();
    assert_eq!(handle.in_flight(), 0, "the work is dropped");
    let rejection = answer.extensions().get::<Rejection>().unwrap();
    let TimedOut(timer) = *cause(rejection).unwrap();
    let status = answer.status().as_u16();
    let failure = rejection.failure();
    assert!(answer.headers().contains_key("retry-after"));
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains("GATEWAY_TIMEOUT") && !text.contains(timer.as_str()));
    (status, failure, timer, start.elapsed())
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn an_exchange_ends_at_its_deadline() {
    let layer = deadline(3 * SECOND);
    let (status, failure, timer, after) = expired(layer.clone(), request(Method::GET)).await;
    assert_eq!(
        (status, failure, timer),
        (504, Failure::Local, Timer::Deadline)
    );
    assert_eq!(after.as_millis(), 3000);
    // An earlier stage's deadline is kept if it comes first, and a later one is not.
    for (set, expected) in [(1, 1000), (60, 3000)] {
        let mut sent = request(Method::GET);
        let deadline = Deadline::after(Instant::now(), set * SECOND).unwrap();
        sent.extensions_mut().insert(deadline);
        assert_eq!(expired(layer.clone(), sent).await.3.as_millis(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_may_ask_for_less() {
    let field = HeaderName::from_static("x-timeout-ms");
    let layer = deadline(3 * SECOND)
        .client_grpc_timeout()
        .client_field(field);
    for (name, value, expected) in [
        ("grpc-timeout", "1S", 1000),
        ("grpc-timeout", "1H", 3000),
        ("grpc-timeout", "soon", 3000),
        ("x-timeout-ms", "250", 250),
        ("x-timeout-ms", "-1", 3000),
    ] {
        let mut sent = request(Method::GET);
        sent.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(
            expired(layer.clone(), sent).await.3.as_millis(),
            expected,
            "{name}: {value}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_does_not_wait_for_is_not_the_upstreams_failure() {
    // Story: who sent a few calls with `grpc-timeout: 1m` opened the breaker of whoever they were for.
    let limit = attempt(2 * SECOND);
    for (own, clients, expected) in [
        (9, "1S", (Failure::Local, Timer::Deadline)),
        // Its own time is over first, or at once with the client's.
        (1, "5S", (Failure::Unknown, Timer::Deadline)),
        (1, "1S", (Failure::Unknown, Timer::Deadline)),
        (9, "5S", (Failure::Unknown, Timer::Attempt)),
        (9, "2S", (Failure::Unknown, Timer::Attempt)),
    ] {
        let (service, handle) = inner();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(None));
        let noted = std::sync::Arc::clone(&seen);
        let mut sent = request(Method::GET);
        sent.headers_mut()
            .insert("grpc-timeout", clients.parse().unwrap());
        let deadline = deadline(own * SECOND);
        let between = tower::util::MapResponseLayer::new(
            move |answer: Response<gw_retry::timeout::TimedBody<Body>>| {
                let rejection = answer.extensions().get::<Rejection>().unwrap();
                let TimedOut(timer) = *cause(rejection).unwrap();
                *noted.lock().unwrap() = Some((rejection.failure(), timer));
                answer
            },
        );
        let inside = between.layer(attempts(limit).layer(service));
        let mut service = deadline.client_grpc_timeout().layer(inside);
        let answer = call(&mut service, sent).await.await.unwrap();
        assert_eq!((answer.status().as_u16(), handle.in_flight()), (504, 0));
        assert_eq!(*seen.lock().unwrap(), Some(expected), "{own} {clients}");
    }
}

#[tokio::test(start_paused = true)]
async fn modes() {
    let deadline = deadline(SECOND);
    let attempt = attempts(attempt(SECOND).idle(SECOND).unwrap())
        .propagate_field(HeaderName::from_static("x-timeout-ms"));
    let handles = (deadline.handle(), attempt.handle());
    let (service, handle) = inner();
    // Built before: a switch is for all there is.
    let mut service = deadline.layer(attempt.layer(service));
    for mode in [Mode::Shadow, Mode::Off] {
        handles.0.set_mode(mode);
        handles.1.set_mode(mode);
        assert_eq!((handles.0.mode(), handles.1.mode()), (mode, mode));
        let mut answer = call(&mut service, request(Method::GET)).await;
        assert!(poll(&mut answer).is_pending());
        sleep(3 * SECOND).await;
        assert!(poll(&mut answer).is_pending());
        let (sent, responder) = handle.next_call().await.into_parts();
        assert!(sent.extensions().get::<Deadline>().is_none());
        assert!(sent.headers().is_empty());
        let (script, body) = ScriptedBody::script().data("a").hold().data("b").build();
        responder.respond(Response::new(Body::new(script)));
        let mut answer = answer.await.unwrap().into_body();
        assert!(answer.frame().await.unwrap().is_ok());
        assert!(poll(&mut answer.frame()).is_pending());
        sleep(3 * SECOND).await;
        assert!(poll(&mut answer.frame()).is_pending());
        body.resume();
        assert!(answer.frame().await.unwrap().is_ok());
    }
    handles.0.set_mode(Mode::Enforce);
    let answer = call(&mut service, request(Method::GET)).await.await;
    assert_eq!(answer.unwrap().status(), 504);
}

#[tokio::test(start_paused = true)]
async fn what_is_late_already_is_not_sent() {
    let (service, handle) = inner();
    let record = Record::default();
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(Deadline::at(Instant::now()));
    sent.extensions_mut().insert(record.clone());
    let answer = call(&mut DeadlineLayer::new().layer(service), sent)
        .await
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), handle.calls()), (504, 0));
    let noted = record.exchange();
    let (by, cause) = (noted.refused_by, noted.cause);
    assert_eq!((by, cause), (Some("forward"), Some("deadline_passed")));
    let (service, handle) = inner();
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(Deadline::at(Instant::now()));
    let layer = attempts(AttemptTimeouts::new());
    let answer = call(&mut layer.layer(service), sent).await.await.unwrap();
    let rejection = answer.extensions().get::<Rejection>().unwrap();
    assert_eq!((rejection.failure(), handle.calls()), (Failure::Refused, 0));
}

#[tokio::test(start_paused = true)]
async fn without_a_deadline_nothing_ends() {
    let (service, handle) = inner();
    let mut answer = call(
        &mut DeadlineLayer::new().layer(service),
        request(Method::GET),
    )
    .await;
    assert!(poll(&mut answer).is_pending());
    sleep(100_000 * SECOND).await;
    assert!(poll(&mut answer).is_pending());
    assert_eq!(handle.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_cuts_a_body_as_well() {
    let (service, handle) = inner();
    let layer = deadline(3 * SECOND);
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let (script, body) = ScriptedBody::script().data("data").hold().build();
    handle
        .next_call()
        .await
        .respond(Response::new(Body::new(script)));
    let mut answer = answer.await.unwrap().into_body();
    assert_eq!(
        answer.frame().await.unwrap().unwrap().into_data().unwrap(),
        "data"
    );
    let start = Instant::now();
    let error: BoxError = answer.frame().await.unwrap().err().unwrap();
    assert_eq!(error.downcast_ref(), Some(&TimedOut(Timer::Deadline)));
    assert_eq!(start.elapsed().as_millis(), 3000);
    assert!(answer.frame().await.is_none());
    drop(answer);
    assert!(body.is_dropped());
}

/// Stories: of an answer that a timer of ours cut, the log said that the upstream had broken it off. Then it said which timer it was
/// where the slot of a pipeline is meant.
#[tokio::test(start_paused = true)]
async fn who_cut_a_body_is_noted() {
    async fn cut<L>(layer: L) -> Exchange
    where
        L: Layer<Inner>,
        L::Service: tower::Service<
                Request<Body>,
                Response = Response<TimedBody<Body>>,
                Error = std::convert::Infallible,
            >,
    {
        let (service, handle) = inner();
        let mut sent = request(Method::GET);
        let record = Record::default();
        sent.extensions_mut().insert(record.clone());
        let mut answer = call(&mut layer.layer(service), sent).await;
        assert!(poll(&mut answer).is_pending());
        let (script, _) = ScriptedBody::script().data("data").hold().build();
        let attempt = handle.next_call().await;
        attempt.respond(Response::new(Body::new(script)));
        let body = answer.await.unwrap().into_body();
        let shadowed = tokio::time::timeout(100 * SECOND, body.collect()).await;
        assert!(!matches!(shadowed, Ok(Ok(_))));
        record.exchange()
    }
    let idle = attempts(AttemptTimeouts::new().idle(SECOND).unwrap());
    let whole = deadline(3 * SECOND);
    let idle_in = |slot| Stage::<NoFacts>::into_layer_in(idle.clone(), slot);
    let whole_in = |slot| Stage::<NoFacts>::into_layer_in(whole.clone(), slot);
    for (noted, slot, timer) in [
        (cut(whole.clone()).await, "forward", "deadline_passed"),
        (cut(idle.clone()).await, "forward", "idle_timeout"),
        (
            cut(whole_in("transform")).await,
            "transform",
            "deadline_passed",
        ),
        (cut(idle_in("validate")).await, "validate", "idle_timeout"),
    ] {
        assert_eq!((noted.refused_by, noted.cause), (Some(slot), Some(timer)));
        assert_eq!(noted.code, Some(&GATEWAY_TIMEOUT));
    }
    for noted in [
        cut(whole.mode(Mode::Shadow)).await,
        cut(idle.mode(Mode::Shadow)).await,
    ] {
        assert_eq!((noted.refused_by, noted.code), (None, None));
    }
}

/// Of an attempt that ends before its head nothing is noted: another one may follow.
#[tokio::test(start_paused = true)]
async fn an_attempt_without_a_head_is_not_noted() {
    let limits = attempt(SECOND).idle(SECOND).unwrap();
    let mut sent = request(Method::GET);
    let record = Record::default();
    sent.extensions_mut().insert(record.clone());
    assert_eq!(expired(attempts(limits), sent).await.0, 504);
    assert_eq!(record.exchange().refused_by, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_never_pauses_is_cut_and_the_last_frame_is_not() {
    let (service, handle) = inner();
    let layer = deadline(SECOND);
    for (frames, cut) in [(3, true), (1, false)] {
        let mut answer = call(&mut layer.layer(service.clone()), request(Method::GET)).await;
        assert!(poll(&mut answer).is_pending());
        let script = (0..frames).fold(ScriptedBody::script(), |script, _| script.data("data"));
        let script = script.claim_size(http_body::SizeHint::default()).build().0;
        handle
            .next_call()
            .await
            .respond(Response::new(Body::new(script)));
        let answer = answer.await.unwrap().into_body();
        advance(2 * SECOND).await;
        let collected = answer.collect().await;
        assert_eq!(collected.is_err(), cut, "{frames}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_limits_of_its_own() {
    let limits = attempt(2 * SECOND);
    let layer = attempts(limits);
    let (status, failure, timer, after) = expired(layer.clone(), request(Method::GET)).await;
    assert_eq!(
        (status, failure, timer),
        (504, Failure::Unknown, Timer::Attempt)
    );
    assert_eq!(after.as_millis(), 2000);
    let mut sent = request(Method::GET);
    sent.extensions_mut()
        .insert(limits.attempt(SECOND).unwrap());
    assert_eq!(expired(layer.clone(), sent).await.3.as_millis(), 1000);
    let mut sent = request(Method::GET);
    let deadline = Deadline::after(Instant::now(), millis(500)).unwrap();
    sent.extensions_mut().insert(deadline);
    let (_, failure, timer, after) = expired(layer, sent).await;
    assert_eq!((failure, timer), (Failure::Unknown, Timer::Deadline));
    assert_eq!(after.as_millis(), 500);
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_is_waited_for_without_an_upload() {
    let limits = attempt(5 * SECOND).first_byte(SECOND).unwrap();
    let (_, _, timer, after) = expired(attempts(limits), request(Method::GET)).await;
    assert_eq!((timer, after.as_millis()), (Timer::FirstByte, 1000));
    let upload = with_body(Method::PUT, "data");
    let (_, _, timer, after) = expired(attempts(limits), upload).await;
    assert_eq!((timer, after.as_millis()), (Timer::Attempt, 5000));
}

#[tokio::test(start_paused = true)]
async fn a_gap_is_too_long_and_a_slow_body_is_not() {
    let (service, handle) = inner();
    let layer = attempts(attempt(2 * SECOND).idle(SECOND).unwrap());
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let script = ScriptedBody::script()
        .data("a")
        .hold()
        .data("b")
        .hold()
        .data("c")
        .hold();
    let (script, body) = script.build();
    handle
        .next_call()
        .await
        .respond(Response::new(Body::new(script)));
    let mut answer = answer.await.unwrap().into_body();
    assert!(answer.frame().await.unwrap().is_ok());
    for _ in 0..2 {
        // The attempt's own limit is for the head: it is long over when the last of these comes.
        assert!(poll(&mut answer.frame()).is_pending());
        advance(millis(900)).await;
        assert!(poll(&mut answer.frame()).is_pending());
        body.resume();
        assert!(answer.frame().await.unwrap().is_ok());
    }
    let start = Instant::now();
    let error: BoxError = answer.frame().await.unwrap().err().unwrap();
    assert_eq!(error.downcast_ref(), Some(&TimedOut(Timer::Idle)));
    assert_eq!(start.elapsed().as_millis(), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_ready_answer_beats_a_timer() {
    let (service, handle) = inner();
    let layer = attempts(attempt(SECOND));
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let attempt = handle.next_call().await;
    advance(2 * SECOND).await;
    attempt.respond(Response::new(Body::empty()));
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_is_told_what_is_left() {
    let (service, handle) = inner();
    let field = HeaderName::from_static("x-timeout-ms");
    let layer = attempts(attempt(2 * SECOND));
    let layer = layer
        .propagate_grpc_timeout()
        .propagate_field(field)
        .margin(millis(50));
    let mut service = layer.layer(service);
    for (deadline, expected) in [
        (None, "1950"),
        (Some(SECOND), "950"),
        (Some(millis(20)), "1"),
    ] {
        let mut sent = request(Method::POST);
        let fields = sent.headers_mut();
        fields.insert("content-type", "application/grpc".parse().unwrap());
        fields.insert("grpc-timeout", "9S".parse().unwrap());
        if let Some(limit) = deadline {
            let deadline = Deadline::after(Instant::now(), limit).unwrap();
            sent.extensions_mut().insert(deadline);
        }
        let mut answer = call(&mut service, sent).await;
        assert!(poll(&mut answer).is_pending());
        let attempt = handle.next_call().await;
        let fields = attempt.request().headers();
        assert_eq!(fields["x-timeout-ms"], expected);
        assert_eq!(fields["grpc-timeout"], format!("{expected}m"));
        drop(answer);
        drop(attempt);
    }
}

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_is_tried_again_until_the_deadline() {
    let budget = Budget::builder("orders").build().unwrap();
    let policy = at_once().max_attempts(10).build().unwrap();
    type Passed = gw_retry::ReplayBody<Body>;
    let (service, handle) = ControlledService::<Passed, Body, std::convert::Infallible>::new();
    let mut service = ServiceBuilder::new()
        .layer(deadline(5 * SECOND).on_reject(Respond::new()))
        .layer(RetryLayer::builder(budget).policy(policy).build())
        .layer(attempts(attempt(2 * SECOND)))
        .service(service);
    let start = Instant::now();
    let answer = call(&mut service, request(Method::GET))
        .await
        .await
        .unwrap();
    assert_eq!((answer.status().as_u16(), handle.calls()), (504, 3));
    assert_eq!(start.elapsed().as_millis(), 5000);
    // Answers after two hung attempts.
    let (service, handle) = ControlledService::<Passed, Body, std::convert::Infallible>::new();
    let policy = at_once().build().unwrap();
    let layer = RetryLayer::builder(support::ample()).policy(policy).build();
    let mut service = layer.layer(attempts(attempt(2 * SECOND)).layer(service));
    let answer = tokio::spawn(call(&mut service, request(Method::GET)).await);
    let mut hung = [handle.next_call().await, handle.next_call().await];
    handle
        .next_call()
        .await
        .respond(Response::new(Body::from(Bytes::from_static(b"third"))));
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(RetryInfo::of(&answer).attempts, 3);
    hung.iter_mut()
        .for_each(|call| assert!(call.is_abandoned()));
}

#[test]
fn what_cannot_be() {
    // Story: with a limit of zero each request was answered 504, and nothing said so before.
    let zero = Duration::ZERO;
    let rejected = [
        ("limit", DeadlineLayer::new().limit(zero).err()),
        ("attempt", AttemptTimeouts::new().attempt(zero).err()),
        ("first_byte", AttemptTimeouts::new().first_byte(zero).err()),
        ("idle", AttemptTimeouts::new().idle(zero).err()),
    ];
    for (field, error) in rejected {
        let rule = ConfigError::new(field, "must be longer than zero");
        assert_eq!(error, Some(rule));
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_a_deadline_further_in_ends_was_sent() {
    // Story: it was given back to the budget as one that had never been sent, and left an answer that spoke of one attempt.
    let budget = Budget::builder("orders").ratio(10.0).min_per_second(0);
    let budget = budget.build().unwrap();
    let policy = at_once().build().unwrap();
    let retries = RetryLayer::builder(budget.clone()).policy(policy).build();
    let (service, handle) =
        ControlledService::<support::Sent, Body, std::convert::Infallible>::new();
    let deadline = DeadlineLayer::new().limit(SECOND).unwrap();
    let mut service = retries.layer(deadline.layer(service));
    let answer = tokio::spawn(call(&mut service, request(Method::GET)).await);
    let mut failed = Response::new(Body::empty());
    *failed.status_mut() = http::StatusCode::BAD_GATEWAY;
    handle.next_call().await.respond(failed);
    let hangs = handle.next_call().await;
    let answer = answer.await.unwrap().unwrap();
    assert!(hangs.is_abandoned());
    assert_eq!(answer.status(), 504);
    assert_eq!(RetryInfo::of(&answer).attempts, 2);
    assert_eq!(budget.available(Instant::now()), 9);
}
