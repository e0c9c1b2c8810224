//! What an upstream answers whom the client gave too little time.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::Duration;

use gw_breaker::{BreakerLayer, Code, ContentClassifier, Failure, Rejection, State};
use gw_testkit::body::ScriptedBody;
use gw_testkit::gw_core::context::Deadline;
use gw_testkit::gw_core::{Body, GrpcStatus};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use support::{Act, Inner, SECOND, World, answer, config, grpc_call};
use tokio::time::Instant;
use tower::Layer as _;

const HOUR: Duration = Duration::from_secs(3600);

type Grpc = gw_breaker::BreakerService<Inner, gw_breaker::Single, ContentClassifier>;

fn world() -> World<Grpc> {
    let layer = BreakerLayer::builder("orders").config(config());
    let layer = layer.build().unwrap().classify(ContentClassifier);
    let inner = Inner::new();
    World {
        handle: layer.handle(),
        service: layer.layer(inner.clone()),
        inner,
    }
}

fn grpc(body: Body) -> Response<Body> {
    let mut answer = Response::new(body);
    let grpc = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert("content-type", grpc);
    answer
}

/// An answer that is no more than a head.
fn trailers_only(status: &'static str) -> Response<Body> {
    let mut answer = grpc(Body::empty());
    let status = HeaderValue::from_static(status);
    answer.headers_mut().insert("grpc-status", status);
    answer
}

fn in_trailers(status: &'static str) -> Response<Body> {
    let script = ScriptedBody::script().data("data");
    grpc(Body::new(
        script.trailers([("grpc-status", status)]).build().0,
    ))
}

/// The gateway's own limit of an attempt.
fn our_own_limit() -> Response<Body> {
    const LIMIT: Code = Code::new(
        "GATEWAY_TIMEOUT",
        StatusCode::GATEWAY_TIMEOUT,
        "",
        GrpcStatus::DeadlineExceeded,
    );
    let mut answer = answer(504);
    let rejection = Rejection::new(&LIMIT).failed(Failure::Unknown);
    answer.extensions_mut().insert(rejection);
    answer
}

async fn sent(world: &World<Grpc>, answer: Response<Body>, deadline: Option<Deadline>) {
    let mut request = grpc_call();
    if let Some(deadline) = deadline {
        request.extensions_mut().insert(deadline);
    }
    world.inner.does(Act::Answer(answer));
    let answer = world.send_this(request).await.unwrap();
    answer.into_body().collect().await.unwrap();
}

/// Story: who sent a few calls with `grpc-timeout: 1m` to an upstream that heeds it and says so before our own timer does, opened
/// its breaker for all.
#[tokio::test(start_paused = true)]
async fn that_it_was_not_enough_is_not_the_upstreams_failure() {
    let own = Deadline::at(Instant::now() + HOUR);
    let after = [
        (Some(own.by_client()), State::Closed),
        (Some(own), State::Open),
        (None, State::Open),
    ];
    for (deadline, state) in after {
        let world = world();
        for answer in [trailers_only("4"), in_trailers("4"), answer(504)] {
            sent(&world, answer, deadline).await;
        }
        let snapshot = world.snapshot();
        assert_eq!((snapshot.state, snapshot.consecutive_failures), (state, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_else_fails_is() {
    let deadline = Deadline::at(Instant::now() + HOUR).by_client();
    let failing = [
        || trailers_only("14"),
        || in_trailers("13"),
        || in_trailers("none"),
        || answer(503),
        our_own_limit,
    ];
    for failing in failing {
        let world = world();
        sent(&world, failing(), Some(deadline)).await;
        assert_eq!(world.snapshot().consecutive_failures, 1);
    }
}

/// It is not said that it failed, but it may be seen that it is slow.
#[tokio::test(start_paused = true)]
async fn an_upstream_that_takes_all_of_it_is_slow() {
    let config = config().slow_rate(0.5, SECOND).min_calls(4);
    let layer = BreakerLayer::builder("orders").config(config).build();
    let layer = layer.unwrap().classify(ContentClassifier);
    for _ in 0..4 {
        let slow = tower::service_fn(async |_: Request<()>| {
            tokio::time::sleep(2 * SECOND).await;
            Ok::<_, Rejection>(trailers_only("4"))
        });
        let mut request = Request::new(());
        let deadline = Deadline::at(Instant::now() + 3 * SECOND).by_client();
        request.extensions_mut().insert(deadline);
        let answer = tower::ServiceExt::oneshot(layer.layer(slow), request).await;
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(layer.handle().snapshot().state, State::Open);
}
