//! What the tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gw_core::Body;
use gw_retry::{AttemptError, Budget, Failure, ReplayBody, RetryLayer, RetryPolicy};
use gw_testkit::service::{Call, ControlledService, ServiceHandle};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, Service};

/// How an attempt failed, as an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed(pub(crate) Failure);

impl AttemptError for Failed {
    fn failure(&self) -> Failure {
        self.0
    }
}

pub(crate) type ResBody = Full<Bytes>;
pub(crate) type Sent = ReplayBody<Body>;
pub(crate) type Inner = ControlledService<Sent, ResBody, Failed>;
pub(crate) type Handle = ServiceHandle<Sent, ResBody, Failed>;
pub(crate) type Sending = Call<Sent, ResBody, Failed>;
/// What an attempt comes to.
pub(crate) type Answer = Result<Response<ResBody>, Failed>;
/// What the layer makes of it.
pub(crate) type Outcome = Result<Response<gw_retry::ResponseBody<ResBody>>, Failed>;

pub(crate) fn inner() -> (Inner, Handle) {
    ControlledService::new()
}

/// A budget that is never used up.
pub(crate) fn ample() -> Budget {
    let budget = Budget::builder("orders").min_per_second(1_000_000);
    budget.build().unwrap()
}

/// Retries at once, without a wait.
pub(crate) fn at_once() -> gw_retry::RetryPolicyBuilder {
    use std::time::Duration;
    let never = gw_retry::Backoff::exponential(Duration::ZERO, Duration::ZERO);
    RetryPolicy::builder().backoff(never)
}

pub(crate) fn layer(policy: gw_retry::RetryPolicyBuilder) -> RetryLayer {
    let policy = policy.build().unwrap();
    RetryLayer::builder(ample()).policy(policy).build()
}

pub(crate) fn request(method: Method) -> Request<Body> {
    with_body(method, Body::empty())
}

pub(crate) fn with_body(method: Method, body: impl Into<Body>) -> Request<Body> {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    request
}

pub(crate) fn response(status: u16) -> Response<ResBody> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status.try_into().unwrap();
    response
}

/// Calls a service once it is ready.
pub(crate) async fn call<S: Service<R>, R>(service: &mut S, request: R) -> Pin<Box<S::Future>>
where
    S::Error: std::fmt::Debug,
{
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx)).await;
    ready.unwrap();
    Box::pin(service.call(request))
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Sends one request through the layer; attempts are answered one after the other by `answers`. Returns the outcome, and
/// how many attempts there were.
pub(crate) async fn run<const N: usize>(
    layer: &RetryLayer,
    request: Request<Body>,
    answers: [Answer; N],
) -> (Outcome, usize) {
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let answers = std::sync::Mutex::new(
        answers
            .into_iter()
            .collect::<std::collections::VecDeque<_>>(),
    );
    handle.answer_with(move |_| answers.lock().unwrap().pop_front().unwrap());
    let outcome = call(&mut service, request).await.await;
    assert!(handle.violations().is_empty(), "{:?}", handle.violations());
    (outcome, handle.calls())
}

/// The body of an attempt, read to its end.
pub(crate) async fn read(request: Request<Sent>) -> Bytes {
    request.into_body().collect().await.unwrap().to_bytes()
}
