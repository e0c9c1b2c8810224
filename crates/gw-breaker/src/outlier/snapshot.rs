use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_core::Mode;
use tokio::time::Instant;

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// So many failures in a row.
    Consecutive,
    /// More failures than the others, for two intervals.
    FailureRate,
    /// Slower than the others, for two intervals.
    Latency,
}

impl Reason {
    /// The reason as a label: `consecutive`, `failure_rate`, `latency`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::FailureRate => "failure_rate",
            Self::Latency => "latency",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether an endpoint is in use, and why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// It is.
    In,
    /// It stands out from the others.
    Ejected {
        /// When it comes back.
        until: Instant,
        /// Why.
        reason: Reason,
    },
    /// [`Outliers::set_healthy`](super::Outliers::set_healthy) said so.
    Unhealthy,
    /// [`Outliers::eject`](super::Outliers::eject) said so.
    ForcedOut,
}

/// One endpoint at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointSnapshot {
    /// The name that it was given.
    pub name: Arc<str>,
    /// Whether it is in use. In [`Mode::Shadow`], whether it would be.
    pub state: EndpointState,
    /// How often it was ejected since it came into the set.
    pub ejections: u64,
    /// How many times `base` the last ejection was meant to last, less what good intervals took off.
    pub multiplier: u32,
    /// Failures in a row, as they count for the next ejection. An ejection, for whatever reason, sets it to one less than ejects:
    /// the first failure after the return is the last of a row.
    pub consecutive: u32,
    /// Successes and failures in the last whole interval.
    pub requests: u64,
    /// Failures in the last whole interval.
    pub failures: u64,
    /// Requests in the last whole interval to which it answered that it wants less.
    pub throttled: u64,
    /// The geometric mean of the latencies of the last interval's successes, and of those that were given up later than is
    /// usual, to a few percent; `None` without any.
    pub latency: Option<Duration>,
}

/// A set of endpoints at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OutlierSnapshot {
    /// What is done with outliers.
    pub mode: Mode,
    /// Whether so few would be usable that all of them are.
    pub panicking: bool,
    /// In the order of the set.
    pub endpoints: Vec<EndpointSnapshot>,
}
