//! The typed builder: slots in a fixed order, checked by the compiler.

mod describe;
mod in_time;
mod layer;
mod lint;
mod plain;
mod service;
pub mod slot;
mod terminal;

use std::fmt;
use std::sync::Arc;

use gw_core::Respond;
use gw_core::stage::{FactSet, NoFacts, Stage};
use tower_layer::{Identity, Layer, Stack};

pub use self::describe::{
    Description, HeldFacts, LayerDescription, StageDescription, StageKind, UpstreamDescription,
};
pub use self::in_time::{InTime, InTimeBody, InTimeFuture};
pub use self::layer::PipelineLayer;
pub use self::lint::Finding;
pub use self::plain::{Plain, PlainFuture, PlainService, plain};
pub use self::service::PipelineService;
use self::slot::{Before, Slot, Start};
pub use self::terminal::{Terminal, TerminalFuture, TerminalLayer};
use crate::outbound::{Answer, AnswerLayer};

/// A request's path through a gateway. See [`Pipeline::builder`].
#[derive(Debug, Clone, Copy)]
pub enum Pipeline {}

impl Pipeline {
    /// A pipeline without stages. Each method of the [`Builder`] fills one slot; a slot may be left out, and the
    /// compiler refuses to fill one twice or after a later one.
    pub fn builder() -> Builder<Start, NoFacts, Identity, Identity> {
        Builder {
            outer: Identity::new(),
            inner: Identity::new(),
            end: Open,
            answer: AnswerLayer::new(),
            description: Description::new::<Respond>(),
            state: std::marker::PhantomData,
        }
    }
}

/// The end of a pipeline that no service has been given for.
#[derive(Debug, Clone, Copy)]
pub struct Open;

/// A pipeline in the making.
///
/// `Last` is the slot filled last, `F` the facts that hold so far. The stages lie in two stacks: `Outer` in front
/// of the answer stage, which turns every failure into an answer, and `Inner` behind it.
#[must_use = "a builder does nothing until it is built"]
pub struct Builder<Last, F, Outer, Inner, End = Open, R = Respond> {
    outer: Outer,
    inner: Inner,
    end: End,
    answer: AnswerLayer<R>,
    description: Description,
    state: std::marker::PhantomData<(Last, F)>,
}

impl<Last, F, Outer, Inner, End, R> Builder<Last, F, Outer, Inner, End, R> {
    /// Sets how failures are answered and what all answers carry.
    ///
    /// The answer stage is not a slot and cannot be left out; it stands behind `request_id`, so that its answers
    /// carry the request's id.
    pub fn answer<R2>(self, answer: AnswerLayer<R2>) -> Builder<Last, F, Outer, Inner, End, R2> {
        Builder {
            outer: self.outer,
            inner: self.inner,
            end: self.end,
            answer,
            description: self.description.answer::<R2>(),
            state: self.state,
        }
    }

    /// Says which upstreams stand behind the service at the end, for who reads the [description](Self::describe): that of an
    /// `upstream::Forward`, or of whatever chooses among several services, is known here by its type alone.
    ///
    /// `upstream::Forward::describe` tells; requests know nothing of it.
    pub fn upstreams(mut self, upstreams: impl IntoIterator<Item = UpstreamDescription>) -> Self {
        let upstreams = upstreams.into_iter().collect();
        self.description = self.description.behind(upstreams);
        self
    }

    /// What it is made of so far, in order.
    pub const fn describe(&self) -> &Description {
        &self.description
    }
}

/// A builder whose outer stack grew by the stage `T`, which fills the slot `S`.
type WithOuter<S, T, F, Outer, Inner, End, R> =
    Builder<S, <T as Stage<F>>::Facts, Stack<<T as Stage<F>>::Layer, Outer>, Inner, End, R>;

/// A builder whose inner stack grew by the stage `T`, which fills the slot `S`.
type WithInner<S, T, F, Outer, Inner, End, R> =
    Builder<S, <T as Stage<F>>::Facts, Outer, Stack<<T as Stage<F>>::Layer, Inner>, End, R>;

// The methods are written out: made by a macro, they add eight lines of noise to each error message.
impl<Last, F: FactSet, Outer, Inner, End, R> Builder<Last, F, Outer, Inner, End, R> {
    /// Fills the slot [`Observe`](slot::Observe): sees each request first and each answer last.
    pub fn observe<T>(self, stage: T) -> WithOuter<slot::Observe, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Observe>,
        T: Stage<F>,
    {
        self.fill_outer(stage)
    }

    /// Fills the slot [`RequestId`](slot::RequestId).
    pub fn request_id<T>(self, stage: T) -> WithOuter<slot::RequestId, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::RequestId>,
        T: Stage<F>,
    {
        self.fill_outer(stage)
    }

    /// Fills the slot [`RouteResolve`](slot::RouteResolve).
    pub fn route_resolve<T>(
        self,
        stage: T,
    ) -> WithInner<slot::RouteResolve, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::RouteResolve>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`IpFilter`](slot::IpFilter).
    pub fn ip_filter<T>(self, stage: T) -> WithInner<slot::IpFilter, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::IpFilter>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`PreAuthLimit`](slot::PreAuthLimit).
    pub fn pre_auth_limit<T>(
        self,
        stage: T,
    ) -> WithInner<slot::PreAuthLimit, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::PreAuthLimit>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`Admit`](slot::Admit).
    pub fn admit<T>(self, stage: T) -> WithInner<slot::Admit, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Admit>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`Authenticate`](slot::Authenticate).
    pub fn authenticate<T>(
        self,
        stage: T,
    ) -> WithInner<slot::Authenticate, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Authenticate>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`PostAuthLimit`](slot::PostAuthLimit).
    pub fn post_auth_limit<T>(
        self,
        stage: T,
    ) -> WithInner<slot::PostAuthLimit, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::PostAuthLimit>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`Authorize`](slot::Authorize).
    pub fn authorize<T>(self, stage: T) -> WithInner<slot::Authorize, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Authorize>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`Validate`](slot::Validate).
    pub fn validate<T>(self, stage: T) -> WithInner<slot::Validate, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Validate>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Fills the slot [`Transform`](slot::Transform).
    pub fn transform<T>(self, stage: T) -> WithInner<slot::Transform, T, F, Outer, Inner, End, R>
    where
        Last: Before<slot::Transform>,
        T: Stage<F>,
    {
        self.fill_inner(stage)
    }

    /// Ends the pipeline with the service that answers: an upstream, or a local one. Each exchange is ended at its
    /// [`Deadline`](gw_core::context::Deadline).
    pub fn forward<S>(self, service: S) -> Builder<slot::Forward, F, Outer, Inner, InTime<S>, R>
    where
        Last: Before<slot::Forward>,
    {
        self.end::<S, _>(InTime::new(service), StageKind::Service)
    }

    /// Ends the pipeline with a service that keeps the request's [`Deadline`](gw_core::context::Deadline) itself, for
    /// the head and for the body, as `upstream::Forward` does: one timer fewer for each request.
    pub fn forward_keeping_deadline<S>(
        self,
        service: S,
    ) -> Builder<slot::Forward, F, Outer, Inner, S, R>
    where
        Last: Before<slot::Forward>,
    {
        self.end::<S, _>(service, StageKind::ServiceKeepingDeadline)
    }

    fn end<S, E>(self, end: E, kind: StageKind) -> Builder<slot::Forward, F, Outer, Inner, E, R> {
        Builder {
            outer: self.outer,
            inner: self.inner,
            end,
            answer: self.answer,
            description: self.description.end::<slot::Forward, S, F>(kind),
            state: std::marker::PhantomData,
        }
    }

    fn fill_outer<S: Slot, T: Stage<F>>(
        self,
        stage: T,
    ) -> WithOuter<S, T, F, Outer, Inner, End, R> {
        Builder {
            outer: Stack::new(stage.into_layer_in(S::NAME), self.outer),
            inner: self.inner,
            end: self.end,
            answer: self.answer,
            description: self.description.outer::<S, T, F>(),
            state: std::marker::PhantomData,
        }
    }

    fn fill_inner<S: Slot, T: Stage<F>>(
        self,
        stage: T,
    ) -> WithInner<S, T, F, Outer, Inner, End, R> {
        Builder {
            outer: self.outer,
            inner: Stack::new(stage.into_layer_in(S::NAME), self.inner),
            end: self.end,
            answer: self.answer,
            description: self.description.inner::<S, T, F>(),
            state: std::marker::PhantomData,
        }
    }
}

impl<Last, F, Outer, Inner, R> Builder<Last, F, Outer, Inner, Open, R> {
    /// The pipeline as a layer, for a service that exists elsewhere: an `axum::Router`, say.
    ///
    /// It goes around the whole router: `Router::new().fallback_service(pipeline.layer(router))`. `Router::layer` would put it
    /// behind axum's routing, which chooses a handler by the path as it came, while the stages decide by its normal form:
    /// `/admin/..` would be called as `/admin/{section}` by who may call `/`. With the feature `axum` or `tonic` the route
    /// stage refuses such a path there.
    pub fn into_layer(self) -> PipelineLayer<Outer, Inner, R> {
        let description = Arc::new(self.description);
        PipelineLayer::new(self.outer, self.answer, self.inner, description)
    }
}

impl<F, Outer, Inner, S, R> Builder<slot::Forward, F, Outer, Inner, S, R> {
    /// The pipeline as a service.
    pub fn build(self) -> PipelineService<Outer::Service>
    where
        Inner: Layer<Terminal<S>>,
        Outer: Layer<Answer<Inner::Service, R>>,
        R: Clone,
    {
        let inner = self.inner.layer(TerminalLayer.layer(self.end));
        let service = self.outer.layer(self.answer.layer(inner));
        PipelineService::new(service, Arc::new(self.description))
    }
}

impl<Last, F, Outer, Inner, End, R> fmt::Debug for Builder<Last, F, Outer, Inner, End, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Builder").field(&self.description).finish()
    }
}
