//! Where admitted requests run.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::late::LateFuture;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::error::Rejected;
use crate::lanes::Permit;
use crate::layer::Shared;
use crate::lease::Lease;

/// Runs requests where they come from. The default: no task, no thread, no allocation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inline;

/// Runs admitted requests of a service. Sealed: [`Inline`], and `Threads` with the feature of this name.
pub trait Execute<S, B, ResB>: Clone
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    /// The body of the answers.
    type Body: From<ResponseBody<ResB>>;
    /// What goes along to where a request runs, if that is somewhere else.
    type Side: Default;
    /// Runs one request.
    type Future: PollAnswer<Self::Body, S::Error>;
    /// Runs one request that has waited.
    type Late: PollAnswer<Self::Body, S::Error>;

    /// What `request` has with its place. Apart from [`Execute::execute`], so that this one may change the request where it
    /// lies, and that one only hands it on.
    fn lease(
        &self,
        shared: &Arc<Shared>,
        permit: Permit,
        request: &mut Request<B>,
    ) -> (Lease, Self::Side);

    /// Runs `request` on the readied `service`. The lease stays where it is, unless it is needed with what runs elsewhere.
    fn execute(
        &self,
        service: &mut S,
        request: Request<B>,
        side: Self::Side,
        lease: &mut Option<Lease>,
    ) -> Self::Future;

    /// Runs `request` on a service that is not ready yet.
    fn execute_late(
        &self,
        service: S,
        request: Request<B>,
        side: Self::Side,
        lease: &mut Option<Lease>,
    ) -> Self::Late;
}

/// The future of one request. Not a [`Future`], so that an answer goes straight to where the layer's own future returns
/// it: each time that one is moved costs as much as admitting the request did.
pub trait PollAnswer<B, E> {
    /// The answer, or what `failed` makes of there being none. Says in `ended` that there will be no other.
    fn poll_answer<T>(
        self: Pin<&mut Self>,
        lease: &mut Option<Lease>,
        cx: &mut Context<'_>,
        ended: &mut bool,
        failed: impl FnOnce(Failed<E>) -> Result<Response<B>, T>,
    ) -> Poll<Result<Response<B>, T>>;
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failed<E> {
    /// The inner service failed.
    Inner(E),
    /// The request was cut before its answer.
    Rejected(Box<Rejected>),
}

impl<S, B, ResB> Execute<S, B, ResB> for Inline
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: 'static,
    ResB: Body,
{
    type Body = ResponseBody<ResB>;
    type Side = ();
    type Future = InlineFuture<S::Future>;
    type Late = InlineFuture<LateFuture<S, Request<B>, S::Future>>;

    #[inline]
    fn lease(&self, shared: &Arc<Shared>, permit: Permit, request: &mut Request<B>) -> (Lease, ()) {
        (Lease::new(shared, permit, request), ())
    }

    #[inline]
    fn execute(
        &self,
        service: &mut S,
        request: Request<B>,
        (): (),
        _: &mut Option<Lease>,
    ) -> Self::Future {
        call_into(service, request, |future| InlineFuture { future })
    }

    fn execute_late(
        &self,
        service: S,
        request: Request<B>,
        (): (),
        _: &mut Option<Lease>,
    ) -> Self::Late {
        InlineFuture {
            future: LateFuture::new(service, request),
        }
    }
}

pin_project! {
    /// A request that runs where it is polled.
    #[derive(Debug)]
    pub struct InlineFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, ResB, E> PollAnswer<ResponseBody<ResB>, E> for InlineFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    E: 'static,
    ResB: Body,
{
    #[inline]
    fn poll_answer<T>(
        self: Pin<&mut Self>,
        lease: &mut Option<Lease>,
        cx: &mut Context<'_>,
        ended: &mut bool,
        failed: impl FnOnce(Failed<E>) -> Result<Response<ResponseBody<ResB>>, T>,
    ) -> Poll<Result<Response<ResponseBody<ResB>>, T>> {
        match self.project().future.poll(cx) {
            Poll::Ready(Ok(response)) => {
                *ended = true;
                Poll::Ready(Ok(ResponseBody::hold(response, lease)))
            }
            Poll::Ready(Err(error)) => {
                *ended = true;
                if let Some(lease) = lease {
                    lease.failed(&error);
                }
                Poll::Ready(failed(Failed::Inner(error)))
            }
            Poll::Pending => match lease.as_mut().map(|lease| lease.poll_cut(cx)) {
                Some(Poll::Ready(rejected)) => {
                    *ended = true;
                    Poll::Ready(failed(Failed::Rejected(Box::new(rejected))))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }
}
