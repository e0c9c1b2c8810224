//! Where admitted requests run.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::error::Rejected;
use crate::lanes::{Lanes, Permit};
use crate::late::LateFuture;
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
    /// Runs one request.
    type Future: PollAnswer<Self::Body, S::Error>;
    /// Runs one request that has waited.
    type Late: PollAnswer<Self::Body, S::Error>;

    /// Runs `request` on the readied `service`; without a place it passes through untouched.
    fn execute(
        &self,
        service: &mut S,
        request: Request<B>,
        place: Option<(&Lanes, Permit)>,
    ) -> Self::Future;

    /// Runs `request` on a service that is not ready yet.
    fn execute_late(
        &self,
        service: S,
        request: Request<B>,
        lanes: &Lanes,
        permit: Permit,
    ) -> Self::Late;
}

/// The future of one request. Not a [`Future`], so that an answer goes straight to where the layer's own future returns
/// it: each time that one is moved costs as much as admitting the request did.
pub trait PollAnswer<B, E> {
    /// The answer, or what `failed` makes of there being none.
    fn poll_answer<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
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
    ResB: Body,
{
    type Body = ResponseBody<ResB>;
    type Future = InlineFuture<S::Future>;
    type Late = InlineFuture<LateFuture<S, Request<B>, S::Future>>;

    // Always inlined, as what else hands requests and answers on is where the compiler agrees: they are some 200 bytes
    // each, and moving them costs more than admitting them.
    #[inline(always)]
    fn execute(
        &self,
        service: &mut S,
        mut request: Request<B>,
        place: Option<(&Lanes, Permit)>,
    ) -> Self::Future {
        let lease = place.map(|(lanes, permit)| Lease::new(lanes, permit, &mut request));
        InlineFuture {
            future: service.call(request),
            lease,
        }
    }

    fn execute_late(
        &self,
        service: S,
        mut request: Request<B>,
        lanes: &Lanes,
        permit: Permit,
    ) -> Self::Late {
        let lease = Some(Lease::new(lanes, permit, &mut request));
        InlineFuture {
            future: LateFuture::new(service, request),
            lease,
        }
    }
}

pin_project! {
    /// A request that runs where it is polled.
    #[derive(Debug)]
    pub struct InlineFuture<F> {
        // Dropped before the lease: while a place is taken for it, and not longer.
        #[pin]
        future: F,
        lease: Option<Lease>,
    }
}

impl<F, ResB, E> PollAnswer<ResponseBody<ResB>, E> for InlineFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    ResB: Body,
{
    #[inline]
    fn poll_answer<T>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        failed: impl FnOnce(Failed<E>) -> Result<Response<ResponseBody<ResB>>, T>,
    ) -> Poll<Result<Response<ResponseBody<ResB>>, T>> {
        let this = self.project();
        match this.future.poll(cx) {
            Poll::Ready(Ok(response)) => {
                Poll::Ready(Ok(ResponseBody::hold(response, this.lease.take())))
            }
            Poll::Ready(Err(error)) => Poll::Ready(failed(Failed::Inner(error))),
            Poll::Pending => match this.lease.as_mut().map(|lease| lease.poll_cut(cx)) {
                Some(Poll::Ready(rejected)) => {
                    Poll::Ready(failed(Failed::Rejected(Box::new(rejected))))
                }
                Some(Poll::Pending) | None => Poll::Pending,
            },
        }
    }
}
