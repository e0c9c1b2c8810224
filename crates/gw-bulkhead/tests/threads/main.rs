//! Lanes on threads of their own.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod crossing;
mod deadlines;
mod endings;
mod placement;
mod refused;
mod shape;
#[path = "../support/mod.rs"]
mod support;

use gw_bulkhead::threads::Threads;
use gw_bulkhead::{Bulkhead, BulkheadHandle, BulkheadLayer, LaneConfig};
use gw_core::Body;
use gw_testkit::within;
use http::Response;
use support::{Inner, InnerHandle, in_flight, inner, places};
use tower::Layer as _;

/// `logs` on a thread of its own with two places, `core` without.
fn two_lanes(logs: LaneConfig) -> BulkheadLayer<Threads> {
    BulkheadLayer::builder(places(100))
        .lane(LaneConfig::new("core"))
        .lane(logs.cap(0.02).threads(1))
        .with_threads()
        .build()
        .unwrap()
}

fn logs() -> LaneConfig {
    LaneConfig::new("logs")
}

fn controlled(layer: &BulkheadLayer<Threads>) -> (Bulkhead<Inner, Threads>, InnerHandle) {
    let (service, handle) = inner();
    (layer.layer(service), handle)
}

/// The lane's thread has its own pace: what it does is waited for, not slept for.
async fn settles_at(handle: &BulkheadHandle, expected: u32) {
    let handle = handle.clone();
    within(
        "the requests in flight to be as many as expected",
        async move {
            while in_flight(&handle) != expected {
                tokio::task::yield_now().await;
            }
        },
    )
    .await;
}

fn response(body: impl Into<Body>) -> Response<Body> {
    Response::new(body.into())
}
