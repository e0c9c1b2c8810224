//! The trace context on its way through the layer.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;

use gw_core::Body;
use gw_core::context::PeerAddr;
use gw_observe::trace::{TraceContext, TraceParent};
use gw_observe::{ObserveLayer, RequestBody, Trust, TrustedProxies};
use http::{HeaderMap, Request, Response};
use tower::{Layer as _, ServiceExt as _, service_fn};

const SENT: &str = "00-12345678901234567890123456789012-1234567890123456-03";

/// What an upstream is told when this was sent.
async fn passed_on(trust: Trust, fields: &[(&'static str, &str)]) -> (TraceParent, HeaderMap) {
    let layer = ObserveLayer::builder()
        .trust(trust)
        .sample(0.0)
        .build()
        .unwrap();
    let service = layer.layer(service_fn(async |request: Request<RequestBody<Body>>| {
        let sent = request.headers().get_all("traceparent");
        assert_eq!(sent.iter().count(), 1);
        let parent = TraceParent::parse(request.headers()["traceparent"].as_bytes()).unwrap();
        let context: &TraceContext = request.extensions().get().unwrap();
        assert_eq!(
            (context.trace_id, context.span_id),
            (parent.trace_id, parent.parent_id)
        );
        assert_eq!(context.sampled, parent.flags.is_sampled());
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(parent);
        *response.headers_mut() = request.headers().clone();
        Ok::<_, Infallible>(response)
    }));
    let mut request = Request::new(Body::empty());
    for (name, value) in fields {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let peer = PeerAddr(([10, 0, 0, 1], 49152).into());
    request.extensions_mut().insert(peer);
    let response = service.oneshot(request).await.unwrap();
    let parent = *response.extensions().get().unwrap();
    (parent, response.headers().clone())
}

fn proxies(network: &str) -> Trust {
    Trust::Proxies(TrustedProxies::new([network.parse().unwrap()]))
}

#[tokio::test]
async fn the_trace_of_those_who_are_trusted_goes_on() {
    for trust in [Trust::Everybody, proxies("10.0.0.0/8")] {
        let fields = [
            ("traceparent", SENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
        ];
        let (parent, headers) = passed_on(trust, &fields).await;
        assert_eq!(
            parent.trace_id.to_string(),
            "12345678901234567890123456789012"
        );
        assert_ne!(parent.parent_id.to_string(), "1234567890123456");
        assert!(parent.flags.is_sampled() && parent.flags.is_random());
        assert_eq!(headers["tracestate"], "a=1,b=2");
    }
}

#[tokio::test]
async fn all_others_start_a_trace() {
    for trust in [Trust::Nobody, Trust::default(), proxies("192.0.2.0/24")] {
        let fields = [("traceparent", SENT), ("tracestate", "a=1")];
        let (parent, headers) = passed_on(trust, &fields).await;
        assert_ne!(
            parent.trace_id.to_string(),
            "12345678901234567890123456789012"
        );
        assert!(!parent.flags.is_sampled() && parent.flags.is_random());
        assert!(!headers.contains_key("tracestate"));
    }
}

#[tokio::test]
async fn several_parents_are_none() {
    let fields = [
        ("traceparent", SENT),
        ("traceparent", SENT),
        ("tracestate", "a=1"),
    ];
    let (parent, headers) = passed_on(Trust::Everybody, &fields).await;
    assert_ne!(
        parent.trace_id.to_string(),
        "12345678901234567890123456789012"
    );
    assert!(!headers.contains_key("tracestate"));
}
