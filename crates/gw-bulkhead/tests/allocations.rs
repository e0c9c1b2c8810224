//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use gw_bulkhead::key::Global;
use gw_bulkhead::{Codel, LaneConfig, Lanes};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use support::{one_lane, places, request_in};
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
    assert_passes_without_allocating(LaneConfig::new("core").queue(8));
}

#[test]
fn so_does_one_that_is_counted_by_client_and_looked_at_for_its_deadline() {
    let max = std::num::NonZeroU32::new(4).unwrap();
    let lane = LaneConfig::new("core").queue(8).codel(Codel::new());
    assert_passes_without_allocating(lane.deadline_aware(true).per_key(Global, max));
}

/// Once it has been warm: the first one registers metrics and makes the table of clients.
fn assert_passes_without_allocating(lane: LaneConfig) {
    let bare: fn(Request<()>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))));
    let mut service = one_lane(1, lane).layer(service_fn(bare));
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
