#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod algorithm;
mod charge_body;
mod charged;
mod config;
mod copied;
mod decision;
pub mod error;
mod fields;
pub mod future;
pub mod gcra;
mod handle;
mod late;
mod layer;
mod limiter;
mod memory;
mod offenders;
mod penalty;
mod policy;
mod quota;
#[cfg(feature = "redis")]
pub mod redis;
mod refused;
mod service;
mod store;
mod striped;
mod sync;
mod tally;
mod telemetry;
mod tier;
mod verdict;
pub mod window;

pub use gw_core::context::PeerAddr;
pub use gw_core::key;
pub use gw_core::{
    Code, Fail, LayerError, Mode, OnReject, Problem, RejectContext, Rejection, Respond, RespondWith,
};

pub use self::charge_body::{ChargeBody, ChargeBodyLayer, ChargedBody};
pub use self::charged::Charged;
pub use self::config::{ConfigError, Headers, OnMissingKey};
pub use self::copied::copy_extensions;
pub use self::decision::{Decision, PolicyId, Ruling, Standing};
pub use self::handle::{PolicySnapshot, RateLimitHandle};
pub use self::layer::{RateLimitBuilder, RateLimitLayer};
pub use self::limiter::{Charge, Limiter, LimiterBuilder};
pub use self::memory::Memory;
pub use self::offenders::{KeyId, Offender};
pub use self::penalty::Penalty;
pub use self::policy::{Adjust, Policy};
pub use self::quota::Quota;
pub use self::service::RateLimit;
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
pub use self::tier::{Tier, Tiers};
pub use self::verdict::{Balance, Verdict};
