use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use gw_core::ConfigError;
use gw_core::context::UpstreamName;
use gw_core::endpoint::EndpointHealth;
use http::uri::{Authority, Scheme, Uri};
use tower_layer::{Identity, Layer, Stack};

use super::Upstream;
use super::pool::Pool;
use super::pool_config::PoolConfig;
use super::report::Watcher;
use super::stack::{self, Front, InFrontOf};
use super::target::Endpoint;
use super::transport::Transport;
use crate::pipeline::LayerDescription;
use crate::pipeline::slot::Slot;

/// The protocol spoken with an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge: one connection per runtime and endpoint is shared by its requests, and by as many as the peer
    /// allows at the same time (`SETTINGS_MAX_CONCURRENT_STREAMS`). Where that is reached, a further one is made.
    ///
    /// [`max_connections`](PoolConfig#structfield.max_connections) should be as many at least: a runtime without one waits for
    /// as long as those of the others are in use.
    ///
    /// 128 KiB of an answer come within a round trip: over 10 ms that is 13 MB a second, over 100 ms a tenth of it, where HTTP/1 may
    /// be faster. With more than 16,384 `max_connections` it is their share of 2 GiB, and 16 KiB at least.
    Http2,
    /// What the upstream offers. Over cleartext it can offer nothing, so that is HTTP/1.1.
    Auto,
}

/// What an upstream sees as the host of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostHeader {
    /// The host that the client asked for.
    #[default]
    Preserve,
    /// The endpoint's own authority.
    Upstream,
}

/// Builds an [`Upstream`]. See [`Upstream::builder`].
///
/// `Last` is the [slot](super::stack) filled last, `L` the layers so far. Each slot takes any layer whose error becomes a
/// [`Rejection`](gw_core::Rejection); the compiler refuses to fill one twice, or behind a later one.
#[must_use = "a builder does nothing until it builds"]
pub struct UpstreamBuilder<Last = Front, L = Identity> {
    name: UpstreamName,
    endpoints: Vec<Uri>,
    settings: Settings,
    watcher: Watcher,
    layers: L,
    described: Vec<LayerDescription>,
    last: PhantomData<fn() -> Last>,
}

impl<Last, L: Clone> Clone for UpstreamBuilder<Last, L> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            endpoints: self.endpoints.clone(),
            settings: self.settings.clone(),
            watcher: self.watcher.clone(),
            layers: self.layers.clone(),
            described: self.described.clone(),
            last: PhantomData,
        }
    }
}

impl<Last, L> fmt::Debug for UpstreamBuilder<Last, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBuilder")
            .field("name", &self.name)
            .field("endpoints", &self.endpoints)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// What is set for an upstream besides its endpoints.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) protocol: Protocol,
    pub(super) connect_timeout: Duration,
    pub(super) send_timeout: Duration,
    pub(super) ping_interval: Duration,
    pub(super) ping_timeout: Duration,
    pub(super) max_tunnels: Option<usize>,
    pub(super) tunnel_idle_timeout: Duration,
    pub(super) tunnel_lifetime: Duration,
    pub(super) host_header: HostHeader,
    pub(super) pool: PoolConfig,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            protocol: Protocol::default(),
            connect_timeout: Duration::from_secs(3),
            send_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(6 * 60),
            ping_timeout: Duration::from_secs(10),
            max_tunnels: None,
            tunnel_idle_timeout: Duration::from_secs(5 * 60),
            tunnel_lifetime: Duration::from_secs(24 * 60 * 60),
            host_header: HostHeader::default(),
            pool: PoolConfig::default(),
        }
    }
}

impl UpstreamBuilder {
    pub(super) fn new(name: UpstreamName) -> Self {
        Self {
            name,
            endpoints: Vec::new(),
            settings: Settings::default(),
            watcher: Watcher::default(),
            layers: Identity::new(),
            described: Vec::new(),
            last: PhantomData,
        }
    }
}

impl<Last, L> UpstreamBuilder<Last, L> {
    /// Fills the slot [`Cache`](stack::Cache).
    pub fn cache<T>(self, layer: T) -> UpstreamBuilder<stack::Cache, Stack<T, L>>
    where
        Last: InFrontOf<stack::Cache>,
    {
        self.fill(layer)
    }

    /// Fills the slot [`Shadow`](stack::Shadow).
    pub fn shadow<T>(self, layer: T) -> UpstreamBuilder<stack::Shadow, Stack<T, L>>
    where
        Last: InFrontOf<stack::Shadow>,
    {
        self.fill(layer)
    }

    /// Fills the slot [`Retry`](stack::Retry).
    pub fn retry<T>(self, layer: T) -> UpstreamBuilder<stack::Retry, Stack<T, L>>
    where
        Last: InFrontOf<stack::Retry>,
    {
        self.fill(layer)
    }

    /// Fills the slot [`Hedge`](stack::Hedge).
    pub fn hedge<T>(self, layer: T) -> UpstreamBuilder<stack::Hedge, Stack<T, L>>
    where
        Last: InFrontOf<stack::Hedge>,
    {
        self.fill(layer)
    }

    /// Fills the slot [`Breaker`](stack::Breaker).
    pub fn breaker<T>(self, layer: T) -> UpstreamBuilder<stack::Breaker, Stack<T, L>>
    where
        Last: InFrontOf<stack::Breaker>,
    {
        self.fill(layer)
    }

    fn fill<S: Slot, T>(mut self, layer: T) -> UpstreamBuilder<S, Stack<T, L>> {
        self.described.push(LayerDescription::of::<S, T>());
        UpstreamBuilder {
            name: self.name,
            endpoints: self.endpoints,
            settings: self.settings,
            watcher: self.watcher,
            layers: Stack::new(layer, self.layers),
            described: self.described,
            last: PhantomData,
        }
    }

    /// Asks `health` which endpoints may be picked, and tells it what came of each request. Without it: all, always.
    ///
    /// Endpoints are numbered in the order in which they were added. The outcome is judged by the head of the answer if that
    /// is bad, else at its end: the answer may break off, and gRPC tells in its trailers. But a good answer that still comes
    /// a second after its head is a success by then, however it ends, and so is one that its client leaves; not while
    /// it waits for the rest of a body of a known length, which says nothing. Latency is that to the head since the request was
    /// sent whole, without the time for a slot and a connection.
    pub fn endpoint_health(mut self, health: Arc<dyn EndpointHealth>) -> Self {
        self.watcher = Watcher(Some(health));
        self
    }

    /// Adds an endpoint: `http://host:port`, nothing more. Several take turns.
    pub fn endpoint(mut self, endpoint: Uri) -> Self {
        self.endpoints.push(endpoint);
        self
    }

    /// Sets the protocol. Without it: HTTP/1.1.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.settings.protocol = protocol;
        self
    }

    /// Sets how long it may take to make a connection, name resolution included. Without it: 3 seconds.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.settings.connect_timeout = limit;
        self
    }

    /// Sets how long the upstream may leave a piece of a request's body unread. Without it: 10 seconds.
    ///
    /// The time counts from the piece being handed to the connection to the connection having room for the next one. A
    /// body that waits for its client is not slow.
    pub fn send_timeout(mut self, limit: Duration) -> Self {
        self.settings.send_timeout = limit;
        self
    }

    /// Sets how long an HTTP/2 connection in use may be silent before it is asked for a sign of life. Without it: 6
    /// minutes.
    ///
    /// A connection on which no request is under way is not asked. gRPC servers that nobody has configured close connections
    /// that ask more than once within five minutes of silence, at the third time. A peer whose machine or network is gone is
    /// found by TCP within half a minute; so this is for a process that hangs with silent streams, and for what stands between.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.settings.ping_interval = interval;
        self
    }

    /// Sets how long that sign of life may take. Without it: 10 seconds. Then the connection is closed.
    pub fn ping_timeout(mut self, limit: Duration) -> Self {
        self.settings.ping_timeout = limit;
        self
    }

    /// Sets the most tunnels at a time: requests that ask to switch protocols, and what becomes of them. Without it:
    /// half of `max_connections`, rounded up. 0 refuses them all.
    ///
    /// A tunnel holds its slot for as long as it lasts, so without a bound of their own tunnels would take the slots of
    /// all other requests.
    pub fn max_tunnels(mut self, tunnels: usize) -> Self {
        self.settings.max_tunnels = Some(tunnels);
        self
    }

    /// Sets how long a tunnel may be silent in both directions. Without it: 5 minutes.
    pub fn tunnel_idle_timeout(mut self, limit: Duration) -> Self {
        self.settings.tunnel_idle_timeout = limit;
        self
    }

    /// Sets how long a tunnel may last. Without it: 24 hours.
    pub fn tunnel_lifetime(mut self, limit: Duration) -> Self {
        self.settings.tunnel_lifetime = limit;
        self
    }

    /// Sets what the upstream sees as the host. Without it: what the client asked for.
    pub fn host_header(mut self, host: HostHeader) -> Self {
        self.settings.host_header = host;
        self
    }

    /// Sets the bounds. Without it: [`PoolConfig::new`].
    pub fn pool(mut self, pool: PoolConfig) -> Self {
        self.settings.pool = pool;
        self
    }

    /// Builds the upstream. Connects nowhere yet.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if there is no endpoint, an endpoint is more or less than `http://host:port`, a timeout is
    /// zero, or `max_connections` is 0 or more than a semaphore can count.
    pub fn build(self) -> Result<Upstream<L::Service>, ConfigError>
    where
        L: Layer<Transport>,
    {
        if self.endpoints.is_empty() {
            return Err(ConfigError::new("endpoints", "there must be at least one"));
        }
        let endpoints: Result<Vec<_>, _> = self.endpoints.into_iter().map(endpoint).collect();
        self.settings.check()?;
        let pool = Pool::new(self.name, endpoints?, self.settings, self.watcher);
        let pool = Arc::new(pool);
        let transport = Transport {
            pool: Arc::clone(&pool),
        };
        let stack = self.layers.layer(transport);
        Ok(Upstream::new(pool, stack, self.described.into()))
    }
}

impl Settings {
    /// How many tunnels there may be.
    pub(super) fn most_tunnels(&self) -> usize {
        let half = self.pool.max_connections.div_ceil(2);
        self.max_tunnels.unwrap_or(half)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        if !(1..=most).contains(&self.pool.max_connections) {
            let rule = format!("must be between 1 and {most}");
            return Err(ConfigError::new("pool.max_connections", rule));
        }
        for (field, time) in [
            ("connect_timeout", self.connect_timeout),
            ("send_timeout", self.send_timeout),
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("tunnel_idle_timeout", self.tunnel_idle_timeout),
            ("tunnel_lifetime", self.tunnel_lifetime),
            ("pool.idle_timeout", self.pool.idle_timeout),
        ] {
            if time.is_zero() {
                return Err(ConfigError::new(field, "must be longer than zero"));
            }
        }
        Ok(())
    }
}

fn endpoint(uri: Uri) -> Result<Endpoint, ConfigError> {
    let error = |rule: &'static str| Err(ConfigError::new("endpoints", rule));
    let parts = uri.into_parts();
    let plain = parts.path_and_query.is_none_or(|path| path == "/");
    match (parts.scheme, parts.authority) {
        (Some(scheme), _) if scheme != Scheme::HTTP => error("the scheme must be http"),
        (Some(_), Some(authority)) if !is_plain(&authority) => {
            error("must name a host, and no user")
        }
        (Some(_), Some(authority)) if !has_a_real_port(&authority) => {
            error("the port must be between 1 and 65535, or left out")
        }
        (Some(_), Some(authority)) if plain => Endpoint::new(authority)
            .ok_or_else(|| ConfigError::new("endpoints", "must be a valid address")),
        (Some(_), Some(_)) => error("must have neither path nor query"),
        _ => error("must be http://host:port"),
    }
}

fn is_plain(authority: &Authority) -> bool {
    !authority.host().is_empty() && !authority.as_str().contains('@')
}

/// `Authority` takes any number after the colon, and none; for what is no port it then has none.
fn has_a_real_port(authority: &Authority) -> bool {
    let written = authority.as_str().strip_prefix(authority.host());
    written == Some("") || authority.port_u16().is_some_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(endpoint: &'static str) -> Result<Upstream, ConfigError> {
        Upstream::builder("orders")
            .endpoint(Uri::from_static(endpoint))
            .build()
    }

    #[test]
    fn endpoints_are_an_authority_and_no_more() {
        for good in [
            "http://127.0.0.1:9001",
            "http://orders/",
            "http://[::1]",
            "http://[::1]:80",
            "http://orders:65535",
        ] {
            assert!(build(good).is_ok(), "{good}");
        }
        for bad in [
            "https://orders",
            "/orders",
            "orders:80",
            "http://orders/v1",
            "http://orders/?x",
            "http://user@orders",
            // Story: connections to these went to port 80, or nowhere.
            "http://127.0.0.1:99999",
            "http://127.0.0.1:0",
            "http://orders:",
            "http://[::1]:",
            "http://[::1]:65536",
        ] {
            assert_eq!(build(bad).unwrap_err().field(), "endpoints", "{bad}");
        }
    }

    #[test]
    fn errors_name_field_and_rule() {
        let builder = Upstream::builder("orders");
        let error = builder.clone().build().unwrap_err();
        assert_eq!(error.to_string(), "endpoints: there must be at least one");
        let builder = builder.endpoint(Uri::from_static("http://orders"));
        let none = PoolConfig {
            max_connections: 0,
            ..PoolConfig::default()
        };
        let error = builder.clone().pool(none).build().unwrap_err();
        assert_eq!(error.field(), "pool.max_connections");
        let most = tokio::sync::Semaphore::MAX_PERMITS;
        let too_many = PoolConfig {
            max_connections: most + 1,
            ..PoolConfig::default()
        };
        let error = builder.clone().pool(too_many).build().unwrap_err();
        assert_eq!(error.rule(), format!("must be between 1 and {most}"));
        let error = builder.send_timeout(Duration::ZERO).build().unwrap_err();
        assert_eq!(error.field(), "send_timeout");
    }
}
