//! Calls by gRPC, whose answers have the HTTP status 200 whatever came of them: all that went wrong were sampled as normal
//! requests.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;

use gw_core::{Body, Code, GrpcStatus, OnReject as _, RejectContext, Rejection, Respond};
use gw_observe::{Class, ObserveLayer, RequestBody};
use gw_testkit::body::ScriptedBody;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use support::{Pipe, every_request, flushed};
use tower::{Layer as _, Service as _, service_fn};

const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    StatusCode::SERVICE_UNAVAILABLE,
    "A test.",
    GrpcStatus::Unavailable,
);
const LIMITED: Code = Code::new(
    "RATE_LIMIT_EXCEEDED",
    StatusCode::TOO_MANY_REQUESTS,
    "A test.",
    GrpcStatus::ResourceExhausted,
);
/// What gRPC blames the server for, and HTTP the client.
const ODD: Code = Code::new(
    "ODD",
    StatusCode::BAD_REQUEST,
    "A test.",
    GrpcStatus::Internal,
);

fn call() -> Request<Body> {
    let call = Request::post("/pkg.Service/Method").header("content-type", "application/grpc");
    call.body(Body::empty()).unwrap()
}

fn refusal(code: &'static Code) -> Response<Body> {
    let context = RejectContext::of(&call());
    let answer: Result<_, Infallible> = Respond::new().reject(Rejection::new(code), &context);
    let answer = answer.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    answer
}

/// An answer by gRPC, as an upstream gives it.
fn answer(body: Body) -> Response<Body> {
    let answer = Response::builder().header("content-type", "application/grpc+proto");
    answer.body(body).unwrap()
}

fn in_head(status: &'static str) -> Response<Body> {
    let mut answer = answer(Body::empty());
    let status = status.parse().unwrap();
    answer.headers_mut().insert("grpc-status", status);
    answer
}

fn in_trailers(status: &'static str) -> Response<Body> {
    let body = ScriptedBody::script().data("message");
    answer(Body::new(
        body.trailers([("grpc-status", status)]).build().0,
    ))
}

/// How much of an answer its client reads.
#[derive(Clone, Copy)]
enum Read {
    All,
    Nothing,
}

/// The class of a call that is answered so.
async fn class_of(answer: impl Fn() -> Response<Body>, read: Read) -> Class {
    class_of_request(call, answer, read).await
}

/// The class of a request that is answered so: the one whose share of lines decides about it.
async fn class_of_request(
    request: fn() -> Request<Body>,
    answer: impl Fn() -> Response<Body>,
    read: Read,
) -> Class {
    let pipe = Pipe::default();
    let log = every_request(&pipe).start().unwrap();
    let handle = log.handle();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    let mut service = layer.layer(service_fn(async |_: Request<RequestBody<Body>>| {
        Ok::<_, Infallible>(answer())
    }));
    for &class in Class::ALL {
        for &each in Class::ALL {
            let share = if each == class { 1.0 } else { 0.0 };
            handle.set_share(each, share).unwrap();
        }
        let body = service.call(request()).await.unwrap().into_body();
        match read {
            Read::All => drop(body.collect().await.unwrap()),
            Read::Nothing => drop(body),
        }
        flushed(&handle);
        if !pipe.lines().is_empty() {
            return class;
        }
    }
    unreachable!("each request has a class");
}

#[tokio::test(start_paused = true)]
async fn a_refused_call_has_a_line() {
    for (code, class) in [
        (&OVERLOADED, Class::Error),
        (&LIMITED, Class::ClientError),
        (&ODD, Class::ClientError),
    ] {
        let seen = class_of(|| refusal(code), Read::All).await;
        assert_eq!(seen, class, "{}", code.name());
    }
}

/// The answer stage leaves the status in the head, too, where it replaces what an upstream said by HTTP.
#[tokio::test(start_paused = true)]
async fn a_call_is_what_its_status_says_in_head_or_trailers() {
    for (status, class) in [
        ("0", Class::Normal),
        ("1", Class::ClientError),
        ("4", Class::Error),
        ("5", Class::ClientError),
        ("8", Class::ClientError),
        ("13", Class::Error),
        ("14", Class::Error),
        ("none", Class::Error),
    ] {
        for read in [Read::All, Read::Nothing] {
            let seen = class_of(|| in_head(status), read).await;
            assert_eq!(seen, class, "{status} in the head");
        }
        let seen = class_of(|| in_trailers(status), Read::All).await;
        assert_eq!(seen, class, "{status} in the trailers");
    }
}

/// Story: an answer was a failure here by its HTTP status, and none to a breaker by the `grpc-status` beside that.
#[tokio::test(start_paused = true)]
async fn a_status_in_the_head_counts_beside_any_http_status() {
    for (http, status, class) in [
        (503, "0", Class::Normal),
        (500, "5", Class::ClientError),
        (404, "14", Class::Error),
    ] {
        let with = || {
            let mut answer = in_head(status);
            *answer.status_mut() = StatusCode::from_u16(http).unwrap();
            answer
        };
        assert_eq!(class_of(with, Read::All).await, class, "{http} {status}");
    }
    let without = || {
        let mut answer = answer(Body::empty());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        answer
    };
    assert_eq!(class_of(without, Read::All).await, Class::ClientError);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_status() {
    let without = || answer(Body::from("message"));
    assert_eq!(class_of(without, Read::All).await, Class::Error);
    assert_eq!(class_of(without, Read::Nothing).await, Class::ClientError);
    let failing = || in_trailers("14");
    assert_eq!(class_of(failing, Read::Nothing).await, Class::ClientError);
}

/// Story: what users had stored under the content type of gRPC was an error in the log each time that it was fetched, and later
/// when it was asked for by `POST`, as in a search.
#[tokio::test(start_paused = true)]
async fn stored_content_is_no_call() {
    let stored = || answer(Body::from("stored"));
    let get = || Request::get("/stored").body(Body::empty()).unwrap();
    let post = || Request::post("/stored").body(Body::empty()).unwrap();
    for request in [get, post] {
        let seen = class_of_request(request, stored, Read::All).await;
        assert_eq!(seen, Class::Normal);
    }
    assert_eq!(class_of(stored, Read::All).await, Class::Error);
}
