//! `[server]`, `[health]` and `[admin]`: the sockets and what holds for every request. The defaults
//! are the contract's.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::thread::available_parallelism;
use std::time::Duration;

use gw_core::Mode;
use http::HeaderName;
use ipnet::IpNet;
use serde::Deserialize;

use crate::config::value::{
    Ratio, count, duration_or_zero, list, optional, ratio_above_zero, size, size_or_zero, text,
    whole,
};

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// `[server]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Server {
    #[serde(deserialize_with = "list")]
    pub listen: Vec<SocketAddr>,
    /// 0: one runtime thread per core.
    #[serde(deserialize_with = "whole::<_, _, 0, 1024>")]
    pub threads: usize,
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_connections: NonZeroU32,
    #[serde(deserialize_with = "whole::<_, _, 1, 1_000_000>")]
    pub max_connections_per_ip: NonZeroU32,
    #[serde(deserialize_with = "text")]
    pub header_timeout: Duration,
    #[serde(deserialize_with = "text")]
    pub body_idle_timeout: Duration,
    /// Bytes a second; 0 allows any.
    #[serde(deserialize_with = "size_or_zero")]
    pub min_body_rate: u64,
    #[serde(deserialize_with = "text")]
    pub write_stall_timeout: Duration,
    #[serde(deserialize_with = "text")]
    pub keep_alive_timeout: Duration,
    #[serde(deserialize_with = "size")]
    pub max_header_bytes: u64,
    #[serde(deserialize_with = "whole::<_, _, 1, 4096>")]
    pub max_headers: NonZeroU32,
    #[serde(deserialize_with = "size")]
    pub max_uri_bytes: u64,
    /// 0: requests have no body. Routes may say otherwise.
    #[serde(deserialize_with = "size_or_zero")]
    pub max_body_bytes: u64,
    /// Whose `X-Forwarded-For` is believed. `Forwarded` is never read.
    #[serde(deserialize_with = "list")]
    pub trusted_proxies: Vec<IpNet>,
    /// Between the failing of readiness and the closing of the listener; 0 closes at once.
    #[serde(deserialize_with = "duration_or_zero")]
    pub drain_delay: Duration,
    /// For requests in flight; 0 cuts them.
    #[serde(deserialize_with = "duration_or_zero")]
    pub shutdown_grace: Duration,
    pub encoded_slash: EncodedSlash,
    pub not_found: NotFound,
    /// Authenticators asked for unmatched paths.
    pub default_auth: Vec<String>,
    /// Limits for unmatched paths.
    pub default_limits: Vec<String>,
    pub default_lane: String,
    pub request_id: RequestId,
    pub memory: Memory,
    pub http2: Http2,
    pub tls: Option<ServerTls>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: vec![loopback(8080)],
            threads: 0,
            max_connections: count(10_000),
            max_connections_per_ip: count(256),
            header_timeout: Duration::from_secs(10),
            body_idle_timeout: Duration::from_secs(15),
            min_body_rate: 1 << 10,
            write_stall_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(60),
            max_header_bytes: 32 << 10,
            max_headers: count(100),
            max_uri_bytes: 8 << 10,
            max_body_bytes: 2 << 20,
            trusted_proxies: Vec::new(),
            drain_delay: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(30),
            encoded_slash: EncodedSlash::default(),
            not_found: NotFound::default(),
            default_auth: Vec::new(),
            default_limits: Vec::new(),
            default_lane: Self::CORE_LANE.to_owned(),
            request_id: RequestId::default(),
            memory: Memory::default(),
            http2: Http2::default(),
            tls: None,
        }
    }
}

impl Server {
    /// The default lane where none is named; it exists even if no table describes it.
    pub const CORE_LANE: &'static str = "core";

    /// How many threads serve the listeners: one per core, unless it is said how many.
    pub fn thread_count(&self) -> usize {
        match self.threads {
            0 => available_parallelism().map_or(1, NonZeroUsize::get),
            written => written,
        }
    }
}

/// What happens to `%2F` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EncodedSlash {
    #[default]
    Reject,
    Keep,
}

/// When an unmatched path is told so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NotFound {
    /// After address filter, limits and `default_auth`.
    #[default]
    AfterAuth,
    Early,
}

/// `request_id`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RequestId {
    #[serde(deserialize_with = "text")]
    pub header: HeaderName,
    pub accept: Accept,
}

impl Default for RequestId {
    fn default() -> Self {
        Self {
            header: HeaderName::from_static("x-request-id"),
            accept: Accept::default(),
        }
    }
}

/// Whose request ids are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accept {
    /// Those of `trusted_proxies`.
    #[default]
    Trusted,
    Always,
    Never,
}

/// `memory`: when the process sheds load.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Memory {
    #[serde(deserialize_with = "size")]
    pub limit: u64,
    /// Share of `limit` from which sheddable requests are refused.
    #[serde(deserialize_with = "ratio_above_zero")]
    pub shed_at: Ratio,
    /// Share of `limit` from which all requests are refused.
    #[serde(deserialize_with = "ratio_above_zero")]
    pub refuse_at: Ratio,
    pub mode: Mode,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            limit: 1 << 30,
            shed_at: Ratio::clamped(0.92),
            refuse_at: Ratio::clamped(0.98),
            mode: Mode::default(),
        }
    }
}

/// `http2`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http2 {
    #[serde(deserialize_with = "whole::<_, _, 1, 10_000>")]
    pub max_concurrent_streams: NonZeroU32,
    #[serde(deserialize_with = "size")]
    pub max_header_list_bytes: u64,
    #[serde(deserialize_with = "whole::<_, _, 1, 10_000>")]
    pub max_pending_resets: NonZeroU32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: count(100),
            max_header_list_bytes: 32 << 10,
            max_pending_resets: count(20),
        }
    }
}

/// `[server.tls]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerTls {
    #[serde(deserialize_with = "text")]
    pub certificate: PathBuf,
    #[serde(deserialize_with = "text")]
    pub key: PathBuf,
    /// With it, client certificates are required.
    #[serde(default, deserialize_with = "optional")]
    pub client_ca: Option<PathBuf>,
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// Oldest protocol that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

/// `[health]`: `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthListener {
    #[serde(deserialize_with = "text")]
    pub listen: SocketAddr,
}

impl Default for HealthListener {
    fn default() -> Self {
        Self {
            listen: loopback(9902),
        }
    }
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    #[serde(deserialize_with = "text")]
    pub listen: SocketAddr,
    /// Always there off loopback.
    #[serde(deserialize_with = "optional")]
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: loopback(9901),
            token_file: None,
        }
    }
}
