//! Layers that fit into several slots of a pipeline say which one it is that refuses.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::future::pending;
use std::time::Duration;

use gw_breaker::upload::UploadLayer;
use gw_breaker::{BreakerLayer, LatencyFrom};
use gw_core::record::{Exchange, Record};
use gw_core::{Body, BoxError};
use gw_pipeline::Pipeline;
use gw_retry::timeout::DeadlineLayer;
use http::{Request, Response};
use tower::{ServiceExt as _, service_fn};

/// The status of the answer where the service gives none, and what is noted.
async fn sent(breaker: BreakerLayer) -> (u16, Exchange) {
    let pipeline = Pipeline::builder()
        .pre_auth_limit(DeadlineLayer::new().limit(Duration::from_secs(1)).unwrap())
        .validate(breaker.latency_from(LatencyFrom::Sent))
        .transform(UploadLayer)
        // It says so and does not, or the pipeline's own timer would be the first.
        .forward_keeping_deadline(service_fn(|_| {
            pending::<Result<Response<Body>, BoxError>>()
        }))
        .build();
    let record = Record::default();
    let mut request = Request::new(Body::from("upload"));
    request.extensions_mut().insert(record.clone());
    let answer = pipeline.oneshot(request).await.unwrap();
    (answer.status().as_u16(), record.exchange())
}

/// Story: an open breaker was `forward` wherever it stood, and a deadline a stage of its own, and `plain` had to be around `UploadLayer`.
#[tokio::test(start_paused = true)]
async fn who_refuses_is_noted_by_the_slot() {
    let breaker = BreakerLayer::builder("orders").build().unwrap();
    let (status, noted) = sent(breaker.clone()).await;
    assert_eq!((status, noted.refused_by), (504, Some("pre_auth_limit")));
    assert_eq!(noted.cause, Some("deadline_passed"));
    breaker.handle().force_open();
    let (status, noted) = sent(breaker).await;
    assert_eq!((status, noted.refused_by), (503, Some("validate")));
    assert_eq!(noted.cause, None);
}
