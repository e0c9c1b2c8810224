#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod body;
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
mod service;
mod share;
mod sync;
mod telemetry;
#[cfg(feature = "threads")]
pub mod threads;
mod timing;
mod upgrade;

pub use gw_core::context::{Criticality, Lane};
pub use gw_core::{Fail, OnReject, Problem, Respond, RespondWith};

pub use self::body::ResponseBody;
pub use self::config::{ConfigError, Mode};
pub use self::error::{GATEWAY_TIMEOUT, HeldTooLong, OVERLOADED, SHUTTING_DOWN};
pub use self::executor::Inline;
pub use self::future::ResponseFuture;
pub use self::handle::BulkheadHandle;
pub use self::lane::{Hold, LaneConfig, Sample};
pub use self::lanes::{
    AdaptiveSnapshot, Drained, Entry, LaneId, LaneSnapshot, Lanes, Permit, Reason, Refusal,
    Rejections, Snapshot, Wait,
};
pub use self::layer::{BulkheadBuilder, BulkheadLayer};
pub use self::service::Bulkhead;
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
pub use self::upgrade::UpgradePermit;
