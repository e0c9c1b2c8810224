//! What tells a well upstream from an ill one, and what is done about it. The defaults are the
//! contract's.

use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::Mode;
use http::uri::PathAndQuery;
use serde::Deserialize;

use crate::config::value::{
    Percent, Ratio, count, percent_above_zero, ratio_above_zero, text, whole,
};

/// `health`: asks each endpoint.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    #[serde(deserialize_with = "text")]
    pub path: PathAndQuery,
    #[serde(default = "default_interval", deserialize_with = "text")]
    pub interval: Duration,
    /// Not longer than `interval`.
    #[serde(default = "default_timeout", deserialize_with = "text")]
    pub timeout: Duration,
    /// Good answers in a row that bring an endpoint back.
    #[serde(default = "default_healthy_after")]
    pub healthy_after: NonZeroU32,
    /// Bad answers in a row that take it out.
    #[serde(default = "default_unhealthy_after")]
    pub unhealthy_after: NonZeroU32,
}

fn default_interval() -> Duration {
    Duration::from_secs(5)
}

fn default_timeout() -> Duration {
    Duration::from_secs(2)
}

fn default_healthy_after() -> NonZeroU32 {
    count(2)
}

fn default_unhealthy_after() -> NonZeroU32 {
    count(3)
}

/// `eject`: takes out the endpoint that fails where its neighbours do not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Eject {
    /// Failures in a row.
    pub consecutive: NonZeroU32,
    /// How long the first time; longer each time.
    #[serde(deserialize_with = "text")]
    pub base: Duration,
    /// Share of the endpoints that may be out.
    #[serde(deserialize_with = "percent_above_zero")]
    pub max_percent: Percent,
    /// Below this share of well endpoints all are used again.
    pub panic_below: Ratio,
    pub mode: Mode,
}

impl Default for Eject {
    fn default() -> Self {
        Self {
            consecutive: count(5),
            base: Duration::from_secs(30),
            max_percent: Percent::clamped(50),
            panic_below: Ratio::clamped(0.5),
            mode: Mode::default(),
        }
    }
}

/// `breaker`: stops asking an upstream that does not answer well.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row that open it.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub consecutive: NonZeroU32,
    /// Share of failures in `window` that opens it.
    #[serde(deserialize_with = "ratio_above_zero")]
    pub failure_rate: Ratio,
    /// A call that takes longer counts as slow.
    #[serde(deserialize_with = "text")]
    pub slow_over: Duration,
    /// Share of slow calls in `window` that opens it.
    #[serde(deserialize_with = "ratio_above_zero")]
    pub slow_rate: Ratio,
    /// Fewer calls in `window` say nothing about rates.
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub min_calls: NonZeroU32,
    #[serde(deserialize_with = "text")]
    pub window: Duration,
    /// How long it stays open the first time.
    #[serde(deserialize_with = "text")]
    pub open: Duration,
    /// And at most.
    #[serde(deserialize_with = "text")]
    pub open_max: Duration,
    /// Calls let through to see whether it may close.
    #[serde(deserialize_with = "whole::<_, _, 1, 31>")]
    pub probes: NonZeroU32,
    pub mode: Mode,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive: count(5),
            failure_rate: Ratio::clamped(0.5),
            slow_over: Duration::from_secs(2),
            slow_rate: Ratio::clamped(0.8),
            min_calls: count(20),
            window: Duration::from_secs(10),
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(300),
            probes: count(1),
            mode: Mode::default(),
        }
    }
}

/// `retry_budget`: extra load that retries and hedges of all routes may put on one upstream.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Extra attempts for each first one.
    pub ratio: Ratio,
    /// Extra attempts a second that are always allowed.
    pub min_per_second: u32,
    pub mode: Mode,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            ratio: Ratio::clamped(0.2),
            min_per_second: 10,
            mode: Mode::default(),
        }
    }
}
