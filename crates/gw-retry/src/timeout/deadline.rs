use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::context::Deadline;
use gw_core::mode::SharedMode;
use gw_core::stage::{FactSet, Stage};
use gw_core::{ConfigError, Mode, OnReject, RejectContext, Respond};
use http::{HeaderName, Request, Response};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::body::TimedBody;
use super::error::Timer;
use super::field::TimeFields;
use super::future::{ResponseFuture, Timing};
use super::handle::DeadlineHandle;
use super::limit::{Limit, SharedLimit, longer_than_zero};
use super::note::{Note, SLOT};

/// Gives each request a [`Deadline`] and ends the exchange at it.
///
/// A deadline that the client asks for says so ([`Deadline::is_by_client`]): that it passes says nothing about the upstream.
///
/// The deadline is the earliest of the layer's limit, what the client says it will wait, and one that an earlier stage has
/// set. Layers inside read it from the request's extensions; [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer) tells the
/// upstream what is left of it.
///
/// A gw pipeline has a timer of its own at its end; this layer is for other stacks.
#[derive(Debug, Clone)]
pub struct DeadlineLayer<R = Respond> {
    // Shared: a name may own its text, and a clone is made for each connection.
    shared: Arc<Settings>,
    on_reject: R,
}

#[derive(Debug, Clone)]
struct Settings {
    fields: TimeFields,
    slot: &'static str,
    /// Of its own for each layer that is given a limit or a mode, and shared by its clones.
    live: Arc<Live>,
}

/// What a handle changes.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) mode: SharedMode,
    pub(super) limit: SharedLimit,
}

impl Live {
    fn new(limit: Option<Duration>, mode: Mode) -> Arc<Self> {
        Arc::new(Self {
            mode: SharedMode::new(mode),
            limit: SharedLimit::new(limit),
        })
    }
}

impl DeadlineLayer {
    /// A layer without a limit of its own: it ends what an earlier stage or the client has set a deadline for.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Settings {
                fields: TimeFields::default(),
                slot: SLOT,
                live: Arc::default(),
            }),
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
    ///
    /// # Errors
    ///
    /// If it is zero: then every request would be late.
    pub fn limit(mut self, limit: Duration) -> Result<Self, ConfigError> {
        let limit = longer_than_zero("limit", limit)?;
        let settings = Arc::make_mut(&mut self.shared);
        settings.live = Live::new(Some(limit), settings.live.mode.get());
        Ok(self)
    }

    /// Believes `grpc-timeout`.
    #[must_use]
    pub fn client_grpc_timeout(mut self) -> Self {
        Arc::make_mut(&mut self.shared).fields.grpc = true;
        self
    }

    /// Believes a field of whole milliseconds. What cannot be read is ignored.
    #[must_use]
    pub fn client_field(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.shared).fields.millis = Some(name);
        self
    }

    /// Renders refusals with `renderer`, which is given the inner service's body type.
    pub fn on_reject<T>(self, renderer: T) -> DeadlineLayer<T> {
        DeadlineLayer {
            shared: self.shared,
            on_reject: renderer,
        }
    }

    /// What the layer does at first. The layer that this one was cloned from goes on as before.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        let settings = Arc::make_mut(&mut self.shared);
        settings.live = Live::new(settings.live.limit.get(), mode);
        self
    }

    /// What an operator may read and change while requests run: of this layer as it is now, so it is taken last.
    pub fn handle(&self) -> DeadlineHandle {
        DeadlineHandle(Arc::clone(&self.shared.live))
    }
}

impl<S, R: Clone> Layer<S> for DeadlineLayer<R> {
    type Service = InTime<S, R>;

    fn layer(&self, inner: S) -> InTime<S, R> {
        InTime {
            inner,
            shared: Arc::clone(&self.shared),
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

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        Arc::make_mut(&mut self.shared).slot = slot;
        self
    }
}

/// Ends exchanges at their deadline. Made by a [`DeadlineLayer`].
#[derive(Debug, Clone)]
pub struct InTime<S, R = Respond> {
    inner: S,
    shared: Arc<Settings>,
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

    /// Without a timer.
    fn pass<B>(&mut self, request: Request<B>) -> ResponseFuture<S::Future, R>
    where
        S: Service<Request<B>>,
        R: Clone,
    {
        let future = self.inner.call(request);
        ResponseFuture::running(future, Timing::default(), self.on_reject.clone())
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
        let mode = self.shared.live.mode.get();
        if mode == Mode::Off {
            return self.pass(request);
        }
        let now = Instant::now();
        let hint = self.shared.fields.read(request.headers());
        let after = |limit| Deadline::after(now, limit);
        let own = self.shared.live.limit.get().and_then(after);
        let hint = hint.and_then(after).map(Deadline::by_client);
        let earlier = request.extensions().get::<Deadline>().copied();
        let Some(deadline) = [own, hint, earlier].into_iter().flatten().min() else {
            return self.pass(request);
        };
        let limit = Limit::of_deadline(deadline);
        let timing = Timing {
            head: Some(limit),
            whole: Some(limit),
            idle: None,
            failure: Failure::Local,
            context: RejectContext::of(&request),
            note: Note::of(request.extensions(), self.shared.slot),
            is_attempt: false,
            shadow: mode == Mode::Shadow,
        };
        if timing.shadow {
            // Nobody inside is told: it would be heeded.
            return ResponseFuture::running(
                self.inner.call(request),
                timing,
                self.on_reject.clone(),
            );
        }
        if limit.has_passed(now) {
            return ResponseFuture::late(Timer::Deadline, timing, self.on_reject.clone());
        }
        request.extensions_mut().insert(deadline);
        ResponseFuture::running(self.inner.call(request), timing, self.on_reject.clone())
    }
}
