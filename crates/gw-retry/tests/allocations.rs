//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use gw_core::Body;
use gw_retry::{ReplayBody, RetryLayer, RetryPolicy};
use http::{Method, Request, Response};
use http_body_util::Full;
use support::{ample, request};
use tower::{Layer as _, Service as _, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// How many allocations a request makes that is answered at once; the second one, since the first registers metrics.
fn allocations(layer: &RetryLayer, make: impl Fn() -> Request<Body>) -> u64 {
    let bare: fn(Request<ReplayBody<Body>>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))));
    let mut service = layer.layer(service_fn(bare));
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

/// A read with a query of so many bytes, and with fields as a server has them that has read them: names are pieces of memory of their own,
/// values parts of one.
fn with_fields(query: usize) -> Request<Body> {
    static READ: LazyLock<Bytes> = LazyLock::new(|| b"some value".to_vec().into());
    let mut request = request(Method::GET);
    let query = "q".repeat(query);
    *request.uri_mut() = format!("http://orders:8080/a?{query}").parse().unwrap();
    let names = ["accept", "user-agent", "host", "cookie"];
    let more = ["x-a", "x-b", "traceparent", "authorization"];
    for name in names.into_iter().chain(more) {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = http::HeaderValue::from_maybe_shared(READ.clone()).unwrap();
        request.headers_mut().insert(name, value);
    }
    request
        .extensions_mut()
        .insert(gw_core::context::Lane::new("core"));
    request
}

#[test]
fn one_for_a_read_and_one_more_for_a_long_target() {
    let layer = RetryLayer::builder(ample()).build();
    assert_eq!(allocations(&layer, || request(Method::GET)), 1);
    assert_eq!(allocations(&layer, || with_fields(20)), 1);
    assert_eq!(allocations(&layer, || with_fields(100)), 2);
}

#[test]
fn two_more_for_a_body() {
    let layer = RetryLayer::builder(ample()).build();
    let upload = || support::with_body(Method::QUERY, Bytes::from_static(b"data"));
    assert_eq!(allocations(&layer, upload), 3);
}
