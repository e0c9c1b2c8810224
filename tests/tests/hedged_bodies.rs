//! A hedge layer stands behind the layers that change a request's body.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;

use gw_breaker::upload::UploadLayer;
use gw_core::Body;
use gw_observe::ObserveLayer;
use gw_pipeline::inbound::{Route, RouteResolveLayer, RouteTable};
use gw_retry::hedge::HedgeLayer;
use http::{Request, Response};
use tower::{ServiceBuilder, ServiceExt as _};

type Hedged = gw_breaker::upload::RequestBody<
    gw_pipeline::inbound::RequestBody<gw_observe::RequestBody<Body>>,
>;

/// Story: the bodies of requests behind these layers had no default, so that with a hedge layer further in nothing compiled.
#[tokio::test]
async fn hedges_stand_behind_layers_that_change_the_body() {
    let routes = RouteTable::builder().route(Route::prefix("orders", "/"));
    let observe = ObserveLayer::builder().build().unwrap();
    let service = ServiceBuilder::new()
        .layer(observe)
        .layer(RouteResolveLayer::new(routes.build().unwrap()))
        .layer(UploadLayer)
        .layer(HedgeLayer::builder("orders").build().unwrap())
        .service_fn(async |_: Request<Hedged>| Ok::<_, Infallible>(Response::new(Body::empty())));
    let request = Request::builder().header("host", "shop.example");
    let answer = service.oneshot(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.unwrap().status(), 200);
    // What the second copy is sent with.
    let copy = Hedged::default();
    assert!(http_body::Body::is_end_stream(&copy));
}
