use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::Mode;
use gw_core::attempt::AttemptError;
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use super::future::ResponseFuture;
use super::layer::Shared;
use super::plan::Plan;
use crate::context::Known;
use crate::head::Head;
use crate::policy::Methods;

/// Sends a second copy of reads that take too long. Made by a [`HedgeLayer`](super::HedgeLayer).
///
/// The first copy uses the instance that was polled ready; the second a clone, which is polled once: if it is not ready,
/// there is no second copy.
#[derive(Debug, Clone)]
pub struct Hedge<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Hedge<S> {
    pub(super) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResB> Service<Request<B>> for Hedge<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    S::Error: AttemptError,
    B: Body + Default,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let plan = self.plan(&request);
        ResponseFuture::new(self.inner.call(request), plan)
    }
}

impl<S: Clone> Hedge<S> {
    /// None for what is not hedged.
    #[inline]
    fn plan<B: Body>(&self, request: &Request<B>) -> Option<Box<Plan<S>>> {
        if !self.shared.is_hedged(request) {
            return None;
        }
        let shared = Arc::clone(&self.shared);
        let (service, head) = (self.inner.clone(), Head::new(request));
        let mut plan = Plan::boxed(service, head, shared, Instant::now());
        if !plan.head.keep(request, &self.shared.attempt_field) {
            return None;
        }
        plan.count();
        Known::learn(&mut plan.known, request.extensions(), &self.shared.copy);
        Some(plan)
    }
}

impl Shared {
    /// A read without a body. That it neither takes a connection over nor is a retry itself is seen in its fields.
    #[inline]
    fn is_hedged<B: Body>(&self, request: &Request<B>) -> bool {
        self.mode.get() != Mode::Off
            && Methods::SAFE.has(Methods::bit(request.method()))
            && request.body().is_end_stream()
    }
}
