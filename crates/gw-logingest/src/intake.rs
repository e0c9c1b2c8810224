//! The intake: from a request's body to a batch in the queue, and the answer to it.

mod builder;
mod classify;
mod client;
mod config;
mod counts;
pub mod error;
pub mod future;
mod guard;
mod handle;
mod limits;
mod media;
mod own_path;
mod pressure;
mod reading;
mod receipt;
mod room;
mod serve;
mod service;
mod session;
mod split;
mod sweep;
mod watermarks;

pub use gw_core::Mode;

pub use self::builder::{LogIngestBuilder, OnInvalid};
pub use self::classify::Classifier;
pub use self::client::{ByClient, ClientKey};
pub use self::config::IngestLimits;
pub use self::counts::Counts;
pub use self::guard::{AmplificationGuard, Verdict};
pub use self::handle::{IngestHandle, IngestSnapshot};
pub use self::limits::{ClassLimit, Scope, WithLimits};
pub use self::pressure::Pressure;
pub use self::service::LogIngest;
pub use self::split::{Format, Malformed, Piece, SplitFault, SplitLimits, Splitter, Take};
pub use self::watermarks::{Regime, Watermarks};

/// The fields that clients and intake exchange beyond those of HTTP.
pub mod fields {
    use http::HeaderName;

    /// In requests: `1` marks everything in the body as the client's own traffic about failed uploads.
    pub const SELF_TRAFFIC: HeaderName = HeaderName::from_static("x-gw-log-self");
    /// In requests: through how many log intakes these events have gone. From 3 on they are dropped.
    pub const HOPS: HeaderName = HeaderName::from_static("x-gw-log-hops");
    /// In answers: what a client should hold back, as `seconds:classes:scope` with `;` between classes and `,` between
    /// limits. No classes stand for all, and zero seconds for no limit. The longest limit wins.
    pub const LIMITS: HeaderName = HeaderName::from_static("x-gw-log-limits");
    /// In answers with a receipt: the durability reached, see [`Durability`](crate::Durability).
    pub const DURABILITY: HeaderName = HeaderName::from_static("x-gw-log-durability");
}
