//! What an operator changes while requests run, for services that were made before.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use gw_retry::{RetryInfo, RetryLayer, RetryPolicy, RetryPolicyBuilder, Stopped};
use http::Method;
use support::{Outcome, ample, at_once, call, inner, read, request, response, with_body};
use tower::Layer as _;

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
