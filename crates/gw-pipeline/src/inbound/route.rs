//! Routes and the table that finds them.

mod pattern;
mod table;

use std::time::Duration;

use gw_core::context::{Criticality, Lane, UpstreamName};
use http::{Extensions, HeaderName, HeaderValue, Method};

use self::pattern::Pattern;
pub(super) use self::table::{Found, RouteEntry};
pub use self::table::{RouteTable, RouteTableBuilder};
use crate::timeouts::Timeouts;

/// A route: what it matches, and what holds for the requests that match.
///
/// # Examples
///
/// ```
/// use gw_pipeline::inbound::{Route, RouteTable};
///
/// let table = RouteTable::builder()
///     .route(Route::prefix("login", "/api/auth").upstream("auth").lane("auth"))
///     .route(Route::path("order", "/api/orders/{id}").methods([http::Method::GET]))
///     .build()?;
/// # Ok::<(), gw_pipeline::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Route {
    name: String,
    pattern: Pattern,
    /// `None`: any.
    methods: Option<Vec<Method>>,
    host: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    policy: Policy,
}

/// What holds for the requests of a route.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    pub(super) upstream: Option<UpstreamName>,
    pub(super) lane: Option<Lane>,
    pub(super) criticality: Option<Criticality>,
    pub(super) deadline: Option<Duration>,
    pub(super) timeouts: Option<Timeouts>,
    pub(super) max_body_bytes: Option<u64>,
    /// The timers of calls.
    pub(super) grpc_streams: Option<Timeouts>,
    pub(super) pass_error_bodies: bool,
    pub(super) extensions: Extensions,
}

impl Route {
    /// Matches `template` as a whole: `/orders/{id}` matches `/orders/7`, and not `/orders/7/items`.
    ///
    /// `{name}` stands for one segment that is not empty, `{*name}` at the end for one or more.
    pub fn path(name: impl Into<String>, template: impl Into<String>) -> Self {
        Self::new(name.into(), Pattern::Template(template.into()))
    }

    /// Matches `prefix` and all below it, on the borders of segments: `/api` matches `/api` and `/api/x`, and never
    /// `/apiary`. `/` matches everything.
    pub fn prefix(name: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self::new(name.into(), Pattern::Prefix(prefix.into()))
    }

    fn new(name: String, pattern: Pattern) -> Self {
        Self {
            name,
            pattern,
            methods: None,
            host: None,
            headers: Vec::new(),
            policy: Policy::default(),
        }
    }

    /// Matches these methods only, at least one. A path that matches by another method is answered with 405.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = Some(methods.into_iter().collect());
        self
    }

    /// Matches this host only; case and port do not matter.
    #[must_use]
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// Matches only where the header field `name` has exactly this value.
    ///
    /// Any client can say it. So it should be none that is dropped later on because only proxies or an authenticator may say it, such
    /// as `X-Forwarded-User` or `X-Consumer-Id`.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names the upstream that serves the route.
    #[must_use]
    pub fn upstream(mut self, upstream: impl Into<UpstreamName>) -> Self {
        self.policy.upstream = Some(upstream.into());
        self
    }

    /// Names the lane that the route runs in; without it, the bulkhead's default lane.
    #[must_use]
    pub fn lane(mut self, lane: impl Into<Lane>) -> Self {
        self.policy.lane = Some(lane.into());
        self
    }

    /// Says how much it hurts to refuse the route's requests.
    #[must_use]
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.policy.criticality = Some(criticality);
        self
    }

    /// Limits the whole exchange, from the head received to the last byte sent, uploads included. A route without
    /// it has no limit: say so for streams only.
    #[must_use]
    pub const fn deadline(mut self, limit: Duration) -> Self {
        self.policy.deadline = Some(limit);
        self
    }

    /// Sets the timers towards the upstream.
    #[must_use]
    pub const fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.policy.timeouts = Some(timeouts);
        self
    }

    /// The largest request body, in bytes, instead of the table's.
    #[must_use]
    pub const fn max_body_bytes(mut self, limit: u64) -> Self {
        self.policy.max_body_bytes = Some(limit);
        self
    }

    /// Lets the gRPC calls of the route be silent: streams may have nothing to send, and `BodyTimers` would end them. Towards the
    /// upstream `timeouts` holds for calls, in the place of [`timeouts`](Self::timeouts). Where its `first_byte` and `idle` are
    /// no shorter than the [`deadline`](Self::deadline), that alone is what ends them; many servers send no head before the
    /// first message.
    ///
    /// A gRPC call is a `POST` over HTTP/2 with a content type of gRPC, which any client can send: only for routes that serve
    /// gRPC, and with a deadline.
    #[must_use]
    pub const fn grpc_streams(mut self, timeouts: Timeouts) -> Self {
        self.policy.grpc_streams = Some(timeouts);
        self
    }

    /// Puts a value into the extensions of the route's requests, for a layer that reads its settings there: a retry's
    /// policy, say.
    ///
    /// One value of each type; a later one takes the place of an earlier one. It is cloned for each request.
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.policy.extensions.insert(value);
        self
    }

    /// Lets the bodies of an upstream's 5xx answers through, which are replaced otherwise.
    #[must_use]
    pub const fn pass_error_bodies(mut self) -> Self {
        self.policy.pass_error_bodies = true;
        self
    }
}
