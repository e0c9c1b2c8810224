//! Metrics.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use gw_retry::hedge::HedgeLayer;
use gw_retry::timeout::{AttemptTimeoutLayer, AttemptTimeouts};
use gw_retry::{Budget, Failure, Mode, RetryLayer};
use gw_testkit::metrics_capture::MetricsCapture;
use http::{Method, Request};
use support::{Failed, Sent, at_once, call, layer, poll, request, response, run};
use tokio::time::sleep;
use tower::Layer as _;

const SECOND: Duration = Duration::from_secs(1);

const RETRIES: &str = "gateway_retries_total";
const EXHAUSTED: &str = "gateway_retry_budget_exhausted_total";

fn get() -> Request<Sent> {
    request(Method::GET).map(|_| Sent::default())
}

/// One of each kind of end.
async fn hedges() {
    let layer = HedgeLayer::builder("orders").min_samples(1);
    let layer = layer.max_extra_load(1.0).build().unwrap();
    let answered = async || {
        let (service, handle) = support::inner();
        handle.answer_with(|_| Ok(response(200)));
        call(&mut layer.layer(service), get()).await.await.unwrap();
        sleep(SECOND).await;
    };
    answered().await;
    answered().await;
    for outcome in ["won", "lost", "left", "refused", "shadow"] {
        let shadow = outcome == "shadow";
        if shadow {
            layer.handle().set_mode(Mode::Shadow);
        }
        let (service, handle) = support::inner();
        let mut answer = call(&mut layer.layer(service), get()).await;
        assert!(poll(&mut answer).is_pending());
        sleep(SECOND / 100).await;
        assert!(poll(&mut answer).is_pending());
        assert_eq!(handle.calls(), if shadow { 1 } else { 2 });
        let first = handle.next_call().await;
        match outcome {
            "won" => handle.next_call().await.respond(response(200)),
            "lost" => first.respond(response(200)),
            "refused" => {
                handle.next_call().await.fail(Failed(Failure::Refused));
                assert!(poll(&mut answer).is_pending());
                first.respond(response(200));
            }
            // Story: those whose callers left were sent, and counted nowhere.
            _ => continue,
        }
        answer.await.unwrap();
    }
}

/// One that is ended, and one that would have been and whose caller leaves.
async fn timeouts() {
    let layer = AttemptTimeoutLayer::new(AttemptTimeouts::new().attempt(SECOND).unwrap());
    let (service, _handle) = support::inner();
    let mut service = layer.layer(service);
    call(&mut service, get()).await.await.unwrap();
    layer.handle().set_mode(Mode::Shadow);
    let mut answer = call(&mut service, get()).await;
    assert!(poll(&mut answer).is_pending());
    sleep(2 * SECOND).await;
    assert!(poll(&mut answer).is_pending());
}

#[tokio::test(start_paused = true)]
async fn what_is_counted() {
    let retries = layer(at_once().max_attempts(4).idempotent_grpc(true));
    // Installed after the layer was built.
    let capture = MetricsCapture::new();
    capture.run(gw_retry::describe);
    let of = |reason| [("upstream", "orders"), ("reason", reason)];
    capture
        .scope(async {
            let failures = [Failure::NotSent, Failure::Unprocessed, Failure::Unknown];
            let [a, b, c] = failures.map(|failure| Err(Failed(failure)));
            let answers = [a, b, c, Ok(response(200))];
            assert_eq!(run(&retries, request(Method::GET), answers).await.1, 4);
            let mut throttled = response(429);
            throttled
                .headers_mut()
                .insert("retry-after", "1".parse().unwrap());
            let mut grpc = response(200);
            grpc.headers_mut()
                .insert("grpc-status", "14".parse().unwrap());
            let answers = [
                Ok(response(503)),
                Ok(throttled),
                Ok(grpc),
                Ok(response(200)),
            ];
            let mut sent = request(Method::POST);
            let content = "application/grpc".parse().unwrap();
            sent.headers_mut().insert("content-type", content);
            assert_eq!(run(&retries, sent, answers).await.1, 4);
            retries.handle().set_mode(Mode::Shadow);
            run(&retries, request(Method::GET), [Ok(response(503))])
                .await
                .0
                .unwrap();
            let none = Budget::builder("none").ratio(0.0).min_per_second(0);
            let none = RetryLayer::builder(none.build().unwrap()).build();
            run(&none, request(Method::GET), [Ok(response(503))])
                .await
                .0
                .unwrap();
            timeouts().await;
            let more = Budget::builder("more").ratio(0.0).min_per_second(0);
            let more = more.mode(Mode::Shadow).build().unwrap();
            let more = RetryLayer::builder(more).policy(at_once().build().unwrap());
            let answers = [Ok(response(503)), Ok(response(200))];
            let sent = run(&more.build(), request(Method::GET), answers).await;
            assert_eq!(sent.1, 2);
            hedges().await;
        })
        .await;
    for reason in [
        "not_sent",
        "unprocessed",
        "unknown",
        "status",
        "throttled",
        "grpc",
        "shadow",
    ] {
        capture.assert_counter(RETRIES, &of(reason), 1);
    }
    let more = [("upstream", "more"), ("reason", "status")];
    capture.assert_counter(RETRIES, &more, 1);
    assert_eq!(capture.counter_sum(RETRIES), 8);
    capture.assert_counter(EXHAUSTED, &[("upstream", "more")], 1);
    capture.assert_counter("gateway_timeouts_total", &[("timer", "shadow")], 1);
    for outcome in ["won", "lost", "left", "refused", "shadow"] {
        let of = [("upstream", "orders"), ("outcome", outcome)];
        capture.assert_counter("gateway_hedges_total", &of, 1);
    }
    capture.assert_counter(EXHAUSTED, &[("upstream", "none")], 1);
    capture.assert_counter("gateway_timeouts_total", &[("timer", "attempt")], 1);
    for series in capture.series() {
        assert!(
            capture.description(&series.name).is_some(),
            "{}",
            series.name
        );
    }
}
