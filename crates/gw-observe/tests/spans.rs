//! What is logged while a request runs carries its trace id.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;

use gw_core::Body;
use gw_observe::trace::TraceContext;
use gw_observe::{ObserveLayer, RequestBody, Trust, TrustedProxies};
use gw_testkit::log_capture::LogCapture;
use http::{Request, Response};
use support::{Pipe, every_request, flushed};
use tower::{Layer as _, ServiceExt as _, service_fn};

#[tokio::test]
async fn log_lines_within_a_request_name_its_trace() {
    let capture = LogCapture::new();
    let layer = ObserveLayer::builder().build().unwrap();
    let service = layer.layer(service_fn(async |request: Request<RequestBody<Body>>| {
        tracing::info!("before");
        tokio::task::yield_now().await;
        tracing::info!("after");
        let trace: TraceContext = *request.extensions().get().unwrap();
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(trace);
        Ok::<_, Infallible>(response)
    }));
    let response = capture
        .scope(service.oneshot(Request::new(Body::empty())))
        .await
        .unwrap();
    let trace: &TraceContext = response.extensions().get().unwrap();
    for message in ["before", "after"] {
        let trace_id = capture.only(message).field("trace_id");
        assert_eq!(trace_id, Some(trace.trace_id.to_string()), "{message}");
    }
}

/// Story: behind a server that does not tell the peer's address, the trace of no proxy was continued, and nothing said why.
#[tokio::test]
async fn a_peer_that_decides_and_is_not_known_is_told_of_once() {
    const MESSAGE: &str =
        "trace context: nobody's is continued, as the server does not say who calls; logged once";
    let proxies = TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]);
    for (trust, times) in [
        (Trust::Proxies(proxies), 1),
        (Trust::Nobody, 0),
        (Trust::Everybody, 0),
    ] {
        let capture = LogCapture::new();
        let layer = ObserveLayer::builder().trust(trust).build().unwrap();
        let service = service_fn(async |_: Request<RequestBody<Body>>| {
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        for _ in 0..3 {
            let sent = layer.layer(service).oneshot(Request::new(Body::empty()));
            capture.scope(sent).await.unwrap();
        }
        assert_eq!(capture.events().len(), times);
        if times > 0 {
            let missing = capture.only(MESSAGE).field("missing").unwrap();
            assert!(missing.contains("insert its PeerAddr"), "{missing}");
        }
    }
}

#[tokio::test]
async fn the_log_itself_says_nothing_of_single_requests() {
    let capture = LogCapture::new();
    let log = every_request(&Pipe::default()).start().unwrap();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    let service = layer.layer(service_fn(async |_: Request<RequestBody<Body>>| {
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    capture
        .scope(service.oneshot(Request::new(Body::empty())))
        .await
        .unwrap();
    flushed(&log.handle());
    assert!(capture.events().is_empty());
}
