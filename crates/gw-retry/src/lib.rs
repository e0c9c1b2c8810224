#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod aside;
mod backoff;
mod body;
mod budget;
mod context;
mod decide;
pub mod future;
mod handle;
mod head;
pub mod hedge;
mod info;
mod latency;
mod layer;
mod plan;
mod policy;
mod ratio;
mod replay;
mod service;
mod sync;
mod telemetry;
pub mod timeout;
mod wait;

pub use gw_core::context::{Deadline, UpstreamName};
pub use gw_core::{
    AttemptError, Code, ConfigError, Fail, Failure, LayerError, Mode, OnReject, Problem,
    RejectContext, Rejection, Respond, RespondWith,
};

pub use self::backoff::Backoff;
pub use self::body::ResponseBody;
pub use self::budget::{
    Budget, BudgetBuilder, BudgetSnapshot, Deposit, RatioBudget, Taken, Ticket,
};
pub use self::decide::Reason;
pub use self::handle::{RetryHandle, RetrySnapshot};
pub use self::info::{RetryInfo, Stopped};
pub use self::layer::{RetryBuilder, RetryLayer};
pub use self::policy::{RetryPolicy, RetryPolicyBuilder};
pub use self::replay::{ReplayBody, ReplayPool};
pub use self::service::Retry;
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;
