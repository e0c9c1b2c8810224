//! What the types promise: auto traits, the typed pipeline, and what the layer passes on.
#![allow(clippy::unwrap_used, reason = "a test")]

mod intake_support;

use std::convert::Infallible;

use gw_core::key::AvailableIn;
use gw_core::record::Record;
use gw_core::stage::{NoFacts, Stage};
use gw_logingest::intake::{ByClient, IngestHandle, LogIngest, Pressure};
use gw_logingest::{Body, IngestLayer, MemoryQueue, Problem};
use gw_testkit::service::ControlledService;
use http::{Request, Response};
use intake_support::*;
use static_assertions::assert_impl_all;
use tokio::time::{Duration, timeout};
use tower::limit::ConcurrencyLimit;
use tower::{Layer as _, Service as _, ServiceExt as _};

assert_impl_all!(LogIngest<MemoryQueue>: Clone, Send, Sync);
assert_impl_all!(IngestLayer<MemoryQueue>: Clone, Send, Sync, Stage<NoFacts>);
assert_impl_all!(gw_logingest::intake::future::IngestFuture: Send);
assert_impl_all!(IngestHandle: Clone, Send, Sync);
assert_impl_all!(ByClient: Clone, Send, Sync, AvailableIn<NoFacts>);
assert_impl_all!(Pressure: Clone, Send, Sync);

#[tokio::test(start_paused = true)]
async fn the_layer_answers_its_path_and_passes_all_else_on() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let (inner, handle) = ControlledService::<Body, Body, Infallible>::new();
    handle.answer_with(|_| Ok(Response::new(Body::from("inner"))));
    let mut service = ingest.layer("/api/logs").unwrap().layer(inner);
    for (path, ours) in [
        ("/api/logs", true),
        ("/api/logs?atomic=true", true),
        ("/api/logs/", false),
        ("/api/log", false),
        ("/API/LOGS", false),
        ("/", false),
    ] {
        let before = handle.calls();
        let mut request = post(array(1));
        *request.uri_mut() = path.parse().unwrap();
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        assert_eq!(response.status() == 202, ours, "{path}");
        assert_eq!(handle.calls() - before, usize::from(!ours), "{path}");
    }
    assert!(handle.violations().is_empty());
}

/// Story: a client that only uploads kept, for as long as its connection was open, the place that the service behind the layer had
/// reserved when it was asked whether it is ready.
#[tokio::test(start_paused = true)]
async fn an_upload_leaves_nothing_reserved_behind_the_layer() {
    let ingest = builder(&FakeQueue::new()).build().unwrap();
    let (inner, _handle) = ControlledService::<Body, Body, Infallible>::new();
    let layer = ingest.layer("/api/logs").unwrap();
    let mut uploads = layer.layer(ConcurrencyLimit::new(inner, 1));
    let mut other = uploads.clone();
    let ready = uploads.ready().await.unwrap();
    assert_eq!(ready.call(post(array(1))).await.unwrap().status(), 202);
    let ready = timeout(Duration::from_secs(1), other.ready()).await;
    assert!(ready.is_ok());
}

/// Story: a layer for a path that no request can have answered none, and all uploads went to the service behind it.
#[test]
fn a_path_that_no_request_has_is_refused() {
    let ingest = builder(&FakeQueue::new()).build().unwrap();
    for path in [
        "",
        "api/logs",
        "*",
        "/api/logs?atomic=true",
        "/api/logs?",
        "/api/logs#top",
        "/api/ logs",
        "http://gw.example/api/logs",
    ] {
        let refused = ingest.layer(path).expect_err(path);
        assert_eq!(refused.field(), "path", "{path}");
    }
    for path in ["/", "/api/logs", "/api/logs/", "/api/%6Cogs"] {
        assert!(ingest.layer(path).is_ok(), "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_can_be_rendered_otherwise() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap().on_reject(Problem::new());
    let request: Request<Body> = post("nonsense");
    let Ok(response) = ingest.oneshot(request).await;
    let media_type = response.headers()["content-type"].clone();
    assert_eq!(media_type, "application/problem+json");
    assert_eq!(response.headers()["x-gw-log-limits"], "0::client");
}

/// Story: refusals were counted under a stage that nobody knows.
#[tokio::test(start_paused = true)]
async fn the_observer_is_told_who_refused() {
    let ingest = builder(&FakeQueue::new()).build().unwrap();
    let record = Record::default();
    let mut request: Request<Body> = post("nonsense");
    request.extensions_mut().insert(record.clone());
    let Ok(response) = ingest.oneshot(request).await;
    assert_eq!(response.status(), 400);
    let noted = record.exchange();
    assert_eq!(noted.refused_by, Some("forward"));
    assert_eq!(noted.code.unwrap().name(), "MALFORMED_REQUEST");
}

/// Story: an intake in another slot than the last one was in the log as `forward` as well.
#[tokio::test(start_paused = true)]
async fn the_observer_is_told_which_slot_the_layer_is_in() {
    let layer = builder(&FakeQueue::new())
        .build()
        .unwrap()
        .layer("/api/logs")
        .unwrap();
    let placed = Stage::<NoFacts>::into_layer_in(layer.clone(), "transform");
    for (layer, slot) in [(layer, "forward"), (placed, "transform")] {
        let record = Record::default();
        let mut request: Request<Body> = post("nonsense");
        request.extensions_mut().insert(record.clone());
        let (inner, _handle) = ControlledService::<Body, Body, Infallible>::new();
        let response = layer.layer(inner).oneshot(request).await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(record.exchange().refused_by, Some(slot));
    }
}

/// What is not for the intake costs a comparison of paths.
#[test]
fn passing_a_request_on_does_not_allocate() {
    use std::future::{Future as _, ready};
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let layer = builder(&FakeQueue::new())
        .build()
        .unwrap()
        .layer("/api/logs")
        .unwrap();
    let bare = |_: Request<Body>| ready(Ok::<_, Infallible>(Response::new(Body::empty())));
    let mut service = layer.layer(tower::service_fn(bare));
    let request = Request::get("/hello").body(Body::empty()).unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let used = allocation_counter::measure(|| {
        assert!(service.poll_ready(&mut cx).is_ready());
        let answered = pin!(service.call(request)).poll(&mut cx);
        assert!(matches!(answered, Poll::Ready(Ok(_))));
    });
    // Dropping the request frees; nothing is made.
    assert_eq!(used.count_total, 0);
}
