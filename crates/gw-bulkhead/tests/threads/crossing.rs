//! What passes between a lane's thread and the caller.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use gw_bulkhead::limit::{Aimd, Limit};
use gw_bulkhead::{BulkheadLayer, Fail, Sample};
use gw_core::attempt::Failure;
use gw_core::{Body, BoxError, Code, GrpcStatus, Rejection};
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{ControlledService, ServiceError};
use http::{Request, Response, StatusCode};
use http_body::{Body as _, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::advance;
use tower::{Layer as _, service_fn};

use super::support::{call, first_lane, in_flight, request_in};
use super::{controlled, logs, response, settles_at, two_lanes};

#[tokio::test]
async fn answers_cross_as_they_are() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    for (body, hint, frames) in [
        (Body::empty(), Some(0), vec![]),
        (Body::from("whole"), Some(5), vec!["whole"]),
        (
            Body::new(
                ScriptedBody::script()
                    .data("a")
                    .data("b")
                    .data("c")
                    .data("d")
                    .build()
                    .0,
            ),
            Some(4),
            vec!["a", "b", "c", "d"],
        ),
    ] {
        let future = tokio::spawn(call(&mut service, request_in("logs")).await);
        let mut answer = response(body);
        answer.headers_mut().insert("x-answer", 1.into());
        *answer.status_mut() = StatusCode::ACCEPTED;
        inner.next_call().await.respond(answer);
        let answer = future.await.unwrap().unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        assert_eq!(answer.headers()["x-answer"], "1");
        let mut body = pin!(answer.into_body());
        assert_eq!(body.size_hint().exact(), hint);
        assert_eq!(body.is_end_stream(), frames.is_empty());
        for (n, expected) in (1..).zip(&frames) {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), expected);
            assert_eq!(body.is_end_stream(), n == frames.len());
        }
        assert_eq!(body.size_hint().exact(), Some(0));
        // Whoever has seen the end can rely on it: nothing is waited for here.
        assert_eq!(in_flight(&handle), 0);
        assert!(body.frame().await.is_none());
    }
}

#[tokio::test]
async fn frames_cross_one_by_one_and_trailers_end_them() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let (script, body) = ScriptedBody::script()
        .data("abc")
        .hold()
        .data("de")
        .trailers([("grpc-status", "0")])
        .build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let mut received = pin!(future.await.unwrap().unwrap().into_body());
    assert_eq!(received.size_hint().exact(), Some(5));
    let frame = received.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "abc");
    assert_eq!(received.size_hint().exact(), Some(2));
    body.held().await;
    body.resume();
    let frame = received.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "de");
    assert_eq!(in_flight(&handle), 1);
    let frame = received.frame().await.unwrap().unwrap();
    let trailers = frame.into_trailers().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert!(received.is_end_stream());
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test]
async fn a_slow_reader_makes_the_lane_hold_two_frames() {
    let layer = two_lanes(logs());
    let (mut service, inner) = controlled(&layer);
    let script = (0..100).fold(ScriptedBody::script(), |script, _| script.data("a"));
    let (script, body) = script.build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let answer = future.await.unwrap().unwrap();
    // Another request to the same thread goes through: by then the first one has sent what it can.
    for _ in 0..3 {
        let future = tokio::spawn(call(&mut service, request_in("logs")).await);
        inner.next_call().await.respond(response(Body::empty()));
        future.await.unwrap().unwrap();
    }
    // Two in the channel, and one that does not fit.
    assert_eq!(body.frames(), 3);
    drop(answer);
}

#[tokio::test]
async fn errors_cross() {
    let layer = two_lanes(logs()).on_reject(Fail);
    let handle = layer.handle();
    let (service, inner) = ControlledService::<(), Body, ServiceError>::new();
    let mut service = layer.layer(service);
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.fail(ServiceError::new("broken"));
    let error = future.await.unwrap().unwrap_err();
    assert!(matches!(error, gw_core::LayerError::Inner(error) if error.to_string() == "broken"));
    assert_eq!(in_flight(&handle), 0);

    let (script, _) = ScriptedBody::script().data("a").error("cut").build();
    let future = tokio::spawn(call(&mut service, request_in("logs")).await);
    inner.next_call().await.respond(response(Body::new(script)));
    let mut body = pin!(future.await.unwrap().unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(body.frame().await.unwrap().unwrap_err().to_string(), "cut");
    assert_eq!(in_flight(&handle), 0);
    assert!(body.frame().await.is_none());
    assert_eq!(
        inner.violations(),
        [],
        "each call was on the instance that was ready"
    );
}

/// The message of the panic that `future` ends with.
async fn panic_of<F: Future<Output: Send> + Send + 'static>(future: F) -> String {
    match tokio::spawn(future).await {
        Err(error) => *error.into_panic().downcast::<String>().unwrap(),
        Ok(_) => panic!("there was no panic"),
    }
}

#[tokio::test]
async fn panics_cross() {
    let layer = two_lanes(logs());
    let handle = layer.handle();
    let (mut service, inner) = controlled(&layer);
    let future = call(&mut service, request_in("logs")).await;
    let answering = async { inner.next_call().await.panic("in the service") };
    let (message, ()) = tokio::join!(panic_of(future), answering);
    assert_eq!(message, "in the service");
    settles_at(&handle, 0).await;

    // `gw_core::Body` would turn the panic into an error: a body of another type it is.
    let (script, _) = ScriptedBody::script()
        .data("a")
        .panic("in the body")
        .build();
    let script = std::sync::Arc::new(std::sync::Mutex::new(Some(script)));
    let service = service_fn(move |_: Request<()>| {
        let body = script.lock().unwrap().take().unwrap();
        std::future::ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let mut service = layer.clone().on_reject(Fail).layer(service);
    let answer = call(&mut service, request_in("logs")).await.await.unwrap();
    assert_eq!(
        panic_of(async { drop(answer.into_body().collect().await) }).await,
        "in the body"
    );
    settles_at(&handle, 0).await;
}

#[tokio::test]
async fn a_body_that_was_as_long_as_it_said_is_a_sample_though_nobody_saw_its_end() {
    let limit = Limit::adaptive(Aimd::default()).shortest(Duration::ZERO);
    let layer = BulkheadLayer::builder(limit.window(Duration::from_millis(1)))
        .lane(logs().threads(1).sample(Sample::Body))
        .with_threads()
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        let script = ScriptedBody::script().data("al").data("l");
        let script = script.claim_size(SizeHint::with_exact(3)).claim_end(false);
        Ok::<_, Infallible>(response(Body::new(script.build().0)))
    }));
    for _ in 0..200 {
        let answer = call(&mut service, request_in("logs")).await.await.unwrap();
        let mut body = pin!(answer.into_body());
        for part in ["al", "l"] {
            let frame = body.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), part);
        }
    }
    settles_at(&handle, 0).await;
    let adaptive = first_lane(&handle).adaptive.unwrap();
    assert!(adaptive.answered >= 10, "{adaptive:?}");
}

/// Story: what our timers end is an error here, and said nothing on a lane's own thread either.
#[tokio::test(start_paused = true)]
async fn the_error_of_a_timer_of_ours_is_a_drop() {
    const LATE: Code = Code::new(
        "",
        StatusCode::GATEWAY_TIMEOUT,
        "",
        GrpcStatus::DeadlineExceeded,
    );
    let layer = BulkheadLayer::builder(Limit::adaptive(Aimd::default()).initial(100))
        .lane(logs().threads(1))
        .with_threads()
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(async |_: Request<()>| {
        let late = Rejection::new(&LATE).failed(Failure::Unknown);
        Err::<Response<Body>, _>(BoxError::from(late))
    }));
    for _ in 0..10 {
        let failing = call(&mut service, request_in("logs")).await;
        advance(Duration::from_secs(1)).await;
        failing.await.unwrap_err();
    }
    let lane = first_lane(&handle);
    assert_eq!((lane.adaptive.unwrap().dropped, lane.limit), (10, 90));
    settles_at(&handle, 0).await;
}
