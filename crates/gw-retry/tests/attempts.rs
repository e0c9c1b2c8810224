//! What is sent again, how often, and what the answer tells of it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gw_core::GrpcStatus;
use gw_core::awaited::Awaited;
use gw_core::context::{Attempt, Lane, RequestId, RouteMatch};
use gw_core::record::Record;
use gw_retry::timeout::{AttemptTimeoutLayer, AttemptTimeouts};
use gw_retry::{
    Backoff, Budget, Code, Deadline, Failure, Mode, Rejection, RetryInfo, RetryLayer, RetryPolicy,
    Stopped,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use support::{
    Answer, Failed, Outcome, ample, at_once, call, inner, layer, poll, request, response, run,
    with_body,
};
use tokio::time::{Instant, advance, sleep};
use tower::Layer as _;

fn stopped(answer: &Outcome) -> Stopped {
    RetryInfo::of(answer.as_ref().unwrap()).stopped_because
}

fn failed(failure: Failure) -> Answer {
    Err(Failed(failure))
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_is_hidden() {
    let layer = layer(at_once());
    for failure in [Failure::NotSent, Failure::Unprocessed, Failure::Unknown] {
        let answers = [failed(failure), Ok(response(503)), Ok(response(200))];
        let (answer, attempts) = run(&layer, request(Method::GET), answers).await;
        let answer = answer.unwrap();
        assert_eq!((answer.status(), attempts), (StatusCode::OK, 3));
        let info = RetryInfo::of(&answer);
        assert_eq!(
            (info.attempts, info.stopped_because),
            (3, Stopped::Answered)
        );
        assert!(!answer.headers().contains_key(RetryLayer::SHOULD_RETRY));
    }
}

#[tokio::test(start_paused = true)]
async fn what_succeeds_at_first_is_left_as_it_is() {
    let layer = layer(at_once());
    let (answer, attempts) = run(&layer, request(Method::GET), [Ok(response(200))]).await;
    assert_eq!(attempts, 1);
    assert!(answer.unwrap().extensions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_doubled() {
    let layer = layer(at_once());
    for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
        let sent = request(method.clone());
        let (answer, attempts) = run(&layer, sent, [Ok(response(503))]).await;
        assert_eq!(
            (attempts, stopped(&answer)),
            (1, Stopped::Unsafe),
            "{method}"
        );
        let sent = request(method.clone());
        let (answer, attempts) = run(&layer, sent, [failed(Failure::Unknown)]).await;
        assert_eq!((answer.is_err(), attempts), (true, 1), "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_left_no_trace_is_sent_again() {
    let layer = layer(at_once());
    for failure in [Failure::NotSent, Failure::Unprocessed] {
        let answers = [failed(failure), Ok(response(201))];
        let (answer, attempts) = run(&layer, request(Method::POST), answers).await;
        assert_eq!(
            (answer.unwrap().status(), attempts),
            (StatusCode::CREATED, 2)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn our_own_refusals_stand() {
    const FULL: Code = Code::new(
        "OVERLOADED",
        StatusCode::SERVICE_UNAVAILABLE,
        "Full.",
        GrpcStatus::Unavailable,
    );
    let layer = layer(at_once());
    let mut refusal = response(503);
    refusal.extensions_mut().insert(Rejection::new(&FULL));
    let (answer, attempts) = run(&layer, request(Method::GET), [Ok(refusal)]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Local));
    let (answer, attempts) = run(&layer, request(Method::GET), [failed(Failure::Local)]).await;
    assert_eq!((answer.is_err(), attempts), (true, 1));
}

#[tokio::test(start_paused = true)]
async fn a_client_fault_is_the_answer() {
    let layer = layer(at_once());
    for status in [400, 401, 404, 408, 409, 425, 429, 500, 501] {
        let (answer, attempts) = run(&layer, request(Method::GET), [Ok(response(status))]).await;
        assert_eq!((answer.unwrap().status().as_u16(), attempts), (status, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn ends_after_so_many_attempts_and_says_so() {
    let layer = layer(at_once().max_attempts(2));
    let answers = [Ok(response(503)), Ok(response(502))];
    let (answer, attempts) = run(&layer, request(Method::GET), answers).await;
    let answer = answer.unwrap();
    assert_eq!((answer.status().as_u16(), attempts), (502, 2));
    assert_eq!(RetryInfo::of(&answer).stopped_because, Stopped::Attempts);
    // Layers further out are told, so that they do not multiply it.
    assert_eq!(answer.headers()[RetryLayer::SHOULD_RETRY], "false");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_again_further_out_is_sent_once_here() {
    let layer = layer(at_once());
    let mut again = request(Method::GET);
    again
        .headers_mut()
        .insert(RetryLayer::ATTEMPT, HeaderValue::from(2));
    let (answer, attempts) = run(&layer, again, [Ok(response(503))]).await;
    assert_eq!((answer.unwrap().status().as_u16(), attempts), (503, 1));
    let mut first = request(Method::GET);
    first
        .headers_mut()
        .insert(RetryLayer::ATTEMPT, HeaderValue::from(1));
    // Each of several layers further out may have said something.
    let mut both = request(Method::GET);
    for attempt in [1, 2] {
        let attempt = HeaderValue::from(attempt);
        both.headers_mut().append(RetryLayer::ATTEMPT, attempt);
    }
    let (_, attempts) = run(&layer, both, [Ok(response(503))]).await;
    assert_eq!(attempts, 1);
    let (_, attempts) = run(&layer, first, [Ok(response(503)), Ok(response(200))]).await;
    assert_eq!(attempts, 2);
}

/// Story: a POST of a route without retries failed, and what the layer had done for it was to answer it.
#[tokio::test(start_paused = true)]
async fn a_failure_of_what_is_not_tried_again_is_not_an_answer() {
    let layers = [
        layer(at_once().unsent(false)),
        layer(at_once().max_attempts(1)),
        layer(at_once().statuses([]).methods([Method::PUT])),
    ];
    for layer in layers {
        for (status, why) in [
            (503, Stopped::NotRetryable),
            (500, Stopped::NotRetryable),
            (429, Stopped::NotRetryable),
            (404, Stopped::Answered),
            (201, Stopped::Answered),
        ] {
            let sent = request(Method::POST);
            let (answer, _) = run(&layer, sent, [Ok(response(status))]).await;
            assert_eq!(stopped(&answer), why, "{status}");
        }
        let mut unavailable = response(200);
        for (name, value) in [("content-type", "application/grpc"), ("grpc-status", "14")] {
            let value = HeaderValue::from_static(value);
            unavailable.headers_mut().insert(name, value);
        }
        let (answer, _) = run(&layer, request(Method::POST), [Ok(unavailable)]).await;
        assert_eq!(stopped(&answer), Stopped::NotRetryable);
    }
    // After others that were tried again as well.
    let answers = [Ok(response(503)), Ok(response(500))];
    let (answer, _) = run(&layer(at_once()), request(Method::GET), answers).await;
    let info = RetryInfo::of(&answer.unwrap());
    let told = (info.attempts, info.stopped_because);
    assert_eq!(told, (2, Stopped::NotRetryable));
}

#[tokio::test(start_paused = true)]
async fn what_takes_a_connection_over_is_sent_once() {
    let layer = layer(at_once());
    let mut upgrade = request(Method::GET);
    upgrade
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    for sent in [upgrade, request(Method::CONNECT)] {
        let (_, attempts) = run(&layer, sent, [failed(Failure::NotSent)]).await;
        assert_eq!(attempts, 1);
    }
}

/// Each attempt has one of its own: a breaker within would measure from the first one on.
#[tokio::test(start_paused = true)]
async fn whom_an_attempt_waited_for_is_not_copied() {
    let layer = RetryLayer::builder(ample())
        .policy(at_once().build().unwrap())
        .copy_extensions(|from, to| *to = from.clone())
        .build();
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(Awaited::new(Instant::now()));
    sent.extensions_mut().insert("of the user's");
    let mut answer = call(&mut service, sent).await;
    assert!(poll(&mut answer).is_pending());
    let first = handle.next_call().await;
    assert!(first.request().extensions().get::<Awaited>().is_some());
    first.respond(response(502));
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    let extensions = second.request().extensions();
    assert_eq!(extensions.get(), Some(&"of the user's"));
    assert!(extensions.get::<Awaited>().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_carries_the_head_and_what_is_known_of_the_request() {
    let envoys = HeaderName::from_static("x-envoy-attempt-count");
    let layer = RetryLayer::builder(ample())
        .policy(at_once().build().unwrap())
        .attempt_field(envoys.clone())
        .copy_extensions(|from, to| {
            if let Some(text) = from.get::<&'static str>() {
                to.insert(*text);
            }
        })
        .build();
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut sent = request(Method::GET);
    *sent.uri_mut() = "/orders?page=2".parse().unwrap();
    *sent.version_mut() = http::Version::HTTP_2;
    sent.headers_mut().append("accept", "a/b".parse().unwrap());
    sent.headers_mut().append("accept", "c/d".parse().unwrap());
    let record = Record::default();
    let route = RouteMatch::new(3, "orders", "/orders");
    let extensions = sent.extensions_mut();
    extensions.insert(record.clone());
    extensions.insert(route.clone());
    extensions.insert(Lane::new("core"));
    extensions.insert(RequestId::from_u128(7));
    extensions.insert("of the user's");
    // Not known, so not copied: it could stand for a connection.
    extensions.insert(7u8);
    let mut answer = call(&mut service, sent).await;
    assert!(poll(&mut answer).is_pending());
    let first = handle.next_call().await;
    assert!(!first.request().headers().contains_key(&envoys));
    assert_eq!(first.request().extensions().get::<u8>(), Some(&7));
    first.respond(response(502));
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    let (parts, _) = second.into_parts().0.into_parts();
    assert_eq!(parts.uri, "/orders?page=2");
    assert_eq!(parts.version, http::Version::HTTP_2);
    let accepts: Vec<_> = parts.headers.get_all("accept").iter().collect();
    assert_eq!(accepts, ["a/b", "c/d"]);
    assert_eq!(parts.headers[&envoys], "2");
    assert_eq!(parts.extensions.get::<RouteMatch>(), Some(&route));
    assert_eq!(parts.extensions.get::<Lane>().unwrap().as_str(), "core");
    assert!(parts.extensions.get::<RequestId>().is_some());
    assert_eq!(parts.extensions.get(), Some(&"of the user's"));
    assert_eq!(parts.extensions.get::<u8>(), None);
    let two = Attempt(NonZeroU32::new(2).unwrap());
    assert_eq!(parts.extensions.get(), Some(&two));
    // The record is shared with the observer, not a copy of it.
    parts
        .extensions
        .get::<Record>()
        .unwrap()
        .update(|e| e.attempts = 9);
    assert_eq!(record.exchange().attempts, 9);
}

#[cfg(feature = "axum")]
#[tokio::test(start_paused = true)]
async fn a_later_attempt_carries_the_address_that_axum_has_told() {
    use axum::extract::ConnectInfo;
    use gw_core::context::PeerAddr;

    let (service, handle) = inner();
    let mut service = layer(at_once()).layer(service);
    let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 49152));
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(ConnectInfo(peer));
    let mut answer = call(&mut service, sent).await;
    assert!(poll(&mut answer).is_pending());
    handle.next_call().await.respond(response(502));
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    let told = second.request().extensions().get::<PeerAddr>();
    assert_eq!(told, Some(&PeerAddr(peer)));
}

#[tokio::test(start_paused = true)]
async fn a_grpc_call_tells_how_many_went_before() {
    let layer = layer(at_once().idempotent_grpc(true));
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut sent = request(Method::POST);
    sent.headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let mut answer = call(&mut service, sent).await;
    assert!(poll(&mut answer).is_pending());
    let mut unavailable = response(200);
    unavailable
        .headers_mut()
        .insert("grpc-status", "14".parse().unwrap());
    handle.next_call().await.respond(unavailable);
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    let fields = second.request().headers();
    assert_eq!(fields["grpc-previous-rpc-attempts"], "1");
    second.respond(response(200));
    assert_eq!(answer.await.unwrap().status(), 200);
}

/// Story: a client's third try of a call was tried three times more, and told the upstream that it was the first that went before.
#[tokio::test(start_paused = true)]
async fn a_grpc_call_that_its_client_sends_again_is_sent_once_here() {
    let layer = layer(at_once().idempotent_grpc(true));
    for (before, expected) in [
        ("2", 1),
        ("99999999999999999999999", 1),
        ("0", 2),
        ("-1", 2),
    ] {
        let mut sent = request(Method::POST);
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-previous-rpc-attempts", before),
        ] {
            let value = HeaderValue::from_static(value);
            sent.headers_mut().insert(name, value);
        }
        let answers = [failed(Failure::Unknown), Ok(response(200))];
        let (answer, attempts) = run(&layer, sent, answers).await;
        assert_eq!((answer.is_ok(), attempts), (expected == 2, expected));
    }
    // Of others it is a field like any.
    let mut read = request(Method::GET);
    let two = HeaderValue::from_static("2");
    (read.headers_mut()).insert("grpc-previous-rpc-attempts", two);
    let answers = [Ok(response(503)), Ok(response(200))];
    assert_eq!(run(&layer, read, answers).await.1, 2);
}

#[tokio::test(start_paused = true)]
async fn only_a_number_says_that_a_request_was_sent_before() {
    let layer = layer(at_once());
    for (told, expected) in [
        ("2", 1),
        ("002", 1),
        ("99999999999999999999999", 1),
        // Several fields on one line, as a proxy may have made of them.
        ("1, 2", 1),
        ("1", 2),
        ("0", 2),
        ("", 2),
        ("second", 2),
        ("+2", 2),
    ] {
        let mut sent = request(Method::GET);
        let value = HeaderValue::from_static(told);
        sent.headers_mut().insert(RetryLayer::ATTEMPT, value);
        let answers = [Ok(response(503)), Ok(response(200))];
        assert_eq!(run(&layer, sent, answers).await.1, expected, "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_attempt_uses_the_ready_instance_and_the_next_a_clone() {
    let layer = layer(at_once());
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answer = call(&mut service, request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let first = handle.next_call().await;
    assert_eq!(first.instance(), 0);
    first.respond(response(503));
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    assert_ne!(second.instance(), 0);
    second.respond(response(200));
    assert_eq!(answer.await.unwrap().status(), 200);
    assert!(handle.violations().is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_is_not_waited_for() {
    let budget = Budget::builder("orders").min_per_second(1).build().unwrap();
    let layer = RetryLayer::builder(budget.clone());
    let layer = layer.policy(at_once().build().unwrap()).build();
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answer = call(&mut service, request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let left = budget.available(Instant::now());
    handle.set_not_ready();
    let mut failure = response(503);
    failure
        .headers_mut()
        .insert("x-of", "the first".parse().unwrap());
    handle.next_call().await.respond(failure);
    let answer = answer.await;
    assert_eq!(stopped(&answer), Stopped::NotReady);
    assert_eq!(answer.unwrap().headers()["x-of"], "the first");
    assert_eq!(handle.calls(), 1);
    // It was not sent, so it cost nothing.
    assert_eq!(budget.available(Instant::now()), left);
}

/// Story: an open breaker refused requests for a while, and each of them brought a part of a retry: when it closed, ten seconds' worth of
/// them was there, and nothing had been sent.
#[tokio::test(start_paused = true)]
async fn what_is_refused_before_it_is_sent_brings_nothing() {
    for (failure, expected) in [(Failure::Refused, 0), (Failure::Local, 2)] {
        let budget = Budget::builder("orders").min_per_second(0);
        let budget = budget.ratio(0.2).build().unwrap();
        let layer = RetryLayer::builder(budget.clone());
        let layer = layer.policy(at_once().build().unwrap()).build();
        for _ in 0..10 {
            let (answer, attempts) = run(&layer, request(Method::GET), [failed(failure)]).await;
            assert_eq!((answer.is_err(), attempts), (true, 1));
        }
        assert_eq!(budget.available(Instant::now()), expected);
    }
}

/// Story: a hundred requests waited in a lane's queue while the ratio was raised from a hundredth to one. They were refused, and a
/// hundred retries were taken back of which they had brought one.
#[tokio::test(start_paused = true)]
async fn what_a_request_brought_is_taken_back_as_it_was_counted() {
    let budget = Budget::builder("orders").ratio(0.01).min_per_second(0);
    let budget = budget.build().unwrap();
    let layer = RetryLayer::builder(budget.clone()).build();
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(call(&mut service, request(Method::GET)).await);
    }
    budget.set_ratio(1.0).unwrap();
    for answer in &mut answers {
        assert!(poll(answer).is_pending());
        handle.next_call().await.fail(Failed(Failure::Refused));
        answer.await.unwrap_err();
    }
    assert_eq!(budget.available(Instant::now()), 0);
    drop(budget.deposit(Instant::now()));
    assert_eq!(budget.available(Instant::now()), 1);
}

/// Story: a full lane refused requests after they had waited in its queue, and what each had brought was taken from what had been
/// brought since: for a while the budget had less than requests that were sent had paid for.
#[tokio::test(start_paused = true)]
async fn what_is_refused_after_a_wait_takes_nothing_from_others() {
    for wait in [5, 20] {
        let budget = Budget::builder("orders").min_per_second(0);
        let budget = budget.ratio(1.0).build().unwrap();
        let layer = RetryLayer::builder(budget.clone());
        let layer = layer.policy(at_once().build().unwrap()).build();
        let (service, handle) = inner();
        let mut service = layer.layer(service);
        let mut answer = call(&mut service, request(Method::GET)).await;
        assert!(poll(&mut answer).is_pending());
        advance(Duration::from_secs(wait)).await;
        drop(budget.deposit(Instant::now()));
        handle.next_call().await.fail(Failed(Failure::Refused));
        answer.await.unwrap_err();
        assert_eq!(budget.available(Instant::now()), 1, "after {wait} s");
        // Later than what the first one brought would have been over.
        advance(Duration::from_secs(7)).await;
        assert_eq!(budget.available(Instant::now()), 1, "after {wait} s");
    }
}

/// Story: an inner gateway that had no time left after several attempts did not say that it had given up, and the whole was tried again
/// further out.
#[tokio::test(start_paused = true)]
async fn who_gives_up_after_several_attempts_says_so_whatever_for() {
    let said = |outcome: &support::Outcome| {
        let answer = outcome.as_ref().unwrap();
        answer.headers().contains_key(RetryLayer::SHOULD_RETRY)
    };
    let second = Duration::from_secs(1);
    let patient = RetryPolicy::builder().backoff(Backoff::exponential(second, second));
    let patient = layer(patient.max_attempts(5));
    for (limit, expected) in [(second, 1), (2 * second, 2)] {
        let mut request = request(Method::GET);
        let deadline = Deadline::after(Instant::now(), limit).unwrap();
        request.extensions_mut().insert(deadline);
        let answers = [Ok(response(503)), Ok(response(503))];
        let (answer, attempts) = run(&patient, request, answers).await;
        assert_eq!((attempts, stopped(&answer)), (expected, Stopped::Deadline));
        assert_eq!(said(&answer), expected > 1);
    }
    for expected in [1, 2] {
        let (service, handle) = inner();
        let mut service = layer(at_once().max_attempts(5)).layer(service);
        let mut answer = call(&mut service, request(Method::GET)).await;
        for attempt in 1..=expected {
            assert!(poll(&mut answer).is_pending());
            if attempt == expected {
                handle.set_not_ready();
            }
            handle.next_call().await.respond(response(503));
        }
        let answer = answer.await;
        assert_eq!(stopped(&answer), Stopped::NotReady);
        assert_eq!(said(&answer), expected > 1);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unused_answer_is_dropped_before_the_next_attempt() {
    // Story: with a pool of one connection the retry waited for the connection that the answer it replaced still held.
    let layer = layer(at_once());
    let (script, body) = gw_testkit::body::ScriptedBody::script().hold().build();
    let (service, handle) =
        gw_testkit::service::ControlledService::<support::Sent, _, Failed>::new();
    let mut service = layer.layer(service);
    let mut answer = call(&mut service, request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let mut failure = http::Response::new(script);
    *failure.status_mut() = StatusCode::BAD_GATEWAY;
    let seen = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let dropped = std::sync::Arc::clone(&seen);
    let first = handle.next_call().await;
    handle.answer_with(move |_| {
        seen.store(body.is_dropped(), std::sync::atomic::Ordering::SeqCst);
        let empty = gw_testkit::body::ScriptedBody::script().build();
        Ok(http::Response::new(empty.0))
    });
    first.respond(failure);
    assert_eq!(answer.await.unwrap().status(), 200);
    assert!(dropped.load(std::sync::atomic::Ordering::SeqCst));
}

#[tokio::test(start_paused = true)]
async fn waits_between_attempts() {
    let wait = Duration::from_millis(100);
    let policy = RetryPolicy::builder().backoff(Backoff::exponential(wait, Duration::from_secs(1)));
    let layer = layer(policy);
    let start = Instant::now();
    let answers = [Ok(response(503)), Ok(response(503)), Ok(response(200))];
    let (_, attempts) = run(&layer, request(Method::GET), answers).await;
    assert_eq!((attempts, start.elapsed().as_millis()), (3, 300));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_says_when() {
    let layer = layer(at_once());
    let asks = |status, seconds: &'static str| {
        let mut response = response(status);
        let field = HeaderValue::from_static(seconds);
        response.headers_mut().insert("retry-after", field);
        Ok(response)
    };
    for status in [429, 503] {
        let start = Instant::now();
        let answers = [asks(status, "3"), Ok(response(200))];
        let (_, attempts) = run(&layer, request(Method::GET), answers).await;
        assert_eq!((attempts, start.elapsed().as_secs()), (2, 3));
        let (answer, attempts) = run(&layer, request(Method::GET), [asks(status, "60")]).await;
        assert_eq!((attempts, stopped(&answer)), (1, Stopped::Pushback));
        // The client hears it.
        assert_eq!(answer.unwrap().headers()["retry-after"], "60");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_beyond_all_time_is_not_none() {
    // Story: where a policy allows for any wait, the longest one that an upstream can ask for was sent again at once.
    let layer = layer(at_once().pushback_within(Duration::MAX));
    let (service, handle) = inner();
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let mut asks = response(503);
    let field = HeaderValue::from(u64::MAX);
    asks.headers_mut().insert("retry-after", field);
    handle.next_call().await.respond(asks);
    // Whether it waits or has been given up.
    let _ = poll(&mut answer);
    assert_eq!(handle.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_cannot_end_in_time_is_not_started() {
    let second = Duration::from_secs(1);
    let policy = RetryPolicy::builder().backoff(Backoff::exponential(second, second));
    let layer = layer(policy);
    let due_in = |limit| {
        let mut request = request(Method::GET);
        let deadline = Deadline::after(Instant::now(), limit).unwrap();
        request.extensions_mut().insert(deadline);
        request
    };
    let (answer, attempts) = run(&layer, due_in(second), [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Deadline));
    let answers = || [Ok(response(503)), Ok(response(200))];
    let (_, attempts) = run(&layer, due_in(2 * second), answers()).await;
    assert_eq!(attempts, 2);
    // From now on attempts are known to take three seconds.
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    // Story: of those that follow only an eighth was looked at, and what was known was soon forgotten again.
    for round in 0..20 {
        let mut answers = Vec::new();
        for _ in 0..10 {
            answers.push(tokio::spawn(call(&mut service, due_in(60 * second)).await));
        }
        handle.flying(10).await;
        sleep(3 * second).await;
        for answer in answers {
            handle.next_call().await.respond(response(200));
            assert!(answer.await.unwrap().is_ok());
        }
        if round > 3 {
            let (answer, attempts) = run(&layer, due_in(2 * second), [Ok(response(503))]).await;
            assert_eq!((attempts, stopped(&answer)), (1, Stopped::Deadline));
        }
    }
    let (_, attempts) = run(&layer, due_in(6 * second), answers()).await;
    assert_eq!(attempts, 2);
}

/// Story: a layer knew one time for all its routes. Where most requests were exports of three seconds, failed look-ups that had a
/// second left were not tried again.
#[tokio::test(start_paused = true)]
async fn what_a_route_takes_says_nothing_of_another() {
    let second = Duration::from_secs(1);
    let layer = layer(at_once());
    let routes = [1, 2].map(|_| at_once().build().unwrap());
    let [exports, lookups] = &routes;
    let of = |route: Option<&RetryPolicy>, limit| {
        let mut request = request(Method::GET);
        let deadline = Deadline::after(Instant::now(), limit).unwrap();
        request.extensions_mut().insert(deadline);
        if let Some(route) = route {
            request.extensions_mut().insert(route.clone());
        }
        request
    };
    for _ in 0..2 {
        let (service, handle) = inner();
        let mut service = layer.layer(service);
        let mut answers = Vec::new();
        for _ in 0..30 {
            let sent = of(Some(exports), 60 * second);
            answers.push(tokio::spawn(call(&mut service, sent).await));
        }
        handle.flying(30).await;
        sleep(3 * second).await;
        for answer in answers {
            handle.next_call().await.respond(response(200));
            assert!(answer.await.unwrap().is_ok());
        }
    }
    let failed = || [Ok(response(503))];
    let (answer, attempts) = run(&layer, of(Some(exports), second), failed()).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Deadline));
    // Neither of another route nor of those that have none.
    for other in [Some(lookups), None] {
        let answers = [Ok(response(503)), Ok(response(200))];
        let (_, attempts) = run(&layer, of(other, second), answers).await;
        assert_eq!(attempts, 2);
    }
}

/// Story: failures that are not tried again told how long attempts take that succeed. Of a route that failed with 500 after three
/// seconds, failures that a retry would have hidden were not tried again where a second was left.
#[tokio::test(start_paused = true)]
async fn how_long_failures_take_says_nothing_of_attempts_that_succeed() {
    let second = Duration::from_secs(1);
    let within = |limit| {
        let mut request = request(Method::GET);
        let deadline = Deadline::after(Instant::now(), limit).unwrap();
        request.extensions_mut().insert(deadline);
        request
    };
    for (status, attempts) in [(500, 2), (429, 2), (404, 1)] {
        let layer = layer(at_once());
        for _ in 0..2 {
            let (service, handle) = inner();
            let mut service = layer.layer(service);
            let mut answers = Vec::new();
            for _ in 0..30 {
                answers.push(tokio::spawn(call(&mut service, within(60 * second)).await));
            }
            handle.flying(30).await;
            sleep(3 * second).await;
            for answer in answers {
                handle.next_call().await.respond(response(status));
                assert!(answer.await.unwrap().is_ok());
            }
        }
        let answers = [Ok(response(503)), Ok(response(200))];
        let (_, sent) = run(&layer, within(second), answers).await;
        assert_eq!(sent, attempts, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_ends_it_and_is_shared_by_sixteen() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(10);
    let layer = RetryLayer::builder(budget.build().unwrap());
    let layer = layer
        .policy(at_once().max_attempts(2).build().unwrap())
        .build();
    let mut retries = 0;
    for n in 0..16 {
        let (service, handle) = inner();
        handle.answer_with(|_| Ok(response(503)));
        let answer = call(&mut layer.layer(service), request(Method::GET))
            .await
            .await;
        retries += handle.calls() - 1;
        let expected = if n < 10 {
            Stopped::Attempts
        } else {
            Stopped::Budget
        };
        assert_eq!(stopped(&answer), expected);
        assert_eq!(answer.unwrap().headers()[RetryLayer::SHOULD_RETRY], "false");
    }
    assert_eq!(retries, 10);
}

#[tokio::test(start_paused = true)]
async fn a_request_brings_its_own_policy_and_budget() {
    let layer = layer(at_once());
    let none = Budget::builder("payments").ratio(0.0).min_per_second(0);
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(none.build().unwrap());
    let (answer, attempts) = run(&layer, sent, [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Budget));
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(RetryPolicy::none());
    let (_, attempts) = run(&layer, sent, [Ok(response(503))]).await;
    assert_eq!(attempts, 1);
    let keyed = at_once().keyed_methods([Method::POST]).build().unwrap();
    let mut sent = request(Method::POST);
    sent.extensions_mut().insert(keyed);
    sent.headers_mut()
        .insert("idempotency-key", "\"k\"".parse().unwrap());
    let (_, attempts) = run(&layer, sent, [Ok(response(503)), Ok(response(200))]).await;
    assert_eq!(attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn modes() {
    let layer = layer(at_once());
    let handle = layer.handle();
    let before = handle.snapshot().budget_available;
    handle.set_mode(Mode::Shadow);
    assert_eq!(handle.mode(), Mode::Shadow);
    let (answer, attempts) = run(&layer, request(Method::GET), [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Shadow));
    assert_eq!(handle.snapshot().budget_available, before - 1);
    handle.set_mode(Mode::Off);
    let (answer, attempts) = run(&layer, request(Method::GET), [Ok(response(503))]).await;
    assert_eq!(attempts, 1);
    assert!(answer.unwrap().extensions().is_empty());
    handle.set_mode(Mode::Enforce);
    let answers = [Ok(response(503)), Ok(response(200))];
    let (_, attempts) = run(&layer, request(Method::GET), answers).await;
    assert_eq!((attempts, handle.snapshot().mode), (2, Mode::Enforce));
}

#[tokio::test(start_paused = true)]
async fn a_policy_can_be_tried_out_beside_others() {
    let layer = layer(at_once());
    let before = layer.handle().snapshot().budget_available;
    let shadow = at_once().shadow(true).build().unwrap();
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(shadow);
    let (answer, attempts) = run(&layer, sent, [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Shadow));
    // The others' budget is left alone.
    assert_eq!(layer.handle().snapshot().budget_available, before);
}

/// Story: a retry layer that was tried out in front of an upstream told those further out not to retry either, as soon as the budget
/// was used up: what was meant to change nothing took away the retries that there were.
#[tokio::test(start_paused = true)]
async fn what_is_tried_out_tells_nobody_not_to_retry() {
    let asks = || {
        let mut response = response(503);
        let field = HeaderValue::from_static("60");
        response.headers_mut().insert("retry-after", field);
        response
    };
    for shadow in ["layer", "policy", "layer's policy"] {
        let budget = Budget::builder("orders").ratio(0.0).min_per_second(0);
        let policy = || at_once().shadow(shadow != "layer").build().unwrap();
        let layer = RetryLayer::builder(budget.build().unwrap());
        let layer = match shadow {
            "layer" => layer.mode(Mode::Shadow).policy(policy()).build(),
            "policy" => layer.build(),
            _ => layer.policy(policy()).build(),
        };
        let sent = || {
            let mut sent = request(Method::GET);
            if shadow == "policy" {
                sent.extensions_mut().insert(policy());
            }
            sent
        };
        for (failure, why) in [
            (response(503), Stopped::Budget),
            (asks(), Stopped::Pushback),
        ] {
            let (answer, _) = run(&layer, sent(), [Ok(failure)]).await;
            assert_eq!(stopped(&answer), why, "{shadow}");
            let answer = answer.unwrap();
            assert!(!answer.headers().contains_key(RetryLayer::SHOULD_RETRY));
        }
        let no = HeaderValue::from_static("false");
        // What the upstream says of itself is passed on.
        let mut never = response(503);
        never.headers_mut().insert(RetryLayer::SHOULD_RETRY, no);
        let (answer, _) = run(&layer, sent(), [Ok(never)]).await;
        assert_eq!(answer.unwrap().headers()[RetryLayer::SHOULD_RETRY], "false");
    }
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_does_not_enforce() {
    let budget = Budget::builder("orders").ratio(0.0).min_per_second(0);
    let budget = budget.share_of_active(0.0, 0).mode(Mode::Shadow);
    let budget = budget.build().unwrap();
    assert!(!budget.is_zero());
    let layer = RetryLayer::builder(budget.clone());
    let layer = layer.policy(at_once().build().unwrap()).build();
    for mode in [Mode::Shadow, Mode::Off] {
        budget.set_mode(mode);
        let answers = [Ok(response(503)), Ok(response(503)), Ok(response(200))];
        let (answer, attempts) = run(&layer, request(Method::GET), answers).await;
        assert_eq!((attempts, stopped(&answer)), (3, Stopped::Answered));
        assert!(!budget.withdraw(Instant::now()).unwrap().is_within());
    }
    budget.set_mode(Mode::Enforce);
    let (answer, attempts) = run(&layer, request(Method::GET), [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Budget));
    // Nothing was taken, so nothing came back.
    assert_eq!(budget.available(Instant::now()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_seed_repeats_the_waits() {
    let elapsed = async |seed| {
        let layer = RetryLayer::builder(ample()).seed(seed).build();
        let start = Instant::now();
        let answers = [Ok(response(503)), Ok(response(503)), Ok(response(200))];
        let (answer, _) = run(&layer, request(Method::GET), answers).await;
        assert!(answer.is_ok());
        start.elapsed()
    };
    assert_eq!(elapsed(1).await, elapsed(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_sent_again() {
    let layer = layer(at_once().methods([Method::PUT]));
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answer = call(&mut service, with_body(Method::PUT, "some data")).await;
    for status in [503, 200] {
        assert!(poll(&mut answer).is_pending());
        let (sent, responder) = handle.next_call().await.into_parts();
        assert_eq!(http_body::Body::size_hint(sent.body()).exact(), Some(9));
        assert_eq!(support::read(sent).await, "some data");
        responder.respond(response(status));
    }
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_half_a_request_is_the_answer() {
    let layer = layer(at_once().methods([Method::PUT]));
    let sent = || with_body(Method::PUT, "some data");
    // Not one byte of the body was read.
    let (answer, attempts) = run(&layer, sent(), [Ok(response(503))]).await;
    assert_eq!((attempts, stopped(&answer)), (1, Stopped::Body));
    // A failure is no answer.
    let not_sent = || failed(Failure::NotSent);
    let answers = [not_sent(), failed(Failure::Unknown), Ok(response(200))];
    let (_, attempts) = run(&layer, sent(), answers).await;
    assert_eq!(attempts, 3);
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_has_ended_is_not_on_its_way() {
    // Story: a budget for one retry at a time refused the third attempt, for the sake of the second that had failed.
    let budget = Budget::builder("orders").share_of_active(0.0, 1);
    let layer = RetryLayer::builder(budget.build().unwrap())
        .policy(at_once().build().unwrap())
        .build();
    let answers = [Ok(response(503)), Ok(response(503)), Ok(response(200))];
    let (answer, attempts) = run(&layer, request(Method::GET), answers).await;
    assert_eq!((answer.unwrap().status(), attempts), (StatusCode::OK, 3));
    assert_eq!(layer.handle().snapshot().budget_available, 1);
}

/// A request that passes two layers.
type Twice = gw_retry::ReplayBody<support::Sent>;

/// What a gw upstream fails with.
fn unreachable() -> Result<http::Response<support::ResBody>, Rejection> {
    const CODE: Code = Code::new(
        "BAD_GATEWAY",
        StatusCode::BAD_GATEWAY,
        "",
        GrpcStatus::Unavailable,
    );
    Err(Rejection::new(&CODE).failed(Failure::NotSent))
}

#[tokio::test(start_paused = true)]
async fn errors_ask_those_further_out_not_to_try_again() {
    // Story: an upstream that could not be reached was tried three times by each of two gateways in a row, nine times in all.
    let told = |max: u32| async move {
        let layer = layer(at_once().max_attempts(max));
        let inner = tower::service_fn(|_: http::Request<support::Sent>| async { unreachable() });
        let sent = tower::ServiceExt::oneshot(layer.layer(inner), request(Method::GET));
        let rejection = sent.await.unwrap_err();
        rejection.fields().to_vec()
    };
    let no = HeaderValue::from_static("false");
    assert_eq!(told(3).await, [(RetryLayer::SHOULD_RETRY, no)]);
    assert_eq!(told(1).await, []);
}

/// Story: two layers in one process, each of which tried three times, sent five: what the inner one gave up on by an error or a
/// refusal the outer one tried again, since it looked at the failure and not at what was asked.
#[tokio::test(start_paused = true)]
async fn two_layers_do_not_add_up() {
    let calls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&calls);
    let error = tower::service_fn(move |_: http::Request<Twice>| {
        count.fetch_add(1, Ordering::SeqCst);
        async { unreachable() }
    });
    let layers = (layer(at_once()), layer(at_once()));
    let twice = layers.0.layer(layers.1.layer(error));
    let sent = tower::ServiceExt::oneshot(twice, request(Method::GET));
    let rejection = sent.await.unwrap_err();
    let no = HeaderValue::from_static("false");
    assert_eq!(rejection.fields(), [(RetryLayer::SHOULD_RETRY, no)]);
    assert_eq!(calls.swap(0, Ordering::SeqCst), 3);
    // By an answer that speaks for a failure.
    let count = Arc::clone(&calls);
    let hangs = tower::service_fn(move |_: http::Request<Twice>| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<Result<http::Response<gw_core::Body>, Infallible>>()
    });
    let timeouts = AttemptTimeoutLayer::new(
        AttemptTimeouts::new()
            .attempt(Duration::from_secs(1))
            .unwrap(),
    );
    let twice = layers.0.layer(layers.1.layer(timeouts.layer(hangs)));
    let answer = tower::ServiceExt::oneshot(twice, request(Method::GET)).await;
    assert_eq!(answer.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(calls.load(Ordering::SeqCst), 3);
}
