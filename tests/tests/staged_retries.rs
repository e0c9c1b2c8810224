//! Retries, hedges and breakers as stages of a pipeline, whose errors are boxed.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gw_breaker::BreakerLayer;
use gw_core::{Body, BoxError, Code, Failure, GrpcStatus, Rejection};
use gw_pipeline::Pipeline;
use gw_retry::hedge::HedgeLayer;
use gw_retry::{Backoff, Budget, RetryInfo, RetryLayer, RetryPolicy};
use http::{Method, Request, Response, StatusCode};
use tower::{ServiceExt as _, service_fn};

const GONE: Code = Code::new(
    "GONE",
    StatusCode::BAD_GATEWAY,
    "A test.",
    GrpcStatus::Unavailable,
);

/// What became of a request whose first attempt fails so: its status, how often it was sent, and how often the answer says it was.
async fn sent(method: Method, error: fn() -> BoxError, fails: u32) -> (u16, u32, Option<u32>) {
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let policy = RetryPolicy::builder().backoff(at_once).build().unwrap();
    let budget = Budget::builder("orders").build().unwrap();
    let sent = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&sent);
    let service = service_fn(move |_| {
        let failed = counts.fetch_add(1, Ordering::Relaxed) < fails;
        async move {
            match failed {
                true => Err(error()),
                false => Ok(Response::new(Body::empty())),
            }
        }
    });
    let pipeline = Pipeline::builder()
        .authorize(RetryLayer::builder(budget).policy(policy).build())
        .validate(HedgeLayer::builder("orders").build().unwrap())
        .transform(BreakerLayer::builder("orders").build().unwrap())
        .forward(service)
        .build();
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    let answer = pipeline.oneshot(request).await.unwrap();
    let told = answer.extensions().get::<RetryInfo>();
    (
        answer.status().as_u16(),
        sent.load(Ordering::Relaxed),
        told.map(|told| told.attempts),
    )
}

/// Story: all three were stages, and fitted into no slot: the error there is boxed, and a boxed error did not say how an attempt failed.
#[tokio::test(start_paused = true)]
async fn a_stage_sends_again_what_a_boxed_error_lets_it() {
    let not_sent = || Rejection::new(&GONE).failed(Failure::NotSent).into();
    let refused = || Rejection::new(&GONE).failed(Failure::Refused).into();
    // Nobody knows what became of it.
    let unknown = || io::Error::other("reset").into();
    assert_eq!(sent(Method::GET, unknown, 1).await, (200, 2, Some(2)));
    assert_eq!(sent(Method::POST, unknown, 1).await, (500, 1, Some(1)));
    assert_eq!(sent(Method::POST, not_sent, 1).await, (200, 2, Some(2)));
    assert_eq!(sent(Method::GET, refused, 1).await, (502, 1, Some(1)));
    // The answer that the refusal becomes says how often it was tried.
    assert_eq!(sent(Method::GET, not_sent, 9).await, (502, 3, Some(3)));
}
