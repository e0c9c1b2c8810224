#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admission;
mod asked;
mod attempt;
mod body;
mod breaker;
mod classify;
mod clock;
mod config;
mod core;
mod error;
mod followed;
mod future;
mod handle;
mod hub;
mod layer;
#[cfg(all(test, loom))]
mod loom_tests;
pub mod outlier;
mod registry;
mod rules;
mod select;
mod service;
mod state;
mod sync;
mod telemetry;
mod told;
pub mod upload;
mod window;
mod word;

pub use gw_core::awaited::Awaited;
pub use gw_core::classify::{Classify, ContentClassifier, GrpcClassifier, HttpClassifier, Outcome};
pub use gw_core::context::{PeerAddr, UpstreamName};
pub use gw_core::key;
pub use gw_core::on_reject::Caller;
pub use gw_core::{
    AttemptError, Code, ConfigError, Fail, Failure, LayerError, Mode, OnReject, Problem,
    RejectContext, Rejection, Respond, RespondWith,
};

pub use self::admission::{Admission, Refused};
pub use self::body::ResponseBody;
pub use self::breaker::{Breaker, Ended};
pub use self::classify::{ClassifyError, ErrorsBy, errors_by};
pub use self::config::{
    BreakerConfig, HalfOpen, Jitter, JudgeAt, LatencyFrom, OpenTime, Throttling, Window,
};
pub use self::error::CIRCUIT_OPEN;
pub use self::future::ResponseFuture;
pub use self::handle::{BreakerHandle, BreakersHandle};
pub use self::hub::Changes;
pub use self::layer::{BreakerBuilder, BreakerLayer, OneForAll, OneForEach};
pub use self::select::{ByUpstream, Keyed, Select, Single};
pub use self::service::BreakerService;
pub use self::state::{Snapshot, State};
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
