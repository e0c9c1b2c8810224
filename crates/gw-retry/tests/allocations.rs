//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use gw_core::Body;
use gw_retry::hedge::HedgeLayer;
use gw_retry::{ReplayBody, RetryLayer, RetryPolicy};
use http::{Method, Request, Response};
use http_body_util::Full;
use support::{ample, request};
use tower::{Layer as _, Service, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// How many allocations a request makes in the layer that is answered at once.
fn allocations(layer: &RetryLayer, make: impl Fn() -> Request<Body>) -> u64 {
    let bare: fn(Request<ReplayBody<Body>>) -> Ready<Answer> = |_| answer();
    allocations_of(layer.layer(service_fn(bare)), make)
}

fn answer() -> Ready<Answer> {
    ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))))
}

/// The second one, since the first registers metrics.
fn allocations_of<S>(mut service: S, make: impl Fn() -> Request<Body>) -> u64
where
    S: Service<Request<Body>>,
{
    let mut run = |request| {
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(_)) = pin!(service.call(request)).as_mut().poll(&mut cx) else {
            unreachable!("the inner service answers at once");
        };
    };
    let (first, second) = (make(), make());
    run(first);
    measure(|| run(second)).count_total
}

#[test]
fn none_for_what_is_sent_once() {
    let policy = RetryPolicy::builder().unsent(false).build().unwrap();
    let layer = RetryLayer::builder(ample()).policy(policy).build();
    assert_eq!(allocations(&layer, || request(Method::POST)), 0);
    let layer = RetryLayer::builder(ample()).policy(RetryPolicy::none());
    assert_eq!(allocations(&layer.build(), || request(Method::GET)), 0);
    let layer = RetryLayer::builder(ample()).build();
    assert_eq!(allocations(&layer, || request(Method::CONNECT)), 0);
}

/// A read with so many fields, and values of so many bytes, each a piece of memory of its own, as a server has them that has read them from
/// HTTP/2.
fn with_fields(fields: usize, value: usize) -> Request<Body> {
    let mut request = request(Method::GET);
    *request.uri_mut() = "http://orders:8080/a?b=c".parse().unwrap();
    let names = ["accept", "user-agent", "host", "cookie", "x-a", "x-b"];
    let more = ["x-c", "x-d", "x-e", "traceparent", "te", "from", "via"];
    for name in names.into_iter().chain(more).take(fields) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = http::HeaderValue::from_bytes(&vec![b'a'; value]).unwrap();
        request.headers_mut().insert(name, value);
    }
    assert_eq!(request.headers().len(), fields);
    request
        .extensions_mut()
        .insert(gw_core::context::Lane::new("core"));
    request
}

#[test]
fn one_for_a_read_and_one_more_for_a_long_head_or_many_fields() {
    let layer = RetryLayer::builder(ample()).build();
    assert_eq!(allocations(&layer, || request(Method::GET)), 1);
    assert_eq!(allocations(&layer, || with_fields(12, 20)), 1);
    assert_eq!(allocations(&layer, || with_fields(13, 20)), 2);
    assert_eq!(allocations(&layer, || with_fields(12, 40)), 2);
}

#[test]
fn one_for_a_read_that_may_be_hedged() {
    let layer = HedgeLayer::builder("orders").build().unwrap();
    let bare: fn(Request<Body>) -> Ready<Answer> = |_| answer();
    let service = layer.layer(service_fn(bare));
    assert_eq!(allocations_of(service, || with_fields(12, 20)), 1);
}

#[test]
fn two_more_for_a_body() {
    let layer = RetryLayer::builder(ample()).build();
    let upload = || support::with_body(Method::QUERY, Bytes::from_static(b"data"));
    assert_eq!(allocations(&layer, upload), 3);
}
