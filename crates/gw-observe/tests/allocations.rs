//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use bytes::Bytes;
use gw_core::context::PeerAddr;
use gw_observe::{ObserveBuilder, ObserveLayer, RequestBody};
use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use support::{Pipe, every_request};
use tower::{Layer as _, Service as _, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// As a server hands it over: with the peer's address, and room for one more field.
fn request() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/a/path?query");
    request.headers_mut().reserve(8);
    let agent = HeaderValue::from_static("agent");
    request.headers_mut().insert("user-agent", agent);
    let extensions = request.extensions_mut();
    extensions.insert(PeerAddr(([192, 0, 2, 1], 80).into()));
    // A table of extensions grows at its fourth entry.
    extensions.insert(1u8);
    extensions.insert(2u16);
    extensions.insert(3u32);
    request
}

fn allocations(builder: ObserveBuilder) -> u64 {
    let bare: fn(Request<RequestBody<Full<Bytes>>>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))));
    let mut service = builder.build().unwrap().layer(service_fn(bare));
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
    let requests = [request(), request()];
    let [first, second] = requests;
    // The first time registers metrics, and makes the thread's buffer.
    run(first);
    measure(|| run(second)).count_total
}

/// What is observed, the record, record and trace as extensions, and the value of `traceparent`: no more, with metrics,
/// and with a line in the log. This number is here to be noticed when it changes.
const RECORD_AND_TRACE: u64 = 5;

#[test]
fn a_request_costs_its_record_and_its_trace() {
    assert_eq!(allocations(ObserveLayer::builder()), RECORD_AND_TRACE);
}

#[test]
fn a_line_costs_nothing() {
    let pipe = Pipe::stuck();
    for normal in [0.0, 1.0] {
        let log = every_request(&pipe).normal(normal).start().unwrap();
        let layer = ObserveLayer::builder().access_log(&log);
        assert_eq!(allocations(layer), RECORD_AND_TRACE);
        pipe.unstick();
    }
}
