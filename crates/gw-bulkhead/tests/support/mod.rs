//! A layer over a service that the test drives.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test support: a broken expectation stops the test"
)]
#![allow(dead_code, reason = "no test file uses all of it")]

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use gw_bulkhead::{BulkheadHandle, BulkheadLayer, Lane, LaneConfig, LaneSnapshot};
use gw_core::Body;
use gw_core::record::Record;
use gw_testkit::service::{ControlledService, ServiceHandle};
use http::Request;
use tower::Service;

pub(crate) type Inner = ControlledService<(), Body, Infallible>;
pub(crate) type InnerHandle = ServiceHandle<(), Body, Infallible>;

pub(crate) const fn places(total: u32) -> NonZeroU32 {
    NonZeroU32::new(total).unwrap()
}

/// A bulkhead with one lane.
pub(crate) fn one_lane(total: u32, lane: LaneConfig) -> BulkheadLayer {
    BulkheadLayer::builder(total).lane(lane).build().unwrap()
}

pub(crate) fn inner() -> (Inner, InnerHandle) {
    ControlledService::new()
}

pub(crate) fn request() -> Request<()> {
    Request::new(())
}

pub(crate) fn request_in(lane: &str) -> Request<()> {
    let mut request = request();
    request.extensions_mut().insert(Lane::new(lane));
    request
}

/// The request with a record, and the record.
pub(crate) fn recorded(mut request: Request<()>) -> (Request<()>, Record) {
    let record = Record::default();
    request.extensions_mut().insert(record.clone());
    (request, record)
}

/// What the record says: who refused or cut, and why.
pub(crate) fn refused(record: &Record) -> (Option<&'static str>, Option<&'static str>) {
    let exchange = record.exchange();
    (exchange.refused_by, exchange.code.map(gw_core::Code::name))
}

/// Polls the service ready and calls it. The future is boxed so that it can be moved and dropped at will.
pub(crate) async fn call<S, R>(service: &mut S, request: R) -> Pin<Box<S::Future>>
where
    S: Service<R>,
{
    if poll_fn(|cx| service.poll_ready(cx)).await.is_err() {
        panic!("the service is not ready");
    }
    Box::pin(service.call(request))
}

/// Polls once, without a task to wake.
pub(crate) fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
    future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn first_lane(handle: &BulkheadHandle) -> LaneSnapshot {
    handle.snapshot().lanes.into_iter().next().unwrap()
}

pub(crate) fn in_flight(handle: &BulkheadHandle) -> u32 {
    handle.snapshot().in_flight
}
