use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::context::Deadline;
use gw_core::record::Record;
use gw_core::stage::{FactSet, Stage};
use gw_core::{OnReject, RejectContext, Respond};
use http::{HeaderName, Request, Response};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::body::TimedBody;
use super::error::Timer;
use super::field::TimeFields;
use super::future::{ResponseFuture, Timing};
use super::limit::Limit;

/// Gives each request a [`Deadline`] and ends the exchange at it.
///
/// The deadline is the earliest of the layer's limit, what the client says it will wait, and one that an earlier stage has
/// set. Layers inside read it from the request's extensions; [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer) tells the
/// upstream what is left of it.
///
/// A gw pipeline has a timer of its own at its end; this layer is for other stacks.
#[derive(Debug, Clone)]
pub struct DeadlineLayer<R = Respond> {
    limit: Option<Duration>,
    // Shared: a name may own its text, and a clone is made for each connection.
    fields: Arc<TimeFields>,
    on_reject: R,
}

impl DeadlineLayer {
    /// A layer without a limit of its own: it ends what an earlier stage or the client has set a deadline for.
    pub fn new() -> Self {
        Self {
            limit: None,
            fields: Arc::default(),
            on_reject: Respond::new(),
        }
    }
}

impl Default for DeadlineLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> DeadlineLayer<R> {
    /// The most an exchange may take, from the head of the request to the last byte of the answer.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Believes `grpc-timeout`.
    #[must_use]
    pub fn client_grpc_timeout(mut self) -> Self {
        Arc::make_mut(&mut self.fields).grpc = true;
        self
    }

    /// Believes a field of whole milliseconds. What cannot be read is ignored.
    #[must_use]
    pub fn client_field(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.fields).millis = Some(name);
        self
    }

    /// Renders refusals with `renderer`, which is given the inner service's body type.
    pub fn on_reject<T>(self, renderer: T) -> DeadlineLayer<T> {
        DeadlineLayer {
            limit: self.limit,
            fields: self.fields,
            on_reject: renderer,
        }
    }
}

impl<S, R: Clone> Layer<S> for DeadlineLayer<R> {
    type Service = InTime<S, R>;

    fn layer(&self, inner: S) -> InTime<S, R> {
        InTime {
            inner,
            limit: self.limit,
            fields: Arc::clone(&self.fields),
            on_reject: self.on_reject.clone(),
        }
    }
}

/// Needs nothing.
impl<F: FactSet, R> Stage<F> for DeadlineLayer<R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

/// Ends exchanges at their deadline. Made by a [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct InTime<S, R = Respond> {
    inner: S,
    limit: Option<Duration>,
    fields: Arc<TimeFields>,
    on_reject: R,
}

impl<S, R> InTime<S, R> {
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

impl<S, R, B, ResB> Service<Request<B>> for InTime<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<TimedBody<ResB>>;
    type Error = R::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let now = Instant::now();
        let hint = self.fields.read(request.headers());
        let own = [self.limit, hint].into_iter().flatten().min();
        let own = own.and_then(|limit| Deadline::after(now, limit));
        let earlier = request.extensions().get::<Deadline>().copied();
        let Some(deadline) = [own, earlier].into_iter().flatten().min() else {
            let timing = Timing::default();
            let future = self.inner.call(request);
            return ResponseFuture::running(future, timing, self.on_reject.clone());
        };
        let limit = Limit::of_deadline(deadline);
        let timing = Timing {
            head: Some(limit),
            whole: Some(limit),
            idle: None,
            failure: Failure::Local,
            context: RejectContext::of(&request),
            record: Record::of(request.extensions()).cloned(),
        };
        if limit.has_passed(now) {
            return ResponseFuture::late(Timer::Deadline, timing, self.on_reject.clone());
        }
        request.extensions_mut().insert(deadline);
        ResponseFuture::running(self.inner.call(request), timing, self.on_reject.clone())
    }
}
