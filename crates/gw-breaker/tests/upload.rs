//! Whose time it is that a call takes: the client's or the upstream's.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use gw_breaker::upload::{RequestBody, UploadLayer};
use gw_breaker::{
    BreakerConfig, BreakerHandle, BreakerLayer, ContentClassifier, LatencyFrom, Snapshot,
};
use gw_testkit::body::ScriptedBody;
use gw_testkit::gw_core::Body;
use gw_testkit::gw_core::awaited::Awaited;
use gw_testkit::gw_core::context::Deadline;
use gw_testkit::gw_core::stage::{NoFacts, Stage};
use http::{Request, Response};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use support::{SECOND, config};
use tokio::time::{Instant, sleep, timeout};
use tower::{Layer as _, ServiceExt as _};

fn layer(latency_from: LatencyFrom) -> (BreakerLayer, BreakerHandle) {
    layer_with(config().slow_rate(0.5, SECOND).min_calls(100), latency_from)
}

fn layer_with(config: BreakerConfig, latency_from: LatencyFrom) -> (BreakerLayer, BreakerHandle) {
    let layer = BreakerLayer::builder("orders").config(config).build();
    let layer = layer.unwrap().latency_from(latency_from);
    let handle = layer.handle();
    (layer, handle)
}

/// What is left behind by a request to a handler that reads all of the body and then works for so long, whose client leaves
/// when its patience is over.
async fn after(
    latency_from: LatencyFrom,
    body: Body,
    work: Duration,
    patience: Duration,
) -> Snapshot {
    let (layer, handle) = layer(latency_from);
    let handler = tower::service_fn(move |request: Request<_>| async move {
        assert!(request.extensions().get::<Awaited>().is_none());
        let body: RequestBody<Body> = request.into_body();
        body.collect().await.unwrap();
        sleep(work).await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let service = layer.layer(UploadLayer.layer(handler));
    let answer = timeout(patience, service.oneshot(in_ten_seconds(body))).await;
    drop(answer);
    handle.snapshot()
}

/// A request that the gateway gives 10 s.
fn in_ten_seconds(body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    let deadline = Deadline::at(Instant::now() + 10 * SECOND);
    request.extensions_mut().insert(deadline);
    request
}

/// It comes in two parts, so long apart.
fn uploaded_in(time: Duration) -> Body {
    let (body, control) = ScriptedBody::script()
        .data("slow")
        .hold()
        .data("ly")
        .build();
    tokio::spawn(async move {
        sleep(time).await;
        control.resume();
    });
    Body::new(body)
}

const HOUR: Duration = Duration::from_secs(3600);

/// Story: clients that uploaded slowly made slow calls of theirs, and a few of them opened the breaker for everybody.
#[tokio::test(start_paused = true)]
async fn a_slow_upload_is_not_the_upstreams() {
    let moment = SECOND / 10;
    let done = after(LatencyFrom::Sent, uploaded_in(5 * SECOND), moment, HOUR).await;
    assert_eq!((done.calls, done.slow), (1, 0));
    let done = after(LatencyFrom::Sent, uploaded_in(5 * SECOND), SECOND, HOUR).await;
    assert_eq!((done.calls, done.slow), (1, 1));
    // Without a body there is nothing to wait for.
    let done = after(LatencyFrom::Sent, Body::empty(), SECOND, HOUR).await;
    assert_eq!((done.calls, done.slow), (1, 1));
    // Nor does it take any help to measure the whole of it.
    let done = after(LatencyFrom::Call, uploaded_in(5 * SECOND), moment, HOUR).await;
    assert_eq!((done.calls, done.slow), (1, 1));
}

/// Story: the inner one's question took the place of the outer one's, which then measured from the call, upload included.
#[tokio::test(start_paused = true)]
async fn two_breakers_are_both_told() {
    for (work, slow) in [(SECOND / 10, 0), (SECOND, 1)] {
        let (outer, outer_handle) = layer(LatencyFrom::Sent);
        let (inner, inner_handle) = layer(LatencyFrom::Sent);
        let handler = tower::service_fn(move |request: Request<_>| async move {
            let body: RequestBody<Body> = request.into_body();
            body.collect().await.unwrap();
            sleep(work).await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let service = outer.layer(inner.layer(UploadLayer.layer(handler)));
        let request = Request::new(uploaded_in(5 * SECOND));
        drop(service.oneshot(request).await.unwrap());
        for handle in [outer_handle, inner_handle] {
            let seen = handle.snapshot();
            assert_eq!((seen.calls, seen.slow), (1, slow));
        }
    }
}

/// Nobody says when the request is sent. What went before the inner one is not the upstream's, and what is after it is.
#[tokio::test(start_paused = true)]
async fn the_inner_of_two_breakers_measures_from_its_call() {
    for (queue, work, slow) in [(5 * SECOND, SECOND / 10, 0), (SECOND / 10, SECOND, 1)] {
        let (outer, outer_handle) = layer(LatencyFrom::Sent);
        let (inner, inner_handle) = layer(LatencyFrom::Sent);
        let inner = inner.layer(tower::service_fn(move |_: Request<Body>| async move {
            sleep(work).await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        let service = outer.layer(tower::service_fn(move |request| {
            let inner = inner.clone();
            async move {
                sleep(queue).await;
                inner.oneshot(request).await
            }
        }));
        drop(service.oneshot(Request::new(Body::empty())).await.unwrap());
        for handle in [outer_handle, inner_handle] {
            let seen = handle.snapshot();
            assert_eq!((seen.calls, seen.slow), (1, slow));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_its_upload_leaves_nothing() {
    // Not even when the deadline has passed meanwhile: it was the client that was waited for.
    for patience in [5, 11] {
        let left = after(
            LatencyFrom::Sent,
            uploaded_in(HOUR),
            SECOND,
            patience * SECOND,
        )
        .await;
        assert_eq!((left.calls, left.consecutive_failures), (0, 0));
    }
    let left = after(LatencyFrom::Sent, uploaded_in(5 * SECOND), HOUR, 7 * SECOND).await;
    assert_eq!(
        (left.calls, left.slow, left.consecutive_failures),
        (1, 1, 0)
    );
    let late = after(
        LatencyFrom::Sent,
        uploaded_in(5 * SECOND),
        HOUR,
        11 * SECOND,
    )
    .await;
    assert_eq!(
        (late.calls, late.slow, late.consecutive_failures),
        (1, 1, 1)
    );
}

/// Story: a breaker that did not look at latency asked nobody whom it waited for. Clients that uploaded until the deadline opened it
/// for everybody.
#[tokio::test(start_paused = true)]
async fn nor_does_it_where_latency_does_not_matter() {
    for (upload, failures) in [(HOUR, 0), (5 * SECOND, 1)] {
        let (layer, handle) = layer_with(config(), LatencyFrom::Sent);
        let handler = tower::service_fn(async |request: Request<RequestBody<Body>>| {
            request.into_body().collect().await.unwrap();
            std::future::pending::<Result<Response<Body>, Infallible>>().await
        });
        let service = layer.layer(UploadLayer.layer(handler));
        let answer = service.oneshot(in_ten_seconds(uploaded_in(upload)));
        assert!(timeout(11 * SECOND, answer).await.is_err());
        assert_eq!(handle.snapshot().consecutive_failures, failures);
    }
}

/// What is left behind by a request that is answered while it is uploaded, whose client leaves when its patience is over: of the
/// answer there is no more than a piece, and its length is `known`.
async fn answered_while(upload: Duration, patience: Duration, known: bool) -> Snapshot {
    let (layer, handle) = layer(LatencyFrom::Sent);
    let handler = tower::service_fn(move |request: Request<RequestBody<Body>>| async move {
        tokio::spawn(request.into_body().collect());
        let answer = ScriptedBody::script().data("data").hold().data("more");
        let answer = match known {
            true => answer.claim_size(SizeHint::with_exact(8)),
            false => answer.claim_size(SizeHint::new()),
        };
        Ok::<_, Infallible>(Response::new(Body::new(answer.build().0)))
    });
    let service = layer.layer(UploadLayer.layer(handler));
    let answer = service.oneshot(in_ten_seconds(uploaded_in(upload))).await;
    let reads = answer.unwrap().into_body().collect();
    assert!(timeout(patience, reads).await.is_err());
    handle.snapshot()
}

/// Story: with the head of the answer it was forgotten whom the attempt waited for. Clients that halted their uploads to a handler
/// which answers while it reads opened the breaker when the deadline passed.
#[tokio::test(start_paused = true)]
async fn nor_does_it_behind_an_early_head() {
    const HALF: Duration = Duration::from_millis(500);
    let seen = |left: Snapshot| (left.calls, left.slow, left.consecutive_failures);
    for (upload, patience, known, expected) in [
        (HOUR, 11 * SECOND, true, (0, 0, 0)),
        (5 * SECOND, 5 * SECOND + HALF, true, (0, 0, 0)),
        (5 * SECOND, 7 * SECOND, true, (1, 1, 0)),
        (5 * SECOND, 11 * SECOND, true, (1, 1, 1)),
        // A stream may be quiet, and was good so far.
        (HOUR, 11 * SECOND, false, (1, 0, 0)),
        (5 * SECOND, 11 * SECOND, false, (1, 0, 1)),
    ] {
        let left = answered_while(upload, patience, known).await;
        assert_eq!(seen(left), expected, "{upload:?} {patience:?} {known}");
    }
}

/// The answer has the upload in it: with both gone, nobody knows any more that it was the client that was waited for.
#[tokio::test(start_paused = true)]
async fn nor_does_it_where_it_is_sent_back() {
    let (layer, handle) = layer(LatencyFrom::Sent);
    let echo = tower::service_fn(async |request: Request<RequestBody<Body>>| {
        let answer = Response::new(Body::new(request.into_body()));
        Ok::<_, Infallible>(answer)
    });
    let service = layer.layer(UploadLayer.layer(echo));
    let answer = service.oneshot(in_ten_seconds(uploaded_in(HOUR))).await;
    let reads = answer.unwrap().into_body().collect();
    assert!(timeout(11 * SECOND, reads).await.is_err());
    assert_eq!(handle.snapshot().consecutive_failures, 0);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_wants_is_not_waited_for() {
    let (layer, handle) = layer(LatencyFrom::Sent);
    let handler = tower::service_fn(async |request: Request<_>| {
        let mut body: RequestBody<Body> = request.into_body();
        body.frame().await.unwrap().unwrap();
        assert!(timeout(SECOND / 10, body.frame()).await.is_err());
        drop(body);
        sleep(SECOND).await;
        Ok::<_, Infallible>(Response::new(Body::empty()))
    });
    let service = layer.layer(UploadLayer.layer(handler));
    let request = Request::new(uploaded_in(HOUR));
    service.oneshot(request).await.unwrap();
    assert_eq!(handle.snapshot().slow, 1);
}

#[tokio::test(start_paused = true)]
async fn who_sends_says_whom_it_waits_for() {
    for (in_queue, slow) in [(true, 0), (false, 1)] {
        let (layer, handle) = layer(LatencyFrom::Sent);
        let pool = tower::service_fn(move |mut request: Request<()>| async move {
            let awaited = Awaited::take(request.extensions_mut()).unwrap();
            if in_queue {
                awaited.pauses();
            }
            sleep(5 * SECOND).await;
            if in_queue {
                awaited.starts(Instant::now());
            }
            sleep(SECOND / 2).await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let request = || Request::new(());
        layer.layer(pool).oneshot(request()).await.unwrap();
        assert_eq!(handle.snapshot().slow, slow);
        // Whoever leaves the queue leaves nothing.
        let waits = layer.layer(pool).oneshot(request());
        assert!(timeout(3 * SECOND, waits).await.is_err());
        assert_eq!(handle.snapshot().slow, 2 * slow);
    }
}

/// Where nobody measures, nothing is in the way.
#[tokio::test(start_paused = true)]
async fn requests_pass_as_they_are() {
    let script = ScriptedBody::script()
        .data("a")
        .hold()
        .trailers([("x-checksum", "1")]);
    let (body, control) = script.build();
    control.resume();
    let echo =
        tower::service_fn(async |request: Request<_>| Ok::<_, Infallible>(request.into_body()));
    let upload = UploadLayer.layer(echo);
    let body: RequestBody<_> = upload.oneshot(Request::new(body)).await.unwrap();
    let collected = body.collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-checksum"], "1");
    assert_eq!(collected.to_bytes(), "a");
}

#[test]
fn auto_traits() {
    use static_assertions::assert_impl_all;
    assert_impl_all!(UploadLayer: Clone, Send, Sync);
    // Story: it had to be wrapped by `plain` to stand in a pipeline.
    assert_impl_all!(UploadLayer: Stage<NoFacts>);
    assert_impl_all!(gw_breaker::upload::Upload<()>: Clone, Send, Sync);
    assert_impl_all!(RequestBody<Body>: Send);
    assert_impl_all!(BreakerLayer<gw_breaker::Single, ContentClassifier>: Clone, Send, Sync);
}
