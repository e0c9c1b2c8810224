//! What an operator changes while requests run, for services that were made before.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::task::Poll;
use std::time::Duration;

use gw_core::{Body, Rejection};
use gw_retry::timeout::{
    AttemptTimeoutLayer, AttemptTimeouts, DeadlineLayer, TimedBody, TimedOut, Timer,
};
use gw_retry::{Failure, Mode, RetryInfo, RetryLayer, RetryPolicy, RetryPolicyBuilder, Stopped};
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::ControlledService;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use support::{
    Failed, Outcome, ample, at_once, call, inner, poll, read, request, response, with_body,
};
use tokio::time::{Instant, sleep};
use tower::{Layer as _, Service};

const SECOND: Duration = Duration::from_secs(1);

/// A layer that sends nothing again.
fn once() -> RetryLayer {
    let layer = RetryLayer::builder(ample());
    layer.policy(RetryPolicy::none()).build()
}

fn change(layer: &RetryLayer, policy: RetryPolicyBuilder) {
    layer.handle().set_policy(policy.build().unwrap());
}

fn info(outcome: &Outcome) -> (u32, Stopped) {
    let info = RetryInfo::of(outcome.as_ref().unwrap());
    (info.attempts, info.stopped_because)
}

#[tokio::test(start_paused = true)]
async fn another_policy() {
    let layer = once();
    let (service, handle) = inner();
    handle.answer_with(|_| Ok(response(503)));
    let mut service = layer.layer(service);
    for (policy, method, attempts) in [
        (at_once(), Method::GET, 3),
        (at_once().max_attempts(2), Method::GET, 2),
        (at_once(), Method::PUT, 1),
        (at_once().methods([Method::PUT]), Method::PUT, 3),
        (at_once().methods([Method::PUT]), Method::GET, 1),
        (at_once().statuses([]), Method::GET, 1),
    ] {
        change(&layer, policy);
        let outcome = call(&mut service, request(method)).await.await;
        assert_eq!(info(&outcome).0, attempts);
    }
    // A request's own takes its place, as before.
    let mut own = request(Method::GET);
    own.extensions_mut().insert(at_once().build().unwrap());
    let outcome = call(&mut service, own).await.await;
    assert_eq!(info(&outcome).0, 3);
    let policy = layer.handle().policy();
    assert_eq!(policy.max_attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn another_policy_says_how_much_of_a_body_is_kept() {
    let layer = once();
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    for (bytes, expected) in [(1024, (3, Stopped::Attempts)), (3, (1, Stopped::Body))] {
        change(&layer, at_once().replay_max(bytes));
        let sent = with_body(Method::QUERY, "data");
        let answer = tokio::spawn(call(&mut service, sent).await);
        for _ in 0..expected.0 {
            let (sent, responder) = handle.next_call().await.into_parts();
            assert_eq!(read(sent).await, "data");
            responder.respond(response(503));
        }
        assert_eq!(info(&answer.await.unwrap()), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_on_its_way_is_sent_again_as_often_as_the_new_policy_says() {
    let layer = once();
    change(&layer, at_once().max_attempts(10));
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let answer = tokio::spawn(call(&mut service, request(Method::GET)).await);
    let first = handle.next_call().await;
    change(&layer, at_once().max_attempts(2));
    first.respond(response(503));
    handle.next_call().await.respond(response(503));
    assert_eq!(info(&answer.await.unwrap()), (2, Stopped::Attempts));
}

/// Story: the mode was looked at when a request began. A thousand reads hung, the layer was switched off, and each of them was
/// sent again when it had ended with 504.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_the_layer_is_switched_off_is_not_sent_again() {
    let layer = support::layer(at_once());
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let before = layer.handle().snapshot().budget_available;
    let mut answer = call(&mut service, request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    layer.handle().set_mode(Mode::Off);
    handle.next_call().await.respond(response(504));
    let Poll::Ready(answer) = poll(&mut answer) else {
        panic!("it is sent again");
    };
    // As if there were no layer.
    assert_eq!(info(&answer), (1, Stopped::NotRetryable));
    let answer = answer.unwrap();
    assert!(answer.extensions().is_empty() && answer.headers().is_empty());
    assert_eq!(layer.handle().snapshot().budget_available, before);
}

/// Story: layers further out were told not to try again by one that had been switched off.
#[tokio::test(start_paused = true)]
async fn a_retry_that_waits_when_the_layer_is_switched_off_is_the_last() {
    let wait = gw_retry::Backoff::exponential(SECOND, SECOND);
    for (failure, expected) in [
        (Failure::Unknown, None),
        // What it was to replace.
        (Failure::Refused, Some((1, Stopped::Refused))),
    ] {
        let layer = support::layer(RetryPolicy::builder().backoff(wait));
        let (service, handle) = inner();
        let mut service = layer.layer(service);
        let mut answer = call(&mut service, request(Method::GET)).await;
        assert!(poll(&mut answer).is_pending());
        handle.next_call().await.respond(response(503));
        assert!(poll(&mut answer).is_pending());
        layer.handle().set_mode(Mode::Off);
        sleep(2 * SECOND).await;
        assert!(poll(&mut answer).is_pending());
        handle.next_call().await.fail(Failed(failure));
        let Poll::Ready(answer) = poll(&mut answer) else {
            panic!("it is sent a third time");
        };
        assert_eq!(answer.as_ref().ok().map(|_| info(&answer)), expected);
        assert!(answer.is_ok_and(|answer| answer.headers().is_empty()) == expected.is_some());
    }
}

/// When a call that is never answered ends, and by which timer.
async fn expired<S>(service: &mut S) -> (Duration, Timer)
where
    S: Service<Request<Body>, Response = Response<TimedBody<Body>>, Error = Infallible>,
{
    let start = Instant::now();
    let answer = call(service, request(Method::GET)).await.await.unwrap();
    let rejection = answer.extensions().get::<Rejection>().unwrap();
    let source = std::error::Error::source(rejection).unwrap();
    let TimedOut(timer) = *source.downcast_ref().unwrap();
    (start.elapsed(), timer)
}

#[tokio::test(start_paused = true)]
async fn another_limit_of_an_exchange() {
    let base = DeadlineLayer::new().limit(3 * SECOND).unwrap();
    let other = base.clone().limit(9 * SECOND).unwrap();
    let (hangs, _handle) = ControlledService::new();
    let (mut service, mut others) = (base.layer(hangs.clone()), other.layer(hangs));
    let handle = base.handle();
    let limit = |limit| handle.set_limit(limit).map_err(|error| error.to_string());
    assert_eq!(expired(&mut service).await, (3 * SECOND, Timer::Deadline));
    // One that is on its way keeps its own.
    let start = Instant::now();
    let under_way = call(&mut service, request(Method::GET)).await;
    limit(Some(SECOND)).unwrap();
    under_way.await.unwrap();
    assert_eq!(start.elapsed(), 3 * SECOND);
    assert_eq!(expired(&mut service).await, (SECOND, Timer::Deadline));
    let zero = limit(Some(Duration::ZERO));
    assert_eq!(zero.unwrap_err(), "limit: must be longer than zero");
    assert_eq!(handle.snapshot().limit, Some(SECOND));
    // A layer that was given another limit has it for itself.
    assert_eq!(expired(&mut others).await.0, 9 * SECOND);
    for none in [None, Some(Duration::MAX)] {
        limit(none).unwrap();
        assert_eq!(handle.snapshot().limit, none);
        let mut answer = call(&mut service, request(Method::GET)).await;
        let late = tokio::time::timeout(1_000_000 * SECOND, &mut answer);
        assert!(late.await.is_err());
    }
}

/// Story: in its settings a layer wrote to what it shared with the one that it was cloned from, and so switched that one as well.
#[tokio::test]
async fn a_mode_is_of_the_layer_that_it_is_given_to() {
    // Their handles are of two types.
    macro_rules! has_it_alone {
        ($base:expr) => {
            let base = $base;
            let tried_out = base.clone().mode(Mode::Shadow);
            let (of_base, of_other) = (base.handle(), tried_out.handle());
            assert_eq!(of_base.mode(), Mode::Enforce);
            assert_eq!(of_other.mode(), Mode::Shadow);
            of_base.set_mode(Mode::Off);
            assert_eq!(base.clone().handle().mode(), Mode::Off);
            assert_eq!(of_other.mode(), Mode::Shadow);
        };
    }
    has_it_alone!(DeadlineLayer::new());
    has_it_alone!(AttemptTimeoutLayer::new(AttemptTimeouts::new()));
}

#[tokio::test(start_paused = true)]
async fn other_limits_of_an_attempt() {
    let none = AttemptTimeouts::new();
    let attempt = |seconds: u32| none.attempt(seconds * SECOND).unwrap();
    let layer = AttemptTimeoutLayer::new(attempt(3));
    let (service, calls) = ControlledService::new();
    let mut service = layer.layer(service);
    let handle = layer.handle();
    assert_eq!(expired(&mut service).await, (3 * SECOND, Timer::Attempt));
    handle.set_timeouts(attempt(1));
    assert_eq!(expired(&mut service).await, (SECOND, Timer::Attempt));
    handle.set_timeouts(attempt(3).first_byte(2 * SECOND).unwrap());
    assert_eq!(expired(&mut service).await, (2 * SECOND, Timer::FirstByte));
    let snapshot = handle.snapshot();
    assert_eq!(
        (snapshot.attempt, snapshot.first_byte, snapshot.idle),
        (Some(3 * SECOND), Some(2 * SECOND), None)
    );
    // One of them changed, and the others as they are.
    handle.set_timeouts(handle.timeouts().idle(SECOND).unwrap());
    let both = attempt(3).first_byte(2 * SECOND).unwrap();
    assert_eq!(handle.timeouts(), both.idle(SECOND).unwrap());
    handle.set_timeouts(none.idle(SECOND).unwrap());
    assert_eq!(handle.snapshot().idle, Some(SECOND));
    let answer = tokio::spawn(call(&mut service, request(Method::GET)).await);
    sleep(100 * SECOND).await;
    let (hangs, _script) = ScriptedBody::script().hold().build();
    // Those above have been given up.
    for _ in 0..3 {
        assert!(calls.next_call().await.is_abandoned());
    }
    calls
        .next_call()
        .await
        .respond(Response::new(Body::new(hangs)));
    let answer = answer.await.unwrap().unwrap();
    let start = Instant::now();
    answer.into_body().collect().await.unwrap_err();
    assert_eq!(start.elapsed(), SECOND);
}
