//! `[upstreams.NAME]`

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{Breaker, Eject, HealthCheck, RetryBudget};
use crate::config::value::{Balance, Endpoint, count, duration_or_zero, optional, text, whole};

/// A service behind the gateway.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// At least one.
    pub endpoints: Vec<Endpoint>,
    #[serde(default)]
    pub protocol: Protocol,
    /// `least-request` unless written.
    #[serde(default)]
    pub balance: Option<Balance>,
    #[serde(default = "default_connect_timeout", deserialize_with = "text")]
    pub connect_timeout: Duration,
    #[serde(default = "default_send_timeout", deserialize_with = "text")]
    pub send_timeout: Duration,
    #[serde(default)]
    pub host_header: HostHeader,
    #[serde(default)]
    pub pool: Pool,
    /// Active checks; none unless written.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    #[serde(default)]
    pub eject: Eject,
    #[serde(default)]
    pub breaker: Breaker,
    #[serde(default)]
    pub retry_budget: RetryBudget,
    /// For `https://` endpoints; without it the system's roots are trusted and no client
    /// certificate is sent.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
}

fn default_connect_timeout() -> Duration {
    Duration::from_secs(3)
}

fn default_send_timeout() -> Duration {
    Duration::from_secs(10)
}

/// What is spoken to the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    #[default]
    Http1,
    /// With prior knowledge over cleartext, by ALPN over TLS.
    Http2,
    Auto,
}

/// The `Host` an upstream sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostHeader {
    /// The client's.
    #[default]
    Preserve,
    /// The endpoint's.
    Upstream,
}

/// `pool`: connections of one upstream over all lanes and threads. The defaults are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pool {
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_connections: NonZeroU32,
    #[serde(deserialize_with = "whole::<_, _, 0, 1_000_000>")]
    pub max_idle: u32,
    #[serde(deserialize_with = "text")]
    pub idle_timeout: Duration,
    /// Requests that may wait for a connection; 0: none.
    #[serde(deserialize_with = "whole::<_, _, 0, 1_000_000>")]
    pub queue: u32,
    #[serde(deserialize_with = "duration_or_zero")]
    pub queue_timeout: Duration,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_connections: count(256),
            max_idle: 64,
            idle_timeout: Duration::from_secs(60),
            queue: 128,
            queue_timeout: Duration::from_secs(1),
        }
    }
}

/// `tls`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct UpstreamTls {
    /// Roots that are trusted instead of the system's.
    #[serde(deserialize_with = "optional")]
    pub ca: Option<PathBuf>,
    /// Together with `key`: the client certificate.
    #[serde(deserialize_with = "optional")]
    pub certificate: Option<PathBuf>,
    #[serde(deserialize_with = "optional")]
    pub key: Option<PathBuf>,
    /// The name the certificate must have; the endpoint's host where none is written.
    pub server_name: Option<String>,
}
