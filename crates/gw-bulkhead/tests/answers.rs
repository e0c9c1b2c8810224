//! What callers see, and which lane their requests run in.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::future::ready;

use bytes::Bytes;
use gw_bulkhead::key::Global;
use gw_bulkhead::{
    BulkheadLayer, Code, Fail, Lane, LaneConfig, Mode, OVERLOADED, OnReject, Problem,
    RejectContext, Respond, RespondWith, ResponseBody, SHUTTING_DOWN,
};
use gw_core::context::RequestId;
use gw_core::record::Record;
use gw_core::stage::{NoFacts, Stage};
use gw_core::{Body, LayerError, Rejection};
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt as _, Empty, Full};
use static_assertions::{assert_impl_all, assert_not_impl_any};
use support::{call, first_lane, in_flight, inner, one_lane, places, poll, request, request_in};
use tower::{Layer as _, ServiceExt as _, service_fn};

async fn json(
    response: Response<impl http_body::Body<Error: std::fmt::Debug>>,
) -> serde_json::Value {
    serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}

#[tokio::test]
async fn a_refusal_says_why_and_when_to_come_back() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _held = call(&mut service, request()).await;
    let mut refused = request();
    let id = RequestId::new("id-1".parse().unwrap()).unwrap();
    refused.extensions_mut().insert(id);
    let response = call(&mut service, refused).await.await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(["1", "2"].contains(&response.headers()["retry-after"].to_str().unwrap()));
    assert_eq!(response.headers()["cache-control"], "no-store");
    assert_eq!(
        response.extensions().get::<Rejection>().unwrap().code(),
        &OVERLOADED
    );
    let expected = serde_json::json!({"error": {
        "code": "OVERLOADED",
        "message": "The service is at capacity.",
        "details": {"reason": "lane_full"},
        "request_id": "id-1",
    }});
    assert_eq!(json(response).await, expected);
}

#[tokio::test]
async fn work_that_is_no_request_takes_its_place_among_them() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let lanes = handle.lanes();
    let job = lanes.try_admit(lanes.find("core").unwrap()).unwrap();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let response = call(&mut service, request()).await.await.unwrap();
    assert_eq!((response.status().as_u16(), in_flight(&handle)), (503, 1));
    drop(job);
    assert!(poll(&mut call(&mut service, request()).await).is_pending());
}

#[tokio::test]
async fn grpc_callers_get_a_status() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _held = call(&mut service, request()).await;
    let refused = Request::post("/s/m")
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(())
        .unwrap();
    let response = call(&mut service, refused).await.await.unwrap();
    assert_eq!(
        (
            response.status().as_u16(),
            &response.headers()["grpc-status"]
        ),
        (200, &"8".parse().unwrap())
    );
}

/// As users write one, who name no crate but this one.
#[derive(Clone)]
struct Polite(&'static Code);

impl<B: From<Bytes>, E> OnReject<Response<B>, E> for Polite {
    type Error = E;

    fn reject(&self, rejection: Rejection, context: &RejectContext) -> Result<Response<B>, E> {
        let is_meant = rejection.code() == self.0;
        let mut answer: Result<_, E> = Respond::new().reject(rejection, context);
        if let Some(answer) = answer.as_mut().ok().filter(|_| is_meant) {
            let sorry = HeaderValue::from_static("sorry");
            answer.headers_mut().insert("x-words", sorry);
        }
        answer
    }

    fn inner(error: E) -> E {
        error
    }
}

#[tokio::test]
async fn so_does_a_renderer_of_ones_own() {
    let layer = one_lane(1, LaneConfig::new("core")).on_reject(Polite(&OVERLOADED));
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _held = call(&mut service, request()).await;
    let response = call(&mut service, request()).await.await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["x-words"], "sorry");
}

#[tokio::test]
async fn other_renderers_fit() {
    let empty = |_: Request<()>| {
        ready(Ok::<_, std::io::Error>(
            Response::new(Empty::<Bytes>::new()),
        ))
    };
    let full = |_: Request<()>| {
        ready(Ok::<_, std::io::Error>(Response::new(Full::new(
            Bytes::new(),
        ))))
    };
    let drained = || {
        let layer = one_lane(1, LaneConfig::new("core"));
        drop(layer.handle().drain());
        layer
    };
    let with = drained().on_reject(RespondWith::new(|_| Empty::new()));
    assert_eq!(
        with.layer(service_fn(empty))
            .oneshot(request())
            .await
            .unwrap()
            .status(),
        503
    );
    let problem = drained().on_reject(Problem::new()).layer(service_fn(full));
    let response = problem.oneshot(request()).await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let fail = drained().on_reject(Fail).layer(service_fn(empty));
    match fail.oneshot(request()).await {
        Err(LayerError::Rejected(rejection)) => assert_eq!(rejection.code(), &SHUTTING_DOWN),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn as_problems_refusals_are_of_registered_types() {
    let core = || LaneConfig::new("core");
    for (total, lane, status, kind) in [
        (1, core(), 503, "temporary-reduced-capacity"),
        (2, core().per_key(Global, places(1)), 429, "quota-exceeded"),
    ] {
        let (service, _inner) = inner();
        let layer = one_lane(total, lane).on_reject(Problem::new());
        let mut service = layer.layer(service);
        let _held = call(&mut service, request()).await;
        let response = call(&mut service, request()).await.await.unwrap();
        assert_eq!(response.status(), status);
        let kind = format!("https://iana.org/assignments/http-problem-types#{kind}");
        assert_eq!(json(response).await["type"], kind);
    }
}

fn two_lanes() -> gw_bulkhead::BulkheadBuilder {
    BulkheadLayer::builder(places(10))
        .lane(LaneConfig::new("logs"))
        .lane(LaneConfig::new("core"))
        .default_lane("core")
}

#[tokio::test]
async fn the_lane_is_in_the_extensions_and_in_the_record() {
    let layer = two_lanes().build().unwrap();
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let counts = || {
        handle
            .snapshot()
            .lanes
            .iter()
            .map(|lane| lane.in_flight)
            .collect::<Vec<_>>()
    };

    let record = Record::default();
    let mut logs = request_in("logs");
    logs.extensions_mut().insert(record.clone());
    let _logs = call(&mut service, logs).await;
    assert_eq!(counts(), [1, 0]);
    assert_eq!(record.exchange().lane, Some(Lane::new("logs")));
    let _unknown = call(&mut service, request_in("nonesuch")).await;
    let _without = call(&mut service, request()).await;
    assert_eq!(counts(), [1, 2]);
}

#[tokio::test]
async fn the_lane_may_be_read_from_the_head() {
    // As a configuration has it: no name is there before the table is.
    let table = [("/logs", "logs"), ("/later", "nonesuch")]
        .map(|(path, lane)| (path.to_owned(), lane.to_owned()));
    let layer = two_lanes()
        .classify(move |head, lanes| {
            let path = head.uri.path();
            let (_, lane) = table.iter().find(|(prefix, _)| path.starts_with(prefix))?;
            lanes.find(lane)
        })
        .build()
        .unwrap();
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _logs = call(&mut service, Request::get("/logs/1").body(()).unwrap()).await;
    let _core = call(&mut service, Request::get("/orders").body(()).unwrap()).await;
    let _unknown = call(&mut service, Request::get("/later").body(()).unwrap()).await;
    let in_flight: Vec<_> = handle
        .snapshot()
        .lanes
        .iter()
        .map(|lane| lane.in_flight)
        .collect();
    assert_eq!(in_flight, [1, 2]);
}

#[test]
fn what_cannot_work_is_not_built() {
    let error = two_lanes().default_lane("nonesuch").build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "default_lane: must be the name of a lane"
    );
    let error = BulkheadLayer::builder(places(10)).build().unwrap_err();
    assert_eq!(
        (error.field(), error.rule()),
        ("lanes", "must be 1 to 64 lanes")
    );
}

#[tokio::test]
async fn shadow_mode_lets_pass_and_counts() {
    let layer = BulkheadLayer::builder(places(1))
        .lane(LaneConfig::new("core"))
        .mode(Mode::Shadow)
        .build()
        .unwrap();
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let calls = [
        call(&mut service, request()).await,
        call(&mut service, request()).await,
    ];
    assert_eq!((in_flight(&handle), inner.calls()), (2, 2));
    assert_eq!(first_lane(&handle).rejected.lane_full, 1);
    drop(calls);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn one_lane_may_be_tried_out_while_the_others_enforce() {
    let lane = |name| LaneConfig::new(name).cap(0.5);
    let layer = BulkheadLayer::builder(places(2))
        .lane(lane("core"))
        .lane(lane("tried").mode(Mode::Shadow))
        .lane(lane("off").mode(Mode::Off))
        .build()
        .unwrap();
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut running = Vec::new();
    for lane in ["core", "tried", "tried", "off", "off"] {
        running.push(call(&mut service, request_in(lane)).await);
    }
    let refused = call(&mut service, request_in("core")).await.await.unwrap();
    assert_eq!((refused.status().as_u16(), inner.calls()), (503, 5));
    let seen: Vec<_> = handle
        .snapshot()
        .lanes
        .iter()
        .map(|lane| (lane.mode, lane.in_flight, lane.rejected.total()))
        .collect();
    let expected = [
        (Mode::Enforce, 1, 1),
        (Mode::Shadow, 2, 1),
        (Mode::Off, 0, 0),
    ];
    assert_eq!(seen, expected);
    // The milder one of both holds.
    handle.set_mode(Mode::Shadow);
    running.push(call(&mut service, request_in("core")).await);
    running.push(call(&mut service, request_in("off")).await);
    assert_eq!(handle.snapshot().in_flight, 4);
    handle.set_mode(Mode::Off);
    running.push(call(&mut service, request_in("tried")).await);
    assert_eq!((in_flight(&handle), inner.calls()), (4, 8));
    drop(running);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn a_drain_refuses_newcomers_and_ends_with_the_last_body() {
    let layer = one_lane(2, LaneConfig::new("core"));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let running = tokio::spawn(call(&mut service, request()).await);
    let mut drain = Box::pin(handle.drain());
    assert!(poll(&mut drain).is_pending());
    let response = call(&mut service, request()).await.await.unwrap();
    assert_eq!(json(response).await["error"]["code"], "SHUTTING_DOWN");
    inner
        .next_call()
        .await
        .respond(Response::new(Body::from("bye")));
    let response = running.await.unwrap().unwrap();
    assert!(poll(&mut drain).is_pending());
    response.into_body().collect().await.unwrap();
    drain.await;
}

#[test]
fn types_fit_where_they_must() {
    assert_impl_all!(BulkheadLayer: Clone, Send, Sync, std::fmt::Debug);
    assert_impl_all!(gw_bulkhead::BulkheadHandle: Clone, Send, Sync);
    assert_impl_all!(gw_bulkhead::Lanes: Clone, Send, Sync);
    assert_impl_all!(gw_bulkhead::Permit: Send, Sync);
    assert_impl_all!(gw_bulkhead::Wait: Send, Sync, Unpin);
    assert_impl_all!(gw_bulkhead::UpgradePermit: Clone, Send, Sync);
    assert_impl_all!(ResponseBody<Full<Bytes>>: From<Bytes>, Send, Sync);
    // Without threads nothing is asked of the service.
    type Local = std::rc::Rc<()>;
    assert_not_impl_any!(ResponseBody<Local>: Send);
    fn is_stage<L: Stage<NoFacts, Facts = NoFacts>>(_: L) {}
    is_stage(one_lane(1, LaneConfig::new("core")));
}

#[tokio::test]
async fn a_service_that_cannot_be_sent_is_layered_too() {
    let local = std::rc::Rc::new(());
    let service = service_fn(move |_: Request<()>| {
        let local = std::rc::Rc::clone(&local);
        async move {
            tokio::task::yield_now().await;
            drop(local);
            Ok::<_, std::convert::Infallible>(Response::new(Body::from("here")))
        }
    });
    let response = one_lane(1, LaneConfig::new("core"))
        .layer(service)
        .oneshot(request())
        .await
        .unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "here"
    );
}
