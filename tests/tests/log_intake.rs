//! A pipeline that ends in the log intake: whose fault a body is that cannot be read.

#![allow(clippy::unwrap_used, reason = "assertions")]

use bytes::Bytes;
use gw_core::BoxError;
use gw_logingest::{Body, LogIngest, MemoryQueue};
use gw_pipeline::Pipeline;
use gw_pipeline::inbound::{RequestIdLayer, Route, RouteResolveLayer, RouteTable};
use gw_testkit::body::ScriptedBody;
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// What a POST of this body to a pipeline that ends in an intake is answered with.
async fn post<B>(body: B) -> (u16, Value, bool)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let routes = RouteTable::builder().route(Route::path("logs", "/api/logs"));
    let queue = MemoryQueue::builder().build().unwrap();
    let pipeline = Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes.build().unwrap()))
        .forward(LogIngest::builder(queue).build().unwrap())
        .build();
    let request = Request::post("/api/logs")
        .header("host", "test.example")
        .header("content-type", "application/x-ndjson")
        .body(Body::new(body))
        .unwrap();
    let answer = pipeline.oneshot(request).await.unwrap();
    let limits = answer.headers().contains_key("x-gw-log-limits");
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap(), limits)
}

/// Story: the intake took each body that failed for one that was broken off, and answered 400.
#[tokio::test(start_paused = true)]
async fn a_body_that_the_route_cuts_is_answered_for_what_it_was_cut_for() {
    let chunk = "x".repeat(1 << 20);
    let (body, _) = (0..3)
        .fold(ScriptedBody::script(), |script, _| {
            script.data(chunk.clone())
        })
        .build();
    let (status, json, limits) = post(body).await;
    let error = &json["error"];
    assert_eq!((status, &error["code"]), (413, &"BODY_TOO_LARGE".into()));
    assert_eq!(error["details"]["limit_bytes"], 2 << 20);
    assert!(limits);
}

/// Story: the route waits for five seconds, and the intake for ten: the client that says nothing was answered 400.
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_told_so() {
    let (body, _handle) = ScriptedBody::script().hold().build();
    let (status, json, limits) = post(body).await;
    assert_eq!(
        (status, &json["error"]["code"]),
        (408, &"CLIENT_TIMEOUT".into())
    );
    assert!(limits);
}
