use std::sync::Arc;
use std::task::{Context, Poll};

use tower_service::Service;

use super::Description;

/// A whole pipeline as a service, which can say what it is made of. See [`Builder::build`](super::Builder::build).
#[derive(Debug, Clone)]
pub struct PipelineService<S> {
    inner: S,
    description: Arc<Description>,
}

impl<S> PipelineService<S> {
    pub(super) const fn new(inner: S, description: Arc<Description>) -> Self {
        Self { inner, description }
    }

    /// What it is made of, in order.
    pub fn describe(&self) -> &Description {
        &self.description
    }

    /// The stages.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The stages.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The stages, without their description.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: Service<Req>, Req> Service<Req> for PipelineService<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Req) -> S::Future {
        self.inner.call(request)
    }
}
