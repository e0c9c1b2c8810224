#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod codes;
mod failure;
pub mod inbound;
pub mod outbound;
mod pipeline;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "upstream")]
pub mod upstream;
mod timeouts;

pub use gw_core::stage::{FactSet, HasClientAddr, HasIdentity, HasRoute, NoFacts, Stage};
pub use gw_core::{Body, BoxError, Rejection};

pub use self::failure::Failure;
pub use self::timeouts::Timeouts;
