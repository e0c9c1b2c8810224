//! What a route may add between itself and its upstream: `retry`, `hedge`, `cache`, `canary`,
//! `shadow`.

use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::Mode;
use http::{HeaderName, Method};
use serde::Deserialize;

use crate::config::value::{
    Percent, Ratio, count, duration_or_zero, list, optional, quantile, ratio_above_zero, size,
    size_or_zero, text, whole,
};

/// `retry`: further attempts. A route without it makes one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The first try counts.
    #[serde(deserialize_with = "whole::<_, _, 1, 10>")]
    pub max_attempts: NonZeroU32,
    #[serde(deserialize_with = "list")]
    pub methods: Vec<Method>,
    /// Only requests that carry an `Idempotency-Key` are repeated.
    pub require_idempotency_key: bool,
    pub backoff: Backoff,
    /// Largest request body that is kept for repetition; 0: only requests without one are repeated.
    #[serde(deserialize_with = "size_or_zero")]
    pub replay_max: u64,
    pub mode: Mode,
}

impl Retry {
    /// How many bytes of requests' bodies are kept at most, of all requests together.
    pub const MOST_KEPT: u64 = 64 << 20;
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            max_attempts: count(2),
            methods: vec![Method::GET, Method::HEAD, Method::OPTIONS, Method::QUERY],
            require_idempotency_key: false,
            backoff: Backoff::default(),
            replay_max: 64 << 10,
            mode: Mode::default(),
        }
    }
}

/// `backoff`: full jitter between zero and a bound that doubles from `base` to `max`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    #[serde(deserialize_with = "text")]
    pub base: Duration,
    #[serde(deserialize_with = "text")]
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            base: Duration::from_millis(100),
            max: Duration::from_secs(2),
        }
    }
}

/// `hedge`: a second attempt before the first has failed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// An attempt that takes longer than this quantile of the measured latency is hedged.
    #[serde(deserialize_with = "quantile")]
    pub percentile: Ratio,
    /// Hedges for each request, at most.
    #[serde(deserialize_with = "ratio_above_zero")]
    pub max_extra_load: Ratio,
    pub mode: Mode,
}

impl Default for Hedge {
    fn default() -> Self {
        Self {
            percentile: Ratio::clamped(0.99),
            max_extra_load: Ratio::clamped(0.01),
            mode: Mode::default(),
        }
    }
}

/// `cache`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    pub enabled: bool,
    #[serde(deserialize_with = "size")]
    pub max_bytes: u64,
    /// How long past its freshness an answer may stand in for a failed one; 0: never.
    #[serde(deserialize_with = "duration_or_zero")]
    pub stale_if_error: Duration,
    pub mode: Mode,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            enabled: true,
            max_bytes: 64 << 20,
            stale_if_error: Duration::ZERO,
            mode: Mode::default(),
        }
    }
}

/// `canary`: some requests go to another upstream.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    pub upstream: String,
    /// Requests that carry it go there in any case.
    #[serde(default, deserialize_with = "optional")]
    pub header: Option<HeaderName>,
    /// Share of the other requests.
    #[serde(default)]
    pub percent: Percent,
}

/// `shadow`: some requests also go to another upstream, whose answers nobody sees.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowTraffic {
    pub upstream: String,
    #[serde(default)]
    pub percent: Percent,
    /// Whether the two answers are compared.
    #[serde(default)]
    pub compare: bool,
}
