//! Answers that a retry is to replace: what they hold is given back before it waits, and they are the answer after all if it
//! is not sent.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::pin::Pin;
use std::time::Duration;

use gw_core::context::{Deadline, Lane};
use gw_core::record::Record;
use gw_core::{Body, Code, GrpcStatus, Rejection};
use gw_retry::timeout::{AttemptTimeoutLayer, AttemptTimeouts};
use gw_retry::{Budget, Failure, ResponseBody, RetryInfo, RetryLayer, RetryPolicyBuilder, Stopped};
use gw_testkit::body::{BodyHandle, BodyScript, ScriptedBody};
use gw_testkit::service::{ControlledService, ServiceHandle};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyExt as _;
use support::{Failed, Sent, at_once, call, poll, request, with_body};
use tokio::time::{Instant, sleep};
use tower::Layer as _;

const MS: Duration = Duration::from_millis(1);

type Handle = ServiceHandle<Sent, ScriptedBody, Failed>;
type Outcome = Result<Response<ResponseBody<ScriptedBody>>, Failed>;
type Answer = Pin<Box<dyn Future<Output = Outcome>>>;

const OPEN: Code = Code::new(
    "CIRCUIT_OPEN",
    http::StatusCode::SERVICE_UNAVAILABLE,
    "Open.",
    GrpcStatus::Unavailable,
);

struct Case {
    budget: Budget,
    layer: RetryLayer,
}

impl Case {
    fn new(policy: RetryPolicyBuilder) -> Self {
        // Ten retries for each request, and none that come back with time.
        let budget = Budget::builder("orders").ratio(10.0).min_per_second(0);
        let budget = budget.build().unwrap();
        let layer = RetryLayer::builder(budget.clone());
        let layer = layer.policy(policy.build().unwrap()).build();
        Self { budget, layer }
    }

    /// The first attempt is on its way.
    async fn send(&self, sent: Request<Body>) -> (Answer, Handle) {
        let (service, handle) = ControlledService::new();
        let mut answer: Answer = call(&mut self.layer.layer(service), sent).await;
        assert!(poll(&mut answer).is_pending());
        (answer, handle)
    }

    /// The first attempt has failed with this body, and asks to be left alone for three seconds. Its retry waits.
    async fn fails(&self, sent: Request<Body>, body: BodyScript) -> (Answer, Handle, BodyHandle) {
        let (mut answer, handle) = self.send(sent).await;
        let (body, control) = body.build();
        let failure = Response::builder()
            .status(503)
            .header("retry-after", "3")
            .header("content-type", "text/plain")
            .header("etag", "\"a\"")
            .body(body);
        handle.next_call().await.respond(failure.unwrap());
        assert!(poll(&mut answer).is_pending());
        (answer, handle, control)
    }

    fn available(&self) -> u64 {
        self.budget.available(Instant::now())
    }
}

fn script() -> BodyScript {
    ScriptedBody::script()
}

fn refusal() -> Response<ScriptedBody> {
    let mut response = Response::new(script().data("refused").build().0);
    *response.status_mut() = OPEN.status();
    let refused = Rejection::new(&OPEN).failed(Failure::Refused);
    response.extensions_mut().insert(refused);
    response
}

/// Status, fields and content, with the trailers among the fields.
async fn content(answer: Response<ResponseBody<ScriptedBody>>) -> (u16, HeaderMap, Vec<u8>) {
    let (parts, body) = answer.into_parts();
    let stated = http_body::Body::size_hint(&body).exact();
    let ended = http_body::Body::is_end_stream(&body);
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().is_some();
    let mut fields = parts.headers;
    fields.extend(collected.trailers().cloned().unwrap_or_default());
    let bytes = collected.to_bytes().to_vec();
    // Story: with a length, HTTP/1 has no place for trailers, and left out those of an answer that was kept.
    assert_eq!(stated, (!trailers).then_some(bytes.len() as u64));
    assert_eq!(ended, bytes.is_empty());
    (parts.status.as_u16(), fields, bytes)
}

fn stopped(answer: &Response<ResponseBody<ScriptedBody>>) -> (u32, Stopped) {
    let info = RetryInfo::of(answer);
    (info.attempts, info.stopped_because)
}

#[tokio::test(start_paused = true)]
async fn a_body_is_read_before_the_wait_and_its_end_lets_go_of_all_it_held() {
    // Story: with a pool of one connection, the failure that was to be replaced after three seconds kept everybody else out
    // for as long.
    let case = Case::new(at_once());
    let failure = script().data("half").data("whole");
    let (answer, handle, body) = case.fails(request(Method::GET), failure).await;
    assert_eq!((body.frames(), body.is_dropped()), (2, true));
    let start = Instant::now();
    handle.answer_with(|_| Ok(Response::new(script().data("good").build().0)));
    let (status, _, bytes) = content(answer.await.unwrap()).await;
    assert_eq!((status, bytes), (200, b"good".to_vec()));
    assert_eq!(start.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_late_or_large_is_dropped() {
    let large = "x".repeat(3000);
    for (late, body) in [
        (true, script().data("half").hold()),
        (false, script().data(large.clone()).data(large.clone())),
        (false, script().data("x".repeat(5000)).data("more")),
        (false, script().data("half").error("cut")),
    ] {
        let case = Case::new(at_once());
        let failure = body.claim_size(http_body::SizeHint::default());
        let (mut answer, handle, body) = case.fails(request(Method::GET), failure).await;
        if late {
            assert!(!body.is_dropped());
            sleep(20 * MS).await;
            assert!(poll(&mut answer).is_pending());
        }
        assert!(body.is_dropped());
        // Nothing of it is passed for the whole.
        handle.set_not_ready();
        sleep(3000 * MS).await;
        let answer = answer.await.unwrap();
        assert_eq!(stopped(&answer), (1, Stopped::NotReady));
        let (status, fields, bytes) = content(answer).await;
        assert_eq!((status, bytes.len()), (503, 0));
        assert_eq!(fields["retry-after"], "3");
        assert!(!fields.contains_key("etag"));
    }
    // One that says that it is large is not read at all.
    let case = Case::new(at_once());
    let failure = script().data("x".repeat(5000));
    let (_answer, _, body) = case.fails(request(Method::GET), failure).await;
    assert!(body.is_dropped());
    assert_eq!(body.frames(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_leaves_the_answer_as_it_was() {
    let case = Case::new(at_once());
    let trailers = [("x-checked", "yes")];
    let failure = script().data("half").data("whole").trailers(trailers);
    let (answer, handle, _) = case.fails(request(Method::GET), failure).await;
    handle.set_not_ready();
    let (status, fields, bytes) = content(answer.await.unwrap()).await;
    assert_eq!((status, bytes), (503, b"halfwhole".to_vec()));
    for (name, value) in [
        ("etag", "\"a\""),
        ("x-checked", "yes"),
        ("retry-after", "3"),
    ] {
        assert_eq!(fields[name], value);
    }
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_is_refused_further_in_was_never_sent() {
    // Story: the breaker that opened meanwhile answered for the upstream, whose own answer and Retry-After were lost; and the
    // budget had paid.
    let case = Case::new(at_once());
    for rendered in [true, false] {
        let before = case.available();
        let mut sent = request(Method::GET);
        let record = Record::default();
        sent.extensions_mut().insert(record.clone());
        sent.extensions_mut().insert(Lane::new("core"));
        let failure = script().data("of the upstream");
        let (mut answer, handle, _) = case.fails(sent, failure).await;
        assert_eq!(case.available(), before + 9);
        sleep(3000 * MS).await;
        assert!(poll(&mut answer).is_pending());
        let second = handle.next_call().await;
        record.refused("breaker", &OPEN);
        match rendered {
            true => second.respond(refusal()),
            false => second.fail(Failed(Failure::Refused)),
        }
        let answer = answer.await.unwrap();
        assert_eq!(stopped(&answer), (1, Stopped::Refused));
        let (status, fields, bytes) = content(answer).await;
        assert_eq!((status, bytes), (503, b"of the upstream".to_vec()));
        assert_eq!(fields["retry-after"], "3");
        // By who is further out it would be refused as well, or elsewhere be one more for an upstream in trouble.
        assert_eq!(fields[RetryLayer::SHOULD_RETRY], "false");
        let noted = record.exchange();
        assert_eq!((noted.refused_by, noted.code), (None, None));
        assert_eq!(case.available(), before + 10, "it cost nothing");
    }
}

/// What a timer of the first attempt cut while its answer was read on, for which nobody waits any more, is not noted of the second.
#[tokio::test(start_paused = true)]
async fn what_was_cut_of_an_answer_that_is_replaced_is_not_noted() {
    let idle = AttemptTimeouts::new().idle(5 * MS).unwrap();
    let (service, handle) = ControlledService::<Sent, Body, Failed>::new();
    let case = Case::new(at_once());
    let attempts = AttemptTimeoutLayer::new(idle);
    let mut sent = request(Method::GET);
    let record = Record::default();
    sent.extensions_mut().insert(record.clone());
    let mut service = case.layer.layer(attempts.layer(service));
    let answer = tokio::spawn(call(&mut service, sent).await);
    let half = script().data("half").hold();
    let (half, _) = half.claim_size(http_body::SizeHint::default()).build();
    let failure = Response::builder().status(503).body(Body::new(half));
    handle.next_call().await.respond(failure.unwrap());
    let second = handle.next_call().await;
    second.respond(Response::new(Body::from("good")));
    let answer = answer.await.unwrap().unwrap();
    assert_eq!(RetryInfo::of(&answer).attempts, 2);
    let noted = record.exchange();
    assert_eq!((noted.refused_by, noted.code), (None, None));
    assert_eq!(noted.cause, None);
}

/// Story: clients that gave little time had their retries for nothing. The retry reached the upstream, which hung, and since
/// it was their own time that was over it counted as one that was never sent.
#[tokio::test(start_paused = true)]
async fn a_retry_that_runs_out_of_the_clients_time_was_sent() {
    let case = Case::new(at_once());
    let before = case.available();
    let mut sent = request(Method::GET);
    let deadline = Deadline::at(Instant::now() + 100 * MS).by_client();
    sent.extensions_mut().insert(deadline);
    let (mut answer, handle) = case.send(sent).await;
    let failed = Response::builder().status(503);
    let failed = failed.body(script().build().0).unwrap();
    handle.next_call().await.respond(failed);
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    sleep(100 * MS).await;
    second.fail(Failed(Failure::Local));
    assert_eq!(answer.await.unwrap_err(), Failed(Failure::Local));
    assert_eq!(case.available(), before + 9, "it was paid for");
}

#[tokio::test(start_paused = true)]
async fn a_failure_without_an_answer_is_the_answer_as_well() {
    let case = Case::new(at_once());
    let (mut answer, handle) = case.send(request(Method::GET)).await;
    handle.next_call().await.fail(Failed(Failure::NotSent));
    assert!(poll(&mut answer).is_pending());
    handle.next_call().await.respond(refusal());
    assert_eq!(answer.await.unwrap_err(), Failed(Failure::NotSent));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_fails_while_a_retry_is_sent_is_told_so() {
    let case = Case::new(at_once().methods([Method::PUT]));
    let (body, _) = script().data("half").error("cut").build();
    let (mut answer, handle) = case.send(with_body(Method::PUT, Body::new(body))).await;
    handle.next_call().await.fail(Failed(Failure::NotSent));
    assert!(poll(&mut answer).is_pending());
    let (second, responder) = handle.next_call().await.into_parts();
    assert!(second.into_body().collect().await.is_err());
    responder.fail(Failed(Failure::Local));
    assert_eq!(answer.await.unwrap_err(), Failed(Failure::Local));
    // It was sent, in part.
    assert_eq!(case.available(), 9);
    // One that was refused was not.
    let case = Case::new(at_once().methods([Method::PUT]));
    let (mut answer, handle) = case.send(with_body(Method::PUT, "data")).await;
    handle.next_call().await.fail(Failed(Failure::NotSent));
    assert!(poll(&mut answer).is_pending());
    handle.next_call().await.fail(Failed(Failure::Refused));
    assert_eq!(answer.await.unwrap_err(), Failed(Failure::NotSent));
    assert_eq!(case.available(), 10);
}
