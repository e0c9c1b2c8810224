//! What a retry layer adds to a service that answers well at once.

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use gw_core::context::Deadline;
use gw_retry::hedge::HedgeLayer;
use gw_retry::timeout::{AttemptTimeoutLayer, AttemptTimeouts, DeadlineLayer};
use gw_retry::{Budget as Ours, RetryLayer, RetryPolicy};
use gw_tests::bench::Result;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::retry::budget::{Budget as _, TpsBudget};
use tower::retry::{Policy, RetryLayer as Towers};
use tower::{Layer, Service};
use tower_resilience_retry::RetryLayer as Resilience;

use crate::bare::{Bare, empty};
use crate::subject::Subject;

const READ: &str = "gw, read";

type Sent = Full<Bytes>;

/// Requests that may be sent again, and need not.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn first_succeeds(_: u64) -> Result<Vec<Subject>> {
    let upload = || {
        let mut request = read();
        *request.method_mut() = Method::QUERY;
        *request.body_mut() = Full::from("data");
        request
    };
    Ok(vec![
        subject("the bare service", Bare(empty), read),
        subject(READ, ours()?.layer(Bare(empty)), read),
        subject(
            "gw, read, deadline",
            ours()?.layer(Bare(empty)),
            with_deadline,
        ),
        subject("gw, read with a body", ours()?.layer(Bare(empty)), upload),
        subject("tower", Towers::new(Tower::new()).layer(Bare(empty)), read).beside(READ),
        subject("tower-resilience", resilience().layer(Bare(empty)), read).beside(READ),
    ])
}

/// The same with fields, which the floor has as well.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn with_fields(_: u64) -> Result<Vec<Subject>> {
    let tower = Towers::new(Tower::new());
    Ok(vec![
        subject("the bare service", Bare(empty), fields),
        subject(READ, ours()?.layer(Bare(empty)), fields),
        subject("tower", tower.layer(Bare(empty)), fields).beside(READ),
        subject("tower-resilience", resilience().layer(Bare(empty)), fields).beside(READ),
    ])
}

fn ours() -> Result<RetryLayer> {
    Ok(RetryLayer::builder(Ours::builder("a").build()?).build())
}

/// Requests that are sent once whatever happens.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn sent_once(_: u64) -> Result<Vec<Subject>> {
    let ours = |policy| -> Result<_> {
        let budget = Ours::builder("a").build()?;
        let layer = RetryLayer::builder(budget).policy(policy).build();
        Ok(layer.layer(Bare(empty)))
    };
    let write = || {
        let mut request = read();
        *request.method_mut() = Method::POST;
        request
    };
    let reads = RetryPolicy::builder().unsent(false).build()?;
    let hour = Duration::from_secs(3600);
    let limits = AttemptTimeouts::new().attempt(hour)?;
    Ok(vec![
        subject("the bare service", Bare(empty), write),
        subject("gw, a write", ours(reads)?, write),
        subject("gw, no retries", ours(RetryPolicy::none())?, read),
        subject(
            "gw, attempt timeout",
            AttemptTimeoutLayer::new(limits).layer(Bare(empty)),
            write,
        ),
        subject(
            "gw, deadline",
            DeadlineLayer::new().limit(hour)?.layer(Bare(empty)),
            write,
        ),
        subject(
            "gw, hedge",
            HedgeLayer::builder("a").build()?.layer(Bare(empty)),
            read,
        ),
    ])
}

fn read() -> Request<Sent> {
    Request::new(Full::default())
}

/// As a server has them that has read them from a connection: a name that is none of the usual ones is a piece of memory of its own, and all values
/// are parts of one.
fn fields() -> Request<Sent> {
    static HEAD: LazyLock<Bytes> = LazyLock::new(|| b"some value of a field".to_vec().into());
    let mut request = read();
    for name in [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "authorization",
        "traceparent",
        "x-request-id",
        "sec-fetch-mode",
    ] {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_maybe_shared(HEAD.clone());
        if let (Ok(name), Ok(value)) = (name, value) {
            request.headers_mut().insert(name, value);
        }
    }
    request
}

fn with_deadline() -> Request<Sent> {
    let mut request = read();
    let hour = Duration::from_secs(3600);
    if let Some(deadline) = Deadline::after(Instant::now(), hour) {
        request.extensions_mut().insert(deadline);
    }
    request
}

/// What tower's documentation shows: a budget that successes fill.
#[derive(Clone)]
struct Tower(Arc<TpsBudget>);

impl Tower {
    fn new() -> Self {
        Self(Arc::new(TpsBudget::default()))
    }
}

impl Policy<Request<Sent>, Response<Body>, Infallible> for Tower {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut Request<Sent>,
        result: &mut std::result::Result<Response<Body>, Infallible>,
    ) -> Option<Ready<()>> {
        let failed = result.as_ref().is_ok_and(|r| r.status().is_server_error());
        if failed {
            return self.0.withdraw().then(|| ready(()));
        }
        self.0.deposit();
        None
    }

    fn clone_request(&mut self, request: &Request<Sent>) -> Option<Request<Sent>> {
        Some(request.clone())
    }
}

fn resilience() -> Resilience<Request<Sent>, Response<Body>, Infallible> {
    Resilience::<Request<Sent>, Response<Body>, Infallible>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(25))
        .retry_on_response(|response: &Response<Body>| response.status().is_server_error())
        .build()
}

/// Each request is made ready for, sent, and answered at the first poll.
fn subject<S, B>(
    name: &'static str,
    mut service: S,
    request: impl Fn() -> Request<Sent> + 'static,
) -> Subject
where
    S: Service<Request<Sent>, Response = Response<B>> + 'static,
{
    Subject::new(name, move || {
        let mut context = Context::from_waker(Waker::noop());
        if !matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))) {
            return false;
        }
        let future = pin!(service.call(request()));
        match future.poll(&mut context) {
            Poll::Ready(Ok(response)) => response.status().is_success(),
            _ => false,
        }
    })
}
