//! A budget that counts what is on its way counts answers to the end of their bodies.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use gw_retry::{Budget, ResponseBody, RetryInfo, RetryLayer, Stopped};
use gw_testkit::body::{BodyHandle, BodyScript, ScriptedBody};
use gw_testkit::service::ControlledService;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use support::{Failed, Sent, at_once, call, request};
use tokio::time::{Instant, advance};
use tower::Layer as _;

type Answer = Response<ResponseBody<ScriptedBody>>;

fn layer(budget: &Budget) -> RetryLayer {
    let policy = at_once().build().unwrap();
    RetryLayer::builder(budget.clone()).policy(policy).build()
}

fn script() -> BodyScript {
    ScriptedBody::script()
}

fn with(status: StatusCode, body: ScriptedBody) -> Response<ScriptedBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// Sends one GET, which fails so often before it is answered with this body.
async fn get(layer: &RetryLayer, failures: usize, body: BodyScript) -> (Answer, BodyHandle) {
    send(layer, failures, (StatusCode::OK, body)).await
}

/// Sends one GET, which fails so often before the last answer.
async fn send(
    layer: &RetryLayer,
    failures: usize,
    (status, body): (StatusCode, BodyScript),
) -> (Answer, BodyHandle) {
    let (service, handle) = ControlledService::<Sent, ScriptedBody, Failed>::new();
    let (body, control) = body.build();
    let answer = call(&mut layer.layer(service), request(Method::GET)).await;
    let answer = tokio::spawn(answer);
    for _ in 0..failures {
        let nothing = script().build().0;
        let failed = with(StatusCode::SERVICE_UNAVAILABLE, nothing);
        handle.next_call().await.respond(failed);
    }
    handle.next_call().await.respond(with(status, body));
    (answer.await.unwrap().unwrap(), control)
}

/// Story: a budget for one retry at a time let one through after the other, while the answers of all of them streamed: a retry was
/// over for it once there was a head.
#[tokio::test(start_paused = true)]
async fn a_retry_is_on_its_way_until_its_answer_has_ended() {
    let budget = Budget::builder("orders").share_of_active(0.0, 1);
    let budget = budget.build().unwrap();
    let layer = layer(&budget);
    let available = || budget.available(Instant::now());
    for end in ["whole", "error", "dropped"] {
        let body = script().data("half").hold();
        let body = match end {
            "error" => body.error("cut"),
            _ => body.data("whole"),
        };
        let (answer, control) = get(&layer, 1, body).await;
        assert_eq!(RetryInfo::of(&answer).attempts, 2);
        let mut body = answer.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        assert_eq!(available(), 0, "{end}");
        // Another request is not sent again meanwhile.
        let (service, handle) = ControlledService::<Sent, ScriptedBody, Failed>::new();
        handle.answer_with(|_| {
            let nothing = script().build().0;
            Ok(with(StatusCode::SERVICE_UNAVAILABLE, nothing))
        });
        let other = call(&mut layer.layer(service), request(Method::GET)).await;
        let stopped = RetryInfo::of(&other.await.unwrap()).stopped_because;
        assert_eq!((stopped, handle.calls()), (Stopped::Budget, 1));
        control.resume();
        match end {
            "dropped" => drop(body),
            // With the frame that ends it, and not when somebody gets round to dropping the body.
            _ => {
                let last = body.frame().await.unwrap();
                assert_eq!(last.is_err(), end == "error");
                assert_eq!(available(), 1, "{end}");
            }
        }
        assert_eq!(available(), 1, "{end}");
    }
}

/// Story: a body that does not say that it has ended behind its trailers, as hyper's of a chunked answer does not, kept its place
/// until it was dropped.
#[tokio::test(start_paused = true)]
async fn trailers_are_the_end() {
    let budget = Budget::builder("orders").share_of_active(0.0, 1);
    let budget = budget.build().unwrap();
    let layer = layer(&budget);
    let available = || budget.available(Instant::now());
    let body = script().data("data").trailers([("x-end", "1")]);
    let (answer, _) = get(&layer, 1, body.claim_end(false)).await;
    let mut body = answer.into_body();
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert_eq!(available(), 0);
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert_eq!(available(), 1);
    drop(body);
    assert_eq!(available(), 1);
}

/// Story: the answer of the last retry, which was a failure as well, streamed to the client and counted no more: it had given up
/// its place before there was another retry to take it.
#[tokio::test(start_paused = true)]
async fn so_is_one_that_has_failed_and_is_the_last() {
    // One at a time: the second retry has the place of the first.
    let builder = || Budget::builder("orders").share_of_active(0.0, 1);
    let one_a_second = builder().ratio(0.0).min_per_second(1);
    for (budget, attempts, because) in [
        (builder(), 3, Stopped::Attempts),
        (one_a_second, 2, Stopped::Budget),
    ] {
        let budget = budget.build().unwrap();
        let available = || budget.available(Instant::now());
        let layer = layer(&budget);
        let body = script().data("half").hold().data("whole");
        let last = (StatusCode::BAD_GATEWAY, body);
        let (answer, control) = send(&layer, attempts - 1, last).await;
        let info = RetryInfo::of(&answer);
        assert_eq!(
            (info.attempts as usize, info.stopped_because),
            (attempts, because)
        );
        // Then nothing but what is on its way is in the way of another.
        advance(Duration::from_secs(2)).await;
        assert_eq!(available(), 0, "{because:?}");
        control.resume();
        let body = answer.into_body().collect().await.unwrap();
        assert_eq!((body.to_bytes().len(), available()), (9, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn so_is_a_request() {
    // As many retries as there are requests.
    let budget = Budget::builder("orders").share_of_active(1.0, 0);
    let budget = budget.build().unwrap();
    let layer = layer(&budget);
    let available = || budget.available(Instant::now());
    let (streaming, control) = get(&layer, 0, script().data("half").hold().data("whole")).await;
    // What has ended with its head is over.
    let (empty, _) = get(&layer, 0, script()).await;
    assert_eq!(available(), 1);
    drop(empty);
    control.resume();
    let body = streaming.into_body().collect().await.unwrap();
    assert_eq!((body.to_bytes().len(), available()), (9, 0));
}
