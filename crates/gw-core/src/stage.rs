//! What a layer needs from the stages before it, and gives to those after it.
//!
//! A typed pipeline carries a type-level record of the facts that hold so far. A layer takes part by implementing
//! [`Stage`] with the facts it needs as bounds; it does not need to know the pipeline for that.

use std::marker::PhantomData;

/// A fact that no stage has established.
#[derive(Debug, Clone, Copy)]
pub enum Missing {}

/// A fact that a stage has established.
#[derive(Debug, Clone, Copy)]
pub enum Given {}

/// Whether a fact holds: [`Missing`] or [`Given`].
pub trait Fact {
    /// Whether a stage has established it.
    const HOLDS: bool;
}

impl Fact for Missing {
    const HOLDS: bool = false;
}

impl Fact for Given {
    const HOLDS: bool = true;
}

/// The facts that hold at a place in a pipeline: each parameter is [`Missing`] or [`Given`].
#[derive(Debug, Clone, Copy)]
pub struct Facts<Route, Client, Caller>(PhantomData<(Route, Client, Caller)>);

/// The facts at the start of a pipeline: none.
pub type NoFacts = Facts<Missing, Missing, Missing>;

/// A set of facts, and the sets that arise from it when one more is established.
pub trait FactSet {
    /// This set with a [`RouteMatch`](crate::context::RouteMatch).
    type WithRoute: FactSet;
    /// This set with a [`ClientAddr`](crate::context::ClientAddr).
    type WithClientAddr: FactSet;
    /// This set with an [`Identity`](crate::context::Identity).
    type WithIdentity: FactSet;

    /// Whether [`HasRoute`] holds, for who describes a pipeline.
    const ROUTE: bool;
    /// Whether [`HasClientAddr`] holds.
    const CLIENT_ADDR: bool;
    /// Whether [`HasIdentity`] holds.
    const IDENTITY: bool;
}

impl<R: Fact, C: Fact, I: Fact> FactSet for Facts<R, C, I> {
    type WithRoute = Facts<Given, C, I>;
    type WithClientAddr = Facts<R, Given, I>;
    type WithIdentity = Facts<R, C, Given>;

    const ROUTE: bool = R::HOLDS;
    const CLIENT_ADDR: bool = C::HOLDS;
    const IDENTITY: bool = I::HOLDS;
}

/// The request carries a [`RouteMatch`](crate::context::RouteMatch).
#[diagnostic::on_unimplemented(
    message = "this stage needs the matched route, and no earlier stage of the pipeline resolves it",
    label = "needs a route",
    note = "fill the slot `route_resolve` before this one"
)]
pub trait HasRoute {}

/// The request carries a [`ClientAddr`](crate::context::ClientAddr).
#[diagnostic::on_unimplemented(
    message = "this stage needs the client's address, and no earlier stage of the pipeline establishes it",
    label = "needs a client address",
    note = "fill the slot `ip_filter` before this one"
)]
pub trait HasClientAddr {}

/// The request carries an [`Identity`](crate::context::Identity).
#[diagnostic::on_unimplemented(
    message = "this stage needs an identity, and no earlier stage of the pipeline authenticates",
    label = "needs an identity",
    note = "fill the slot `authenticate` with an authenticator before this one"
)]
pub trait HasIdentity {}

impl<C, I> HasRoute for Facts<Given, C, I> {}
impl<R, I> HasClientAddr for Facts<R, Given, I> {}
impl<R, C> HasIdentity for Facts<R, C, Given> {}

/// A layer that fits into a slot of a typed pipeline where the facts `F` hold.
///
/// Implement it for a layer of your own to state what it needs (as bounds on `F`) and what it gives:
///
/// ```
/// use gw_core::stage::{FactSet, HasRoute, Stage};
///
/// struct TokenLayer;
///
/// impl<F: FactSet + HasRoute> Stage<F> for TokenLayer {
///     type Facts = F::WithIdentity; // a promise: it inserts an `Identity` into each request it lets pass
///     type Layer = Self;
///
///     fn into_layer(self) -> Self {
///         self
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a stage of a gw pipeline",
    label = "not a stage",
    note = "wrap a layer from elsewhere: `plain(layer)`"
)]
pub trait Stage<F: FactSet> {
    /// The facts that hold after this stage.
    type Facts: FactSet;
    /// The layer that does the work.
    type Layer;

    /// The layer.
    fn into_layer(self) -> Self::Layer;

    /// The layer, for a stage that fits into several slots and tells observers in which one it is: `slot` is the slot's
    /// name. This is what a pipeline calls.
    fn into_layer_in(self, slot: &'static str) -> Self::Layer
    where
        Self: Sized,
    {
        _ = slot;
        self.into_layer()
    }

    /// For a stage that stands for a layer from elsewhere, of which it knows nothing: that layer's type, as the compiler names
    /// it. A pipeline is described by it.
    fn stands_for() -> Option<&'static str>
    where
        Self: Sized,
    {
        None
    }
}
