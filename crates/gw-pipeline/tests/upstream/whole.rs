//! A whole pipeline with `Forward` at its end.

use std::convert::Infallible;
use std::time::Duration;

use gw_core::context::{Identity, IdentityParts, PeerAddr, UpstreamName};
use gw_core::key::TrustedProxies;
use gw_pipeline::inbound::{
    IdentityHeaders, IdentityHeadersLayer, IpFilterLayer, RequestIdLayer, Route, RouteResolveLayer,
    RouteTable,
};
use gw_pipeline::upstream::Forward;
use gw_pipeline::{Body, Pipeline, Timeouts};
use gw_testkit::body::ScriptedBody;
use gw_testkit::upstream::{At, Reply, Upstream, always};
use http::{HeaderName, Request, Response};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use tower::{Service, ServiceExt as _};

use crate::support::*;

fn pipeline(
    forward: Forward,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone {
    let upstream = || UpstreamName::new(NAME);
    let hasty = Timeouts::new().first_byte(Duration::from_millis(30));
    let routes = RouteTable::builder()
        .route(
            Route::path("small", "/small")
                .upstream(upstream())
                .max_body_bytes(8),
        )
        .route(
            Route::path("hasty", "/hasty")
                .upstream(upstream())
                .timeouts(hasty),
        )
        .route(Route::prefix("all", "/all").upstream(upstream()))
        .build()
        .unwrap();
    Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()))
        .transform(IdentityHeadersLayer::new(IdentityHeaders::default()))
        .forward(forward)
        .build()
}

fn from_outside(method: &str, target: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "shop.example")
        .extension(PeerAddr(PEER.parse().unwrap()))
        .body(body)
        .unwrap()
}

async fn read(response: Response<Body>) -> (u16, String) {
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn what_stages_found_out_goes_on_and_cannot_be_removed() {
    let upstream = Upstream::start(always(Reply::ok().body("ok"))).await;
    let protect = [HeaderName::from_static("x-user-id")];
    let service = pipeline(forward(&plain(&upstream)).protect(protect));
    let mut request = from_outside("GET", "/all/x/../a%62?q=%20", Body::empty());
    let identity = IdentityParts {
        user: Some("7".into()),
        ..IdentityParts::default()
    };
    request.extensions_mut().insert(Identity::new(identity));
    for (name, value) in [
        ("connection", "x-user-id, x-request-id"),
        ("x-user-id", "admin"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = service.oneshot(request).await.unwrap();
    let id = response.headers()["x-request-id"].clone();
    assert_eq!(read(response).await, (200, "ok".to_owned()));
    let received = upstream.requests().remove(0);
    assert_eq!(received.target, "/all/ab?q=%20");
    assert_eq!(
        received.headers.values("x-user-id").collect::<Vec<_>>(),
        ["7"]
    );
    assert_eq!(received.header("x-request-id").unwrap(), id);
    assert_eq!(received.header("x-forwarded-for"), Some("192.0.2.44"));
}

/// Story: it looked at what the upstream had got before that was there, and found nothing amiss with nothing.
#[tokio::test]
async fn a_body_that_turns_out_too_large_is_the_clients_fault() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = plain(&upstream);
    let script = ScriptedBody::script().data("01234567").hold().data("8");
    let (body, handle) = script.claim_size(SizeHint::default()).build();
    let service = pipeline(forward(&gateway));
    let answer = service.oneshot(from_outside("POST", "/small", Body::new(body)));
    let (response, ()) = tokio::join!(answer, async {
        upstream.arrived(1).await;
        handle.resume();
    });
    let (status, text) = read(response.unwrap()).await;
    assert_eq!(status, 413);
    assert!(text.contains("BODY_TOO_LARGE"), "{text}");
    upstream.ended(1).await;
    assert!(!upstream.requests()[0].complete);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn the_routes_timers_hold() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let gateway = plain(&upstream);
    let service = pipeline(forward(&gateway));
    let response = service
        .oneshot(from_outside("GET", "/hasty", Body::empty()))
        .await
        .unwrap();
    assert!(response.headers().contains_key("retry-after"));
    let (status, text) = read(response).await;
    assert_eq!(status, 504);
    assert!(text.contains("GATEWAY_TIMEOUT"), "{text}");
    is_quiet(&gateway).await;
}
