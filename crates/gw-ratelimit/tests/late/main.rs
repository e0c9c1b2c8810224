//! Tiers, penalties, and what is charged after the decision, through the layers: no server, the clock paused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod bodies;
mod charges;
mod clients;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use gw_core::Body;
use gw_ratelimit::key::Header;
use gw_ratelimit::{Policy, Quota, RateLimitHandle};
use http::{HeaderName, Request, Response, StatusCode};
use tower::{Service, service_fn};

const WHO: HeaderName = HeaderName::from_static("who");

fn request(who: &'static str) -> Request<()> {
    Request::builder().header(WHO, who).body(()).unwrap()
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn answer<S, Q>(service: &mut S, request: Q) -> S::Response
where
    S: Service<Q, Error = Infallible>,
{
    assert!(service.poll_ready(&mut cx()).is_ready());
    let mut future = pin!(service.call(request));
    match future.as_mut().poll(&mut cx()) {
        Poll::Ready(Ok(answer)) => answer,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Answers with the status that the request's path names, and lets `see` look at the request.
fn inner<F>(
    see: F,
) -> impl Service<
    Request<()>,
    Response = Response<Body>,
    Error = Infallible,
    Future = Ready<Result<Response<Body>, Infallible>>,
> + Clone
where
    F: Fn(&Request<()>) + Clone,
{
    service_fn(move |request: Request<()>| {
        see(&request);
        let status = request.uri().path().trim_start_matches('/');
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap_or(StatusCode::OK);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = status;
        ready(Ok(answer))
    })
}

fn per_client(quota: Quota) -> Policy<Header> {
    Policy::new("p", quota).key(Header::new(WHO))
}

fn left(handle: &RateLimitHandle, who: &'static str) -> u32 {
    let value = http::HeaderValue::from_static(who);
    handle.peek("p", &value).unwrap().remaining()
}
