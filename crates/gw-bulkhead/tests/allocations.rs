//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use gw_bulkhead::key::Global;
use gw_bulkhead::limit::{Gradient2, Limit, Outcome};
use gw_bulkhead::{BulkheadLayer, Codel, LaneConfig, Lanes};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use support::{one_lane, places, request_in};
use tokio::time::Instant;
use tower::{Layer as _, Service as _, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

#[test]
fn a_place_is_taken_and_given_back_without_allocating() {
    let lanes = Lanes::new(places(1), [LaneConfig::new("core")]).unwrap();
    let core = lanes.find("core").unwrap();
    // The first time registers metrics.
    drop(lanes.try_admit(core).unwrap());
    let used = measure(|| drop(lanes.try_admit(core).unwrap()));
    assert_eq!(used.count_total, 0);
}

#[test]
fn a_request_passes_without_allocating() {
    passes_without_allocating(&one_lane(1, LaneConfig::new("core").queue(8)));
}

#[test]
fn a_request_whose_answer_is_a_sample_passes_without_allocating() {
    let limit = Limit::adaptive(Gradient2::default())
        .min(1)
        .shortest(Duration::ZERO);
    let lane = LaneConfig::new("core").queue(8);
    let layer = BulkheadLayer::builder(limit).lane(lane).build().unwrap();
    passes_without_allocating(&layer);
}

#[test]
fn a_window_closes_without_allocating() {
    let limit = Limit::adaptive(Gradient2::default()).min(1);
    let lanes = Lanes::new(limit, [LaneConfig::new("core")]).unwrap();
    let core = lanes.find("core").unwrap();
    let permit = lanes.try_admit(core).unwrap();
    let start = Instant::now();
    let answered = |at: u32| {
        let started = start + Duration::from_millis(10) * at;
        let ended = started + Duration::from_millis(10);
        lanes.record(core, started, ended, Outcome::Answered);
    };
    // The first time registers metrics.
    (0..20).for_each(answered);
    let used = measure(|| (20..1000).for_each(answered));
    assert_eq!(used.count_total, 0);
    let adaptive = lanes.snapshot().lanes[0].adaptive.clone().unwrap();
    assert!(adaptive.windows > 50, "{adaptive:?}");
    drop(permit);
}

#[test]
fn so_does_one_that_is_counted_by_client_and_looked_at_for_its_deadline() {
    let max = std::num::NonZeroU32::new(4).unwrap();
    let lane = LaneConfig::new("core").queue(8).codel(Codel::new());
    let lane = lane.deadline_aware(true).per_key(Global, max);
    passes_without_allocating(&one_lane(1, lane));
}

/// Once it has been warm: the first one registers metrics and makes the table of clients.
fn passes_without_allocating(layer: &BulkheadLayer) {
    let bare: fn(Request<()>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))));
    let mut service = layer.layer(service_fn(bare));
    let mut run = |request| {
        let mut cx = Context::from_waker(Waker::noop());
        let mut future = pin!(service.call(request));
        let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
            unreachable!("the inner service answers at once");
        };
        let mut body = pin!(response.into_body());
        assert!(body.as_mut().poll_frame(&mut cx).is_ready());
        assert!(body.is_end_stream());
    };
    let (first, second) = (request_in("core"), request_in("core"));
    run(first);
    // The request itself is allocated outside, and freed inside.
    let used = measure(|| run(second));
    assert_eq!(used.count_total, 0);
}
