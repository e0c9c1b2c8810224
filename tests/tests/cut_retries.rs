//! What becomes of a retry that a layer of ours cuts short.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::time::Duration;

use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_core::Body;
use gw_retry::{Backoff, Budget, ReplayBody, RetryInfo, RetryLayer, RetryPolicy, Stopped};
use gw_testkit::service::{ControlledService, ServiceHandle};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer as _, ServiceExt as _};

/// Story: a lane cut retries that hung. Each had reached the upstream, and was given back to the budget as one that had never
/// been sent: nothing bounded what an upstream that hung was sent.
#[tokio::test(start_paused = true)]
async fn one_that_its_lane_cuts_was_sent() {
    // Ten retries for each request, and none that come back with time.
    let budget = Budget::builder("orders").ratio(10.0).min_per_second(0);
    let budget = budget.build().unwrap();
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let policy = RetryPolicy::builder().backoff(at_once).build().unwrap();
    let retries = RetryLayer::builder(budget.clone()).policy(policy).build();
    let lane = LaneConfig::new("core").max_hold(Duration::from_secs(1));
    let lanes = BulkheadLayer::builder(1).lane(lane);
    let lanes = lanes.build().unwrap();
    let (service, upstream): (_, ServiceHandle<ReplayBody<Body>, Body, Infallible>) =
        ControlledService::new();
    let service = retries.layer(lanes.layer(service));
    let answer = tokio::spawn(service.oneshot(Request::new(Body::empty())));
    let mut failed = Response::new(Body::empty());
    *failed.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    upstream.next_call().await.respond(failed);
    let hangs = upstream.next_call().await;
    let answer = answer.await.unwrap().unwrap();
    assert!(hangs.is_abandoned());
    assert_eq!(answer.status(), 504);
    let info = RetryInfo::of(&answer);
    assert_eq!((info.attempts, info.stopped_because), (2, Stopped::Local));
    assert_eq!(budget.available(Instant::now()), 9);
}
