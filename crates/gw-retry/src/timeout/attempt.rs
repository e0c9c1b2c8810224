use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::context::Deadline;
use gw_core::mode::SharedMode;
use gw_core::stage::{FactSet, Stage};
use gw_core::{ConfigError, Mode, OnReject, RejectContext, Respond};
use http::{HeaderName, Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::body::TimedBody;
use super::error::Timer;
use super::field::TimeFields;
use super::future::{ResponseFuture, Timing};
use super::handle::AttemptTimeoutHandle;
use super::limit::{Limit, SharedLimit, longer_than_zero};
use super::note::{Note, SLOT};

/// The limits of an attempt. Those in a request's extensions, where a stage that knows the route puts them, take the place of
/// the layer's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AttemptTimeouts {
    pub(super) attempt: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) idle: Option<Duration>,
}

impl AttemptTimeouts {
    /// No limits but the deadline's.
    pub const fn new() -> Self {
        Self {
            attempt: None,
            first_byte: None,
            idle: None,
        }
    }

    /// The most an attempt may take up to the head of its answer, the upload included.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn attempt(mut self, limit: Duration) -> Result<Self, ConfigError> {
        self.attempt = Some(longer_than_zero("attempt", limit)?);
        Ok(self)
    }

    /// The most the head of the answer may take once the request is handed over. It is for requests without a body: when the
    /// last byte of an upload has gone out is known to the connection alone.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn first_byte(mut self, limit: Duration) -> Result<Self, ConfigError> {
        self.first_byte = Some(longer_than_zero("first_byte", limit)?);
        Ok(self)
    }

    /// The longest gap between two frames of the answer.
    ///
    /// # Errors
    ///
    /// If it is zero.
    pub fn idle(mut self, limit: Duration) -> Result<Self, ConfigError> {
        self.idle = Some(longer_than_zero("idle", limit)?);
        Ok(self)
    }
}

/// Ends attempts that take too long, and tells the upstream how much time is left.
///
/// An attempt ends at the earliest of its limits and the request's [`Deadline`]. The refusal is 504 and carries
/// [`Failure::Unknown`], so a breaker counts it against the upstream and a retry layer may send the request again; but
/// [`Failure::Local`] if it is the client that asked for no more time ([`Deadline::is_by_client`]). One that begins after the
/// deadline is refused with [`Failure::Refused`]: nothing was sent.
///
/// It stands inside the retry layer and the breaker. The upstream of a gw pipeline has these timers itself; this layer is for
/// other stacks.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutLayer<R = Respond> {
    shared: Arc<Settings>,
    on_reject: R,
}

#[derive(Debug, Clone)]
struct Settings {
    fields: TimeFields,
    slot: &'static str,
    margin: Duration,
    /// Of its own for each layer that is given a mode, and shared by its clones.
    live: Arc<Live>,
}

/// What a handle changes.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) mode: SharedMode,
    attempt: SharedLimit,
    first_byte: SharedLimit,
    idle: SharedLimit,
    /// Held by who changes the limits, or two at once would leave some of both for good.
    changing: Mutex<()>,
}

impl Live {
    fn new(timeouts: AttemptTimeouts, mode: Mode) -> Self {
        Self {
            mode: SharedMode::new(mode),
            attempt: SharedLimit::new(timeouts.attempt),
            first_byte: SharedLimit::new(timeouts.first_byte),
            idle: SharedLimit::new(timeouts.idle),
            changing: Mutex::new(()),
        }
    }

    #[inline]
    pub(super) fn timeouts(&self) -> AttemptTimeouts {
        AttemptTimeouts {
            attempt: self.attempt.get(),
            first_byte: self.first_byte.get(),
            idle: self.idle.get(),
        }
    }

    /// One after the other: an attempt that begins just now may have some of both.
    pub(super) fn set_timeouts(&self, timeouts: AttemptTimeouts) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.attempt.set(timeouts.attempt);
        self.first_byte.set(timeouts.first_byte);
        self.idle.set(timeouts.idle);
    }
}

impl AttemptTimeoutLayer {
    /// With these limits for requests that carry none of their own.
    pub fn new(timeouts: AttemptTimeouts) -> Self {
        Self {
            shared: Arc::new(Settings {
                fields: TimeFields::default(),
                slot: SLOT,
                margin: Duration::ZERO,
                live: Arc::new(Live::new(timeouts, Mode::Enforce)),
            }),
            on_reject: Respond::new(),
        }
    }
}

impl<R> AttemptTimeoutLayer<R> {
    /// Tells gRPC upstreams how much time the attempt has, in `grpc-timeout`, in place of what the client said.
    ///
    /// gRPC means the whole call by it. So for calls whose answers are long streams set no limit up to the head: the upstream
    /// would end the stream at it. Nor set it around a tonic `Channel`, which ends the call by that field itself, with an error of its
    /// own that says `Cancelled`.
    #[must_use]
    pub fn propagate_grpc_timeout(mut self) -> Self {
        Arc::make_mut(&mut self.shared).fields.grpc = true;
        self
    }

    /// Tells upstreams how much time the attempt has, in whole milliseconds in this field.
    #[must_use]
    pub fn propagate_field(mut self, name: HeaderName) -> Self {
        Arc::make_mut(&mut self.shared).fields.millis = Some(name);
        self
    }

    /// What upstreams are told is less by this much, for the way there and back. Nothing unless set.
    #[must_use]
    pub fn margin(mut self, margin: Duration) -> Self {
        Arc::make_mut(&mut self.shared).margin = margin;
        self
    }

    /// Renders refusals with `renderer`, which is given the inner service's body type.
    pub fn on_reject<T>(self, renderer: T) -> AttemptTimeoutLayer<T> {
        AttemptTimeoutLayer {
            shared: self.shared,
            on_reject: renderer,
        }
    }

    /// What the layer does at first. The layer that this one was cloned from goes on as before.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        let settings = Arc::make_mut(&mut self.shared);
        settings.live = Arc::new(Live::new(settings.live.timeouts(), mode));
        self
    }

    /// What an operator may read and change while requests run: of this layer as it is now, so it is taken last.
    pub fn handle(&self) -> AttemptTimeoutHandle {
        AttemptTimeoutHandle(Arc::clone(&self.shared.live))
    }
}

impl<S, R: Clone> Layer<S> for AttemptTimeoutLayer<R> {
    type Service = AttemptTimeout<S, R>;

    fn layer(&self, inner: S) -> AttemptTimeout<S, R> {
        AttemptTimeout {
            inner,
            shared: Arc::clone(&self.shared),
            on_reject: self.on_reject.clone(),
        }
    }
}

/// Needs nothing.
impl<F: FactSet, R> Stage<F> for AttemptTimeoutLayer<R> {
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

/// Ends attempts that take too long. Made by an [`AttemptTimeoutLayer`].
#[derive(Debug, Clone)]
pub struct AttemptTimeout<S, R = Respond> {
    inner: S,
    shared: Arc<Settings>,
    on_reject: R,
}

impl<S, R> AttemptTimeout<S, R> {
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

impl<S, R, B, ResB> Service<Request<B>> for AttemptTimeout<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
    B: Body,
{
    type Response = Response<TimedBody<ResB>>;
    type Error = R::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let live = &*self.shared.live;
        let mode = live.mode.get();
        if mode == Mode::Off {
            let future = self.inner.call(request);
            return ResponseFuture::running(future, Timing::default(), self.on_reject.clone());
        }
        let now = Instant::now();
        let extensions = request.extensions();
        let timeouts = extensions.get().copied();
        let timeouts = timeouts.unwrap_or_else(|| live.timeouts());
        let deadline = extensions.get::<Deadline>().copied();
        let whole = deadline.map(Limit::of_deadline);
        let first_byte = timeouts
            .first_byte
            .filter(|_| request.body().is_end_stream());
        // The deadline last: of two that end together the gateway's own is the earlier, and the deadline may be the client's.
        let head = Limit::earliest([
            Limit::after(now, timeouts.attempt, Timer::Attempt),
            Limit::after(now, first_byte, Timer::FirstByte),
            whole,
        ]);
        let timing = Timing {
            head,
            whole: None,
            idle: timeouts.idle,
            failure: match head {
                Some(head) if head.by_client => Failure::Local,
                _ => Failure::Unknown,
            },
            context: RejectContext::of(&request),
            // Of its body alone, which no other timer cuts.
            note: (timeouts.idle).and_then(|_| Note::of(extensions, self.shared.slot)),
            is_attempt: true,
            shadow: mode == Mode::Shadow,
        };
        if !timing.shadow && whole.is_some_and(|whole| whole.has_passed(now)) {
            return ResponseFuture::late(Timer::Deadline, timing, self.on_reject.clone());
        }
        if let Some(head) = head.filter(|_| !timing.shadow) {
            let left = head.due.saturating_duration_since(now);
            let left = left.saturating_sub(self.shared.margin);
            self.shared.fields.write(request.headers_mut(), left);
        }
        ResponseFuture::running(self.inner.call(request), timing, self.on_reject.clone())
    }
}
