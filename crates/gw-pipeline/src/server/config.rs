use std::ops::RangeInclusive;
use std::time::Duration;

use gw_core::ConfigError;

/// Checked limits and timers of a [`Server`](super::Server).
///
/// The default is what a gateway at the edge should start with; [`builder`](Self::builder) changes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    pub(super) max_connections: usize,
    pub(super) max_connections_per_ip: usize,
    pub(super) timers: Timers,
    pub(super) shutdown_grace: Duration,
    pub(super) max_header_bytes: usize,
    pub(super) max_headers: usize,
    pub(super) http2: Http2Limits,
}

/// How long each kind of waiting for a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timers {
    pub(super) header: Duration,
    pub(super) keep_alive: Duration,
    pub(super) write_stall: Duration,
}

impl Timers {
    /// No deadline that is set from now on ends sooner than this.
    pub(super) fn shortest(&self) -> Duration {
        self.header.min(self.keep_alive).min(self.write_stall)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Http2Limits {
    pub(super) max_concurrent_streams: u32,
    pub(super) max_header_list_bytes: u32,
    pub(super) max_pending_resets: usize,
}

impl ServerConfig {
    /// Starts from the defaults.
    pub fn builder() -> ServerConfigBuilder {
        ServerConfigBuilder {
            config: Self::default(),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let limits = &self.http2;
        at_least_one("max_connections", self.max_connections)?;
        at_least_one("max_connections_per_ip", self.max_connections_per_ip)?;
        timer("header_timeout", self.timers.header)?;
        timer("keep_alive_timeout", self.timers.keep_alive)?;
        timer("write_stall_timeout", self.timers.write_stall)?;
        if self.shutdown_grace > LONGEST {
            return Err(ConfigError::new("shutdown_grace", "must be at most 24 h"));
        }
        header_bytes("max_header_bytes", self.max_header_bytes)?;
        if !(1..=4096).contains(&self.max_headers) {
            return Err(ConfigError::new(
                "max_headers",
                "must be between 1 and 4096",
            ));
        }
        if limits.max_concurrent_streams == 0 {
            return Err(ConfigError::new(
                "http2.max_concurrent_streams",
                "must be at least 1",
            ));
        }
        let list = usize::try_from(limits.max_header_list_bytes).unwrap_or(usize::MAX);
        header_bytes("http2.max_header_list_bytes", list)?;
        at_least_one("http2.max_pending_resets", limits.max_pending_resets)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_ip: 256,
            timers: Timers {
                header: Duration::from_secs(10),
                keep_alive: Duration::from_secs(60),
                write_stall: Duration::from_secs(10),
            },
            shutdown_grace: Duration::from_secs(30),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            http2: Http2Limits {
                max_concurrent_streams: 100,
                max_header_list_bytes: 32 * 1024,
                max_pending_resets: 20,
            },
        }
    }
}

/// Changes the defaults of a [`ServerConfig`].
///
/// Each timer is between 1 ms and 24 h; sizes of heads are between 1 KiB and 1 MiB; counts are at least 1.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct ServerConfigBuilder {
    config: ServerConfig,
}

impl ServerConfigBuilder {
    /// The most connections at a time, over all listeners of the server. Default 10,000.
    ///
    /// From 63/64 of it on, each newcomer closes the connection that has been without a request for longest. If
    /// every connection has one, the newcomer is closed at once; one that was found to have one counts so for 10 µs for each place that
    /// there is, and 100 ms at most.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.config.max_connections = count;
        self
    }

    /// The most connections at a time from one IPv4 address, or from one IPv6 /64. Further ones are closed at
    /// once. Default 256.
    ///
    /// Behind a balancer that hides its clients' addresses this limits the balancer: raise it there.
    pub fn max_connections_per_ip(mut self, count: usize) -> Self {
        self.config.max_connections_per_ip = count;
        self
    }

    /// The longest time for a request's head, from its first byte; for the first one from accept. Default 10 s.
    ///
    /// On HTTP/2 it runs from accept to the first request. The client is told then, and has a second to answer.
    pub fn header_timeout(mut self, limit: Duration) -> Self {
        self.config.timers.header = limit;
        self
    }

    /// The longest time without a request, once there has been one. Default 60 s.
    ///
    /// On HTTP/2, answering pings and sending what is left of an answer start it afresh. The client is told when it is over, and has a
    /// second to answer: a request that crosses the goodbye is served, or refused as one that was not begun.
    pub fn keep_alive_timeout(mut self, limit: Duration) -> Self {
        self.config.timers.keep_alive = limit;
        self
    }

    /// The longest time in which a client takes nothing of what waits for it. Default 10 s.
    ///
    /// A connection whose socket takes no byte for so long is reset. On HTTP/2, a stream whose window stays
    /// closed for so long is reset; progress is counted in pieces of 32 KiB there.
    pub fn write_stall_timeout(mut self, limit: Duration) -> Self {
        self.config.timers.write_stall = limit;
        self
    }

    /// How long requests may go on after shutdown has begun. Default 30 s; zero cuts them at once.
    pub fn shutdown_grace(mut self, limit: Duration) -> Self {
        self.config.shutdown_grace = limit;
        self
    }

    /// The largest HTTP/1 head (request line and fields) and trailer section, in bytes. Default 32 KiB. Above it
    /// the answer is 431.
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.config.max_header_bytes = bytes;
        self
    }

    /// The most header fields of a request, at most 4096. Default 100. Above it the answer is 431.
    ///
    /// On HTTP/1, another value than the default costs an allocation a request.
    pub fn max_headers(mut self, count: usize) -> Self {
        self.config.max_headers = count;
        self
    }

    /// The most requests at a time on one HTTP/2 connection. Default 100.
    pub fn http2_max_concurrent_streams(mut self, count: u32) -> Self {
        self.config.http2.max_concurrent_streams = count;
        self
    }

    /// The largest header list of an HTTP/2 request, counted as RFC 9113 section 6.5.2 says, in bytes. Default
    /// 32 KiB. Above it the answer is 431.
    pub fn http2_max_header_list_bytes(mut self, bytes: u32) -> Self {
        self.config.http2.max_header_list_bytes = bytes;
        self
    }

    /// The most HTTP/2 streams that a client has reset and that have not been accepted yet. Default 20. Above it
    /// the connection ends with ENHANCE_YOUR_CALM.
    pub fn http2_max_pending_resets(mut self, count: usize) -> Self {
        self.config.http2.max_pending_resets = count;
        self
    }

    /// Checks and builds.
    ///
    /// # Errors
    ///
    /// Names the first setting outside its range.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        self.config.check()?;
        Ok(self.config)
    }
}

/// Longer timers help nobody, and far longer ones cannot be added to an instant.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);
const HEADER_BYTES: RangeInclusive<usize> = 1024..=1024 * 1024;

fn at_least_one(field: &'static str, count: usize) -> Result<(), ConfigError> {
    match count {
        0 => Err(ConfigError::new(field, "must be at least 1")),
        _ => Ok(()),
    }
}

fn timer(field: &'static str, limit: Duration) -> Result<(), ConfigError> {
    if (SHORTEST..=LONGEST).contains(&limit) {
        return Ok(());
    }
    Err(ConfigError::new(field, "must be between 1 ms and 24 h"))
}

fn header_bytes(field: &'static str, bytes: usize) -> Result<(), ConfigError> {
    if HEADER_BYTES.contains(&bytes) {
        return Ok(());
    }
    Err(ConfigError::new(field, "must be between 1 KiB and 1 MiB"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_pass_their_own_rules() {
        assert_eq!(ServerConfig::builder().build(), Ok(ServerConfig::default()));
    }

    #[test]
    fn each_rule_names_its_field() {
        type Change = fn(ServerConfigBuilder) -> ServerConfigBuilder;
        let cases: &[(&str, Change)] = &[
            ("max_connections", |b| b.max_connections(0)),
            ("max_connections_per_ip", |b| b.max_connections_per_ip(0)),
            ("header_timeout", |b| b.header_timeout(Duration::ZERO)),
            ("keep_alive_timeout", |b| {
                b.keep_alive_timeout(Duration::MAX)
            }),
            ("write_stall_timeout", |b| {
                b.write_stall_timeout(Duration::from_micros(999))
            }),
            ("shutdown_grace", |b| b.shutdown_grace(Duration::MAX)),
            ("max_header_bytes", |b| b.max_header_bytes(1023)),
            ("max_headers", |b| b.max_headers(0)),
            ("max_headers", |b| b.max_headers(4097)),
            ("http2.max_concurrent_streams", |b| {
                b.http2_max_concurrent_streams(0)
            }),
            ("http2.max_header_list_bytes", |b| {
                b.http2_max_header_list_bytes(u32::MAX)
            }),
            ("http2.max_pending_resets", |b| {
                b.http2_max_pending_resets(0)
            }),
        ];
        for (field, change) in cases {
            let error = change(ServerConfig::builder()).build().unwrap_err();
            assert_eq!(error.field(), *field);
        }
    }

    #[test]
    fn the_ends_of_the_ranges_are_allowed() {
        let config = ServerConfig::builder()
            .header_timeout(SHORTEST)
            .keep_alive_timeout(LONGEST)
            .shutdown_grace(Duration::ZERO)
            .max_header_bytes(1024 * 1024)
            .max_headers(4096)
            .build()
            .unwrap();
        assert_eq!(config.timers.shortest(), SHORTEST);
    }
}
