#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(any(feature = "server", feature = "upstream"))]
mod alarm;
pub mod codes;
mod decided;
mod fields;
pub mod inbound;
pub mod outbound;
#[cfg(any(feature = "server", feature = "upstream"))]
mod pieces;
pub mod pipeline;
#[cfg(feature = "server")]
mod room;
#[cfg(feature = "server")]
pub mod server;
mod timeouts;
#[cfg(feature = "upstream")]
pub mod upstream;
#[cfg(any(feature = "server", feature = "upstream"))]
mod waker;
#[cfg(any(feature = "server", feature = "upstream"))]
mod words;

// Without `RequestId`: what the compiler says of a wrong order would call the slot of that name by its path.
pub use gw_core::context::{
    Criticality, Identity, IdentityParts, Lane, PeerAddr, RouteMatch, UpstreamName,
};
pub use gw_core::key::TrustedProxies;
pub use gw_core::stage::{FactSet, HasClientAddr, HasIdentity, HasRoute, NoFacts, Stage};
pub use gw_core::{
    Body, BoxError, Code, ConfigError, Fail, LayerError, OnReject, Problem, RejectContext,
    Rejection, Respond, RespondWith,
};

pub use self::decided::Decided;
pub use self::pipeline::{
    Builder, Description, Finding, Pipeline, PipelineLayer, PipelineService, plain,
};
pub use self::timeouts::{PassErrorBodies, Timeouts};
