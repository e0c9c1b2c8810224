#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod config;
mod decision;
pub mod error;
mod fields;
pub mod future;
pub mod gcra;
mod handle;
mod layer;
mod limiter;
mod policy;
mod quota;
#[cfg(feature = "redis")]
pub mod redis;
mod service;
mod store;
mod striped;
mod sync;
mod tally;
mod telemetry;

pub use gw_core::key;
pub use gw_core::{Fail, OnReject, Problem, Respond, RespondWith};

pub use self::config::{ConfigError, Headers, Mode, OnMissingKey};
pub use self::decision::{Decision, PolicyId, Ruling, Standing};
pub use self::handle::{PolicySnapshot, RateLimitHandle};
pub use self::layer::{RateLimitBuilder, RateLimitLayer};
pub use self::limiter::{Charge, Limiter, LimiterBuilder};
pub use self::policy::Policy;
pub use self::quota::Quota;
pub use self::service::RateLimit;
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
