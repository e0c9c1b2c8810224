//! Each way in which a request ends gives its place back once. The conformance suite has the common ways; here are
//! those that are particular to lanes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use gw_bulkhead::{
    BulkheadLayer, Fail, Hold, LaneConfig, LayerError, Mode, ResponseBody, UpgradePermit,
};
use gw_core::Body;
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{ControlledService, ServiceError};
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use support::{call, first_lane, in_flight, inner, one_lane, poll, request};
use tower::Layer as _;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_inner_error_gives_it_back_and_is_passed_on() {
    let layer = one_lane(1, LaneConfig::new("core")).on_reject(Fail);
    let handle = layer.handle();
    let (service, inner) = ControlledService::<(), Body, ServiceError>::new();
    let mut future = call(&mut layer.layer(service), request()).await;
    assert!(poll(&mut future).is_pending());
    inner.next_call().await.fail(ServiceError::new("broken"));
    let error = future.as_mut().await.unwrap_err();
    assert!(matches!(error, LayerError::Inner(error) if error.to_string() == "broken"));
    // The future still exists.
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn a_refused_request_leaves_no_reservation_behind() {
    // Story: a server keeps a service for each connection. One whose last request was refused had polled the inner service ready,
    // and kept that for as long as the connection was idle: so many such connections as a limit further in had places stopped
    // everybody.
    let layer = one_lane(1, LaneConfig::new("core"));
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let _running = call(&mut service, request()).await;
    let mut connection = service.clone();
    let refused = call(&mut connection, request()).await.await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let instances = inner.instances().into_iter();
    let reserved = instances.filter(|instance| instance.ready && !instance.dropped);
    assert_eq!(reserved.count(), 0);
    // It is asked again before the next request.
    let refused = call(&mut connection, request()).await.await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((inner.calls(), inner.violations()), (1, vec![]));
}

#[tokio::test]
async fn leaving_the_queue_gives_nothing_back_and_takes_nothing() {
    let layer = one_lane(1, LaneConfig::new("core").queue(1));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut first = call(&mut service, request()).await;
    assert!(poll(&mut first).is_pending());
    for _ in 0..3 {
        let mut waiting = call(&mut service, request()).await;
        assert!(poll(&mut waiting).is_pending());
        assert_eq!((first_lane(&handle).queued, in_flight(&handle)), (1, 1));
        drop(waiting);
        assert_eq!((first_lane(&handle).queued, in_flight(&handle)), (0, 1));
    }
    drop(first);
    assert_eq!(in_flight(&handle), 0);
    assert_eq!(inner.calls(), 1, "those that left never ran");
}

#[tokio::test]
async fn a_place_for_a_future_that_is_dropped_unpolled_goes_to_the_next() {
    let layer = one_lane(1, LaneConfig::new("core").queue(2));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let first = call(&mut service, request()).await;
    let second = call(&mut service, request()).await;
    let mut third = call(&mut service, request()).await;
    drop(first);
    drop(second);
    assert!(poll(&mut third).is_pending());
    inner.flying(1).await;
    assert_eq!((first_lane(&handle).queued, in_flight(&handle)), (0, 1));
    drop(third);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn a_lane_may_hold_until_the_head_only() {
    let layer = one_lane(1, LaneConfig::new("core").hold(Hold::Head));
    let handle = layer.handle();
    let (service, inner) = inner();
    let (body, _) = ScriptedBody::script().data("a").hold().build();
    let future = tokio::spawn(call(&mut layer.layer(service), request()).await);
    let answered = inner.next_call().await;
    assert_eq!(in_flight(&handle), 1);
    answered.respond(Response::new(Body::new(body)));
    let _response = future.await.unwrap().unwrap();
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn trailers_end_a_body_whatever_it_says_of_itself() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let (service, inner) = inner();
    let script = ScriptedBody::script()
        .data("a")
        .trailers([("grpc-status", "0")])
        .claim_end(false);
    let future = tokio::spawn(call(&mut layer.layer(service), request()).await);
    inner
        .next_call()
        .await
        .respond(Response::new(Body::new(script.build().0)));
    let mut body = pin!(future.await.unwrap().unwrap().into_body());
    assert!(body.frame().await.unwrap().unwrap().is_data());
    assert_eq!(in_flight(&handle), 1);
    assert!(body.frame().await.unwrap().unwrap().is_trailers());
    assert_eq!(in_flight(&handle), 0);
}

fn upgrade_request() -> Request<()> {
    Request::builder()
        .header(header::UPGRADE, "websocket")
        .body(())
        .unwrap()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[tokio::test]
async fn an_upgraded_connection_keeps_the_place_until_it_is_closed() {
    for (request, granted) in [
        (upgrade_request(), StatusCode::SWITCHING_PROTOCOLS),
        (
            Request::builder().method(Method::CONNECT).body(()).unwrap(),
            StatusCode::OK,
        ),
    ] {
        let layer = one_lane(1, LaneConfig::new("core"));
        let handle = layer.handle();
        let (service, inner) = inner();
        let future = tokio::spawn(call(&mut layer.layer(service), request).await);
        let answering = inner.next_call().await;
        let copies_the_bytes = answering
            .request()
            .extensions()
            .get::<UpgradePermit>()
            .cloned();
        assert!(copies_the_bytes.is_some());
        answering.respond(status(granted));
        // As hyper does: the head is written, the body has ended, all of the answer is dropped.
        let response = future.await.unwrap().unwrap();
        assert!(response.body().is_end_stream());
        drop(response);
        assert_eq!(in_flight(&handle), 1);
        drop(copies_the_bytes);
        assert_eq!(in_flight(&handle), 0);
    }
}

#[tokio::test]
async fn whoever_is_outside_may_hold_the_upgraded_connection_too() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let (service, inner) = inner();
    let future = tokio::spawn(call(&mut layer.layer(service), upgrade_request()).await);
    inner
        .next_call()
        .await
        .respond(status(StatusCode::SWITCHING_PROTOCOLS));
    let mut response = future.await.unwrap().unwrap();
    let permit = response.extensions_mut().remove::<UpgradePermit>().unwrap();
    drop(response);
    assert_eq!(in_flight(&handle), 1);
    drop(permit);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn other_versions_have_no_such_field() {
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let layer = one_lane(1, LaneConfig::new("core"));
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut request = upgrade_request();
        *request.version_mut() = version;
        let future = tokio::spawn(call(&mut layer.layer(service), request).await);
        let answering = inner.next_call().await;
        let extensions = answering.request().extensions();
        assert!(extensions.get::<UpgradePermit>().is_none(), "{version:?}");
        answering.respond(status(StatusCode::OK));
        drop(future.await.unwrap().unwrap());
        assert_eq!(in_flight(&handle), 0);
    }
}

#[tokio::test]
async fn an_upgrade_that_is_not_granted_holds_nothing() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let (service, inner) = inner();
    let future = tokio::spawn(call(&mut layer.layer(service), upgrade_request()).await);
    let answering = inner.next_call().await;
    let kept = answering
        .request()
        .extensions()
        .get::<UpgradePermit>()
        .cloned();
    answering.respond(status(StatusCode::FORBIDDEN));
    let response = future.await.unwrap().unwrap();
    assert_eq!(in_flight(&handle), 0);
    assert!(response.extensions().get::<UpgradePermit>().is_none());
    drop(kept);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn whoever_serves_an_upgrade_finds_its_value_in_every_mode_and_hold() {
    // Story: handlers ask for the value as the docs say, with an extractor that fails without it. The kill switch, and a lane that
    // holds to the head, made each of their answers a 500.
    let core = || LaneConfig::new("core");
    for (lane, mode) in [
        (core().hold(Hold::Head), Mode::Enforce),
        (core().hold(Hold::Head).max_hold(SECOND), Mode::Enforce),
        (core(), Mode::Shadow),
        (core(), Mode::Off),
        (core().mode(Mode::Off), Mode::Enforce),
    ] {
        let layer = one_lane(1, lane);
        let handle = layer.handle();
        handle.set_mode(mode);
        let (service, inner) = inner();
        let future = tokio::spawn(call(&mut layer.layer(service), upgrade_request()).await);
        let answering = inner.next_call().await;
        let extensions = answering.request().extensions();
        let copies_the_bytes = extensions.get::<UpgradePermit>().cloned();
        assert!(copies_the_bytes.is_some(), "{mode:?}");
        answering.respond(status(StatusCode::SWITCHING_PROTOCOLS));
        drop(future.await.unwrap().unwrap());
        // Held for where it was before.
        let held = u32::from(mode == Mode::Shadow);
        assert_eq!(in_flight(&handle), held, "{mode:?}");
        drop(copies_the_bytes);
        assert_eq!(in_flight(&handle), 0);
    }
}

#[tokio::test]
async fn lanes_that_hold_nothing_leave_the_value_of_those_further_out() {
    let (outside, within) = (
        one_lane(1, LaneConfig::new("core")),
        one_lane(1, LaneConfig::new("core").mode(Mode::Off)),
    );
    let handle = outside.handle();
    let (service, inner) = inner();
    let mut service = nested(&outside, &within, service);
    let future = tokio::spawn(call(&mut service, upgrade_request()).await);
    let answering = inner.next_call().await;
    let extensions = answering.request().extensions();
    let copies_the_bytes = extensions.get::<UpgradePermit>().cloned();
    answering.respond(status(StatusCode::SWITCHING_PROTOCOLS));
    drop(future.await.unwrap().unwrap());
    assert_eq!(in_flight(&handle), 1);
    drop(copies_the_bytes);
    assert_eq!(in_flight(&handle), 0);
}

/// Lanes within lanes, all of which hold a place, around `service`.
fn nested(
    outside: &BulkheadLayer,
    within: &BulkheadLayer,
    service: support::Inner,
) -> impl tower::Service<
    Request<()>,
    Response = Response<ResponseBody<Body>>,
    Error = std::convert::Infallible,
    Future: Send,
> + use<> {
    outside.layer(
        tower::ServiceBuilder::new()
            .map_response(|response: Response<_>| response.map(Body::new))
            .layer(within)
            .service(service),
    )
}

#[tokio::test]
async fn of_lanes_within_lanes_each_keeps_its_place_for_the_upgraded_connection() {
    // Story: the inner lanes put their value over that of the outer ones, whose place was given back when the head was written.
    let layers = [
        one_lane(1, LaneConfig::new("core")),
        one_lane(1, LaneConfig::new("core")),
    ];
    let [outside, within] = &layers;
    let held = || [outside, within].map(|layer| in_flight(&layer.handle()));
    let (service, inner) = inner();
    // By whoever serves it, and by whoever is outside.
    for serves in [true, false] {
        let mut service = nested(outside, within, service.clone());
        let future = tokio::spawn(call(&mut service, upgrade_request()).await);
        let answering = inner.next_call().await;
        let extensions = answering.request().extensions();
        let mut copies_the_bytes = extensions.get::<UpgradePermit>().cloned();
        answering.respond(status(StatusCode::SWITCHING_PROTOCOLS));
        let response = future.await.unwrap().unwrap();
        if !serves {
            copies_the_bytes = response.extensions().get().cloned();
        }
        drop(response);
        assert_eq!(held(), [1, 1], "held by whoever serves it: {serves}");
        drop(copies_the_bytes);
        assert_eq!(held(), [0, 0]);
    }
}

#[tokio::test]
async fn a_panic_in_call_gives_it_back() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let mut service = layer.layer(tower::service_fn(|_: Request<()>| {
        if true {
            panic!("a fault in call");
        }
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(
            Body::empty(),
        )))
    }));
    let called = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(tower::Service::poll_ready(&mut service, &mut cx).is_ready());
        drop(tower::Service::call(&mut service, request()));
    }));
    assert!(called.is_err());
    assert_eq!(in_flight(&handle), 0);
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(ResponseBody::<Body>::default().is_end_stream());
}
