#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
mod codel;
mod config;
mod error;
mod executor;
mod future;
mod handle;
mod lane;
mod lanes;
mod layer;
mod lease;
pub mod limit;
mod per_key;
mod pressure;
mod remaining;
mod service;
mod share;
mod sync;
mod telemetry;
#[cfg(feature = "threads")]
pub mod threads;
mod timing;
mod upgrade;

pub use gw_core::context::{Criticality, Deadline, Lane, PeerAddr};
pub use gw_core::key;
pub use gw_core::{
    Code, ConfigError, Fail, LayerError, Mode, OnReject, Problem, RejectContext, Rejection,
    Respond, RespondWith,
};

pub use self::body::ResponseBody;
pub use self::codel::Codel;
pub use self::error::{
    GATEWAY_TIMEOUT, HeldTooLong, OVERLOADED, RATE_LIMIT_EXCEEDED, SHUTTING_DOWN,
};
pub use self::executor::Inline;
pub use self::future::ResponseFuture;
pub use self::handle::BulkheadHandle;
pub use self::lane::{Hold, LaneConfig, Sample};
pub use self::lanes::{
    AdaptiveSnapshot, Arrival, Drained, Entry, KeySnapshot, LaneId, LaneKey, LaneSnapshot, Lanes,
    Permit, Reason, Refusal, Rejections, Snapshot, Wait,
};
pub use self::layer::{BulkheadBuilder, BulkheadLayer};
pub use self::per_key::BeforeAuthentication;
pub use self::pressure::{LagThresholds, Load, MemoryThresholds, Pressure, Signal};
pub use self::service::Bulkhead;
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
pub use self::upgrade::UpgradePermit;
