//! What counts as a sample, and that limits that are found hold.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;
#[path = "adaptive/uploads.rs"]
mod uploads;

use std::fmt::Debug;
use std::time::Duration;

use gw_bulkhead::limit::{Algorithm, Limit, Next, Report, Window};
use gw_bulkhead::{
    AdaptiveSnapshot, BulkheadHandle, BulkheadLayer, Deadline, Hold, LaneConfig, Sample,
};
use gw_core::attempt::Failure;
use gw_core::{Body, BoxError, Code, GrpcStatus, LayerError, Rejection};
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{ControlledService, ServiceError};
use http::{Request, Response, StatusCode};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use support::{call, first_lane, in_flight, inner, poll, request};
use tokio::time::{Instant, advance};
use tower::Layer as _;

const SECOND: Duration = Duration::from_secs(1);

/// One more with each window, and two less if anything was dropped.
#[derive(Debug, Clone, Default)]
struct Steps {
    latency: Option<Duration>,
}

impl Algorithm for Steps {
    fn name(&self) -> &'static str {
        "steps"
    }

    fn update(&mut self, window: &Window) -> Next {
        self.latency = window.latency;
        Next::limit(if window.dropped > 0 {
            window.limit - 2
        } else {
            window.limit + 1
        })
    }

    fn report(&self) -> Report {
        Report {
            latency: self.latency,
            ..Report::default()
        }
    }
}

/// Limits from 3 to 100 that begin with 10.
fn layer(lane: LaneConfig) -> BulkheadLayer {
    let limit = Limit::adaptive(Steps::default())
        .min(3)
        .max(100)
        .initial(10);
    BulkheadLayer::builder(limit)
        .lane(lane.guaranteed(1.0))
        .build()
        .unwrap()
}

fn adaptive(handle: &BulkheadHandle) -> AdaptiveSnapshot {
    first_lane(handle).adaptive.unwrap()
}

/// What became of ten requests that each ended in the same way: windows closed, answers, drops, and the limit.
fn seen(handle: &BulkheadHandle) -> (u64, u64, u64, u32) {
    assert_eq!(in_flight(handle), 0);
    let adaptive = adaptive(handle);
    let limit = first_lane(handle).limit;
    (adaptive.windows, adaptive.answered, adaptive.dropped, limit)
}

const NOTHING: (u64, u64, u64, u32) = (0, 0, 0, 10);
const ANSWERED: (u64, u64, u64, u32) = (1, 10, 0, 11);
const DROPPED: (u64, u64, u64, u32) = (1, 0, 10, 8);

/// Ten requests, of which each is answered after a second.
async fn answered(lane: LaneConfig, answer: impl Fn() -> Response<Body>) -> BulkheadHandle {
    let layer = layer(lane);
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    for _ in 0..10 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND).await;
        inner.next_call().await.respond(answer());
        drop(future.await.unwrap());
    }
    layer.handle()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[tokio::test(start_paused = true)]
async fn answers_are_samples_and_some_say_that_it_is_too_much() {
    let lane = || LaneConfig::new("core");
    let handle = answered(lane(), || status(StatusCode::OK)).await;
    assert_eq!(seen(&handle), ANSWERED);
    let handle = answered(lane(), || status(StatusCode::GATEWAY_TIMEOUT)).await;
    assert_eq!(seen(&handle), DROPPED);
    let handle = answered(lane(), || status(StatusCode::BAD_GATEWAY)).await;
    assert_eq!(seen(&handle), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn refusals_by_layers_inside_are_no_samples() {
    const OPEN: Code = Code::new(
        "CIRCUIT_OPEN",
        StatusCode::SERVICE_UNAVAILABLE,
        "",
        GrpcStatus::Unavailable,
    );
    let refused = || {
        let mut response = status(OPEN.status());
        response.extensions_mut().insert(Rejection::new(&OPEN));
        response
    };
    let handle = answered(LaneConfig::new("core"), refused).await;
    assert_eq!(seen(&handle), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_is_not_measured_has_its_cap() {
    let lane = LaneConfig::new("core").sample(Sample::Nothing);
    let handle = answered(lane, || status(StatusCode::OK)).await;
    let lane = first_lane(&handle);
    assert_eq!((lane.limit, lane.adaptive), (100, None));
}

#[tokio::test(start_paused = true)]
async fn clients_that_leave_say_nothing_and_our_own_timers_do() {
    let layer = layer(LaneConfig::new("core").max_hold(10 * SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    // The client leaves before the deadline.
    for _ in 0..10 {
        let mut request = request();
        let deadline = Deadline::at(Instant::now() + 2 * SECOND);
        request.extensions_mut().insert(deadline);
        let mut future = call(&mut service, request).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND).await;
    }
    assert_eq!(seen(&handle), NOTHING);
    // It gave no more time than that, and leaves at its end.
    for _ in 0..10 {
        let mut request = request();
        let deadline = Deadline::at(Instant::now() + SECOND).by_client();
        request.extensions_mut().insert(deadline);
        let mut future = call(&mut service, request).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND).await;
    }
    assert_eq!(seen(&handle), NOTHING);
    // A timer outside of the layer drops the future at the request's deadline.
    for _ in 0..10 {
        let mut request = request();
        let deadline = Deadline::at(Instant::now() + SECOND);
        request.extensions_mut().insert(deadline);
        let mut future = call(&mut service, request).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND).await;
    }
    assert_eq!(seen(&handle), DROPPED);
    // The lane's own limit of time.
    for _ in 0..10 {
        let future = call(&mut service, request()).await;
        assert_eq!(future.await.unwrap().status(), 504);
    }
    assert_eq!(seen(&handle), (2, 0, 20, 6));
    assert_eq!(inner.calls(), 40);
}

/// Ten requests, of which each fails after a second.
async fn failed<E>(request: impl Fn() -> Request<()>, error: impl Fn() -> E) -> BulkheadHandle
where
    E: Debug + 'static,
{
    let layer = layer(LaneConfig::new("core"));
    let (service, inner) = ControlledService::<(), Body, E>::new();
    let mut service = layer.layer(service);
    for _ in 0..10 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        advance(SECOND).await;
        inner.next_call().await.fail(error());
        future.await.unwrap_err();
    }
    layer.handle()
}

const LATE: Code = code("LATE", StatusCode::GATEWAY_TIMEOUT);
const BROKEN: Code = code("BROKEN", StatusCode::BAD_GATEWAY);

const fn code(name: &'static str, status: StatusCode) -> Code {
    Code::new(name, status, "", GrpcStatus::Unavailable)
}

#[tokio::test(start_paused = true)]
async fn an_inner_error_says_nothing() {
    let handle = failed(request, || ServiceError::new("broken")).await;
    assert_eq!(seen(&handle), NOTHING);
    let handle = failed(request, || BoxError::from("broken")).await;
    assert_eq!(seen(&handle), NOTHING);
}

/// Story: in a pipeline what our timers end passes the lane as an error, and becomes a 504 further out. No error said
/// anything, so a limit stayed up while the upstream hung. Then what was refused for the client's doing or the gateway's own
/// counted as a drop all the same, as the request's deadline had passed with it: clients that sent slowly took the limit down.
#[tokio::test(start_paused = true)]
async fn the_error_of_a_timer_of_ours_is_a_drop() {
    let until = |deadline: fn(Deadline) -> Deadline| {
        move || {
            let mut request = request();
            let due = deadline(Deadline::at(Instant::now() + SECOND));
            request.extensions_mut().insert(due);
            request
        }
    };
    // That time is over by then makes no difference.
    for request in [
        Box::new(request) as Box<dyn Fn() -> Request<()>>,
        Box::new(until(|due| due)),
    ] {
        for (code, failure, expected) in [
            (&LATE, Failure::Unknown, DROPPED),
            (&LATE, Failure::NotSent, DROPPED),
            // By the client's doing, or for want of a connection.
            (&LATE, Failure::Local, NOTHING),
            (&LATE, Failure::Refused, NOTHING),
            (&BROKEN, Failure::Unknown, NOTHING),
        ] {
            let error = || Rejection::new(code).failed(failure);
            let handle = failed(&request, error).await;
            assert_eq!(seen(&handle), expected, "{code} {failure:?}");
            let handle = failed(&request, || BoxError::from(error())).await;
            assert_eq!(seen(&handle), expected, "{code} {failure:?}, boxed");
        }
    }
    // Behind another error too.
    let failed_late = || Rejection::new(&LATE).failed(Failure::Unknown);
    let handle = failed(request, || BoxError::from(LayerError::Inner(failed_late()))).await;
    assert_eq!(seen(&handle), DROPPED);
    // Not where the client says how long it waits.
    let handle = failed(until(Deadline::by_client), failed_late).await;
    assert_eq!(seen(&handle), NOTHING);
    // An error that is no refusal says nothing, but with it the future is given up, at the deadline.
    let handle = failed(until(|due| due), || BoxError::from("late")).await;
    assert_eq!(seen(&handle), DROPPED);
}

/// Story: nobody got in who had waited, so no sample could have had the wait in it.
#[tokio::test(start_paused = true)]
async fn the_wait_in_the_queue_and_being_refused_there_say_nothing() {
    let lane = LaneConfig::new("core").queue(10).queue_timeout(SECOND);
    let layer = layer(lane.guaranteed(1.0));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut full = Vec::new();
    for _ in 0..10 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        full.push((future, inner.next_call().await));
    }
    for _ in 0..10 {
        let response = call(&mut service, request()).await.await.unwrap();
        assert_eq!(response.status(), 503);
    }
    let mut waiting = Vec::new();
    for _ in 0..10 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        waiting.push(future);
    }
    advance(SECOND / 2).await;
    // Clients that leave are no samples.
    drop(full);
    let mut running = Vec::new();
    for mut future in waiting {
        assert!(poll(&mut future).is_pending());
        running.push((future, inner.next_call().await));
    }
    advance(SECOND / 10).await;
    for (future, call) in running {
        call.respond(status(StatusCode::OK));
        assert_eq!(future.await.unwrap().status(), 200);
    }
    assert_eq!(seen(&handle), ANSWERED);
    // Of the wait there is nothing in it.
    assert!(adaptive(&handle).report.latency.unwrap() <= SECOND / 10);
}

#[tokio::test(start_paused = true)]
async fn a_body_is_a_sample_where_it_is_the_work() {
    let long = || {
        let (body, script) = ScriptedBody::script().hold().data("all").build();
        (Response::new(Body::new(body)), script)
    };
    for (sample, given_up, ended) in [
        (Sample::Head, ANSWERED, (2, 20, 0, 12)),
        (Sample::Body, NOTHING, ANSWERED),
    ] {
        let layer = layer(LaneConfig::new("core").sample(sample).hold(Hold::Body));
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut service = layer.layer(service);
        for _ in 0..10 {
            let mut future = call(&mut service, request()).await;
            assert!(poll(&mut future).is_pending());
            advance(SECOND).await;
            let (response, _script) = long();
            inner.next_call().await.respond(response);
            // The client goes away in the middle of the body.
            drop(future.await.unwrap());
        }
        assert_eq!(seen(&handle), given_up, "{sample:?}");
        for _ in 0..10 {
            let mut future = call(&mut service, request()).await;
            assert!(poll(&mut future).is_pending());
            advance(SECOND).await;
            let (response, script) = long();
            inner.next_call().await.respond(response);
            let response = future.await.unwrap();
            advance(SECOND).await;
            script.resume();
            response.into_body().collect().await.unwrap();
        }
        assert_eq!(seen(&handle), ended, "{sample:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_was_as_long_as_it_said_is_a_sample_though_nobody_saw_its_end() {
    let sized = || {
        let script = ScriptedBody::script().data("al").data("l").claim_end(false);
        let (body, _) = script.claim_size(SizeHint::with_exact(3)).build();
        Response::new(Body::new(body))
    };
    for (frames, expected) in [(1, NOTHING), (2, ANSWERED)] {
        let layer = layer(LaneConfig::new("core").sample(Sample::Body));
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut service = layer.layer(service);
        for _ in 0..10 {
            let mut future = call(&mut service, request()).await;
            assert!(poll(&mut future).is_pending());
            inner.next_call().await.respond(sized());
            let mut body = future.await.unwrap().into_body();
            advance(SECOND).await;
            for _ in 0..frames {
                assert!(body.frame().await.unwrap().unwrap().is_data());
            }
            // Until the stream has ended, and not only the data: trailers may follow.
            assert_eq!(in_flight(&handle), 1);
        }
        assert_eq!(seen(&handle), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_grows_admits_who_waits() {
    let layer = layer(LaneConfig::new("core").queue(11).queue_timeout(60 * SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut all = Vec::new();
    for _ in 0..21 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        all.push(future);
    }
    assert_eq!((in_flight(&handle), first_lane(&handle).queued), (10, 11));
    advance(SECOND).await;
    // Each that leaves makes room for one, and the last one closes a window: there is one place more.
    for future in all.drain(..10) {
        inner.next_call().await.respond(status(StatusCode::OK));
        drop(future.await.unwrap());
    }
    assert_eq!(first_lane(&handle).limit, 11);
    assert_eq!((in_flight(&handle), first_lane(&handle).queued), (11, 0));
    drop(all);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_shrinks_cuts_nobody_and_stays_within_its_bounds() {
    let layer = layer(LaneConfig::new("core"));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut future = call(&mut service, request()).await;
        assert!(poll(&mut future).is_pending());
        held.push((future, inner.next_call().await));
    }
    for limit in [8, 6, 4] {
        for _ in 0..10 {
            let mut future = call(&mut service, request()).await;
            assert!(poll(&mut future).is_pending());
            advance(SECOND).await;
            let late = status(StatusCode::GATEWAY_TIMEOUT);
            inner.next_call().await.respond(late);
            drop(future.await.unwrap());
        }
        assert_eq!(first_lane(&handle).limit, limit);
    }
    assert_eq!(in_flight(&handle), 5);
    let refused = call(&mut service, request()).await.await.unwrap();
    assert_eq!(refused.status(), 503);
    for (future, call) in held {
        call.respond(status(StatusCode::OK));
        assert_eq!(future.await.unwrap().status(), 200);
    }
    assert_eq!(in_flight(&handle), 0);

    // What is guaranteed is no more than the limit.
    let lane = first_lane(&handle);
    assert_eq!((lane.guaranteed, lane.limit), (4, 4));
    handle.resize(support::places(2));
    let lane = first_lane(&handle);
    assert_eq!((lane.guaranteed, lane.limit), (2, 2));
    handle.resize(support::places(50));
    assert_eq!(first_lane(&handle).limit, 3);
}
