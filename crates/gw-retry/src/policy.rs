mod live;
mod permits;

use std::sync::Arc;
use std::time::Duration;

use gw_core::ConfigError;
use http::{Method, StatusCode};

pub(crate) use self::live::LivePolicy;
pub(crate) use self::permits::{Methods, Permits};
use crate::backoff::Backoff;
use crate::latency::Latency;

/// What may be sent again, how often and when: the settings of a route.
///
/// The layer has one for all requests; one in a request's extensions, where a stage that knows the route puts it, takes
/// its place. A clone is a shared pointer. Those in requests' extensions learn how long their requests take, and a retry that would
/// not end before its deadline is not started: so make one for each route.
///
/// Without further settings: three attempts; GET, HEAD, OPTIONS and QUERY, and any method of which the upstream has
/// certainly seen nothing; on 502, 503 and 504, a connection that broke before the head, gRPC's UNAVAILABLE, and 429 or
/// RESOURCE_EXHAUSTED if the upstream says when to come back.
///
/// # Examples
///
/// ```
/// use gw_retry::RetryPolicy;
/// use http::Method;
///
/// // A route to create orders: only with a key, and only once more.
/// let orders = RetryPolicy::builder().max_attempts(2).keyed_methods([Method::POST]).build()?;
/// # let mut request = http::Request::new(());
/// request.extensions_mut().insert(orders);
/// # Ok::<(), gw_retry::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RetryPolicy(Arc<Shared>);

/// Builds a [`RetryPolicy`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct RetryPolicyBuilder {
    settings: Settings,
    rejected: Option<ConfigError>,
}

/// What the clones of a policy share.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    /// How long attempts take that succeed: what is long on one route is usual on another.
    latency: Latency,
}

#[derive(Debug, Clone)]
struct Settings {
    max_attempts: u32,
    methods: Methods,
    keyed: Methods,
    unsent: bool,
    statuses: Vec<StatusCode>,
    throttled: bool,
    idempotent_grpc: bool,
    backoff: Backoff,
    pushback_within: Duration,
    replay_max: usize,
    shadow: bool,
}

impl RetryPolicy {
    /// The most attempts a policy can allow.
    pub const MAX_ATTEMPTS: u32 = 10;

    /// The settings above, to be changed.
    pub fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder {
            settings: Settings {
                max_attempts: 3,
                methods: Methods::SAFE,
                keyed: Methods(0),
                unsent: true,
                statuses: vec![
                    StatusCode::BAD_GATEWAY,
                    StatusCode::SERVICE_UNAVAILABLE,
                    StatusCode::GATEWAY_TIMEOUT,
                ],
                throttled: true,
                idempotent_grpc: false,
                backoff: Backoff::default(),
                pushback_within: Duration::from_secs(5),
                replay_max: 64 * 1024,
                shadow: false,
            },
            rejected: None,
        }
    }

    /// Sends everything once.
    pub fn none() -> Self {
        let mut settings = Self::builder().settings;
        settings.max_attempts = 1;
        Self::of(settings)
    }

    fn of(settings: Settings) -> Self {
        let latency = Latency::of_attempts();
        Self(Arc::new(Shared { settings, latency }))
    }

    /// How often a request is sent at most.
    #[inline]
    pub fn max_attempts(&self) -> u32 {
        self.0.settings.max_attempts
    }

    /// How long to wait before a retry.
    pub fn backoff(&self) -> &Backoff {
        &self.0.settings.backoff
    }

    /// How far off an upstream may ask a retry to be.
    pub fn pushback_within(&self) -> Duration {
        self.0.settings.pushback_within
    }

    /// How many bytes of a request's body are kept.
    pub fn replay_max(&self) -> usize {
        self.0.settings.replay_max
    }

    /// What each request asks of it.
    #[inline]
    pub(crate) fn permits(&self) -> Permits {
        let settings = &self.0.settings;
        Permits {
            methods: settings.methods,
            keyed: settings.keyed,
            again: settings.max_attempts > 1,
            unsent: settings.unsent,
            idempotent_grpc: settings.idempotent_grpc,
        }
    }

    pub(crate) fn retries_status(&self, status: StatusCode) -> bool {
        self.0.settings.statuses.contains(&status)
    }

    pub(crate) fn latency(&self) -> &Latency {
        &self.0.latency
    }

    pub(crate) fn is_shadow(&self) -> bool {
        self.0.settings.shadow
    }

    pub(crate) fn retries_throttled(&self) -> bool {
        self.0.settings.throttled
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::of(Self::builder().settings)
    }
}

impl RetryPolicyBuilder {
    /// How often a request is sent at most, the first time included: 1 to [`RetryPolicy::MAX_ATTEMPTS`].
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// The methods whose requests may be sent again whatever became of the first: those of the default, and PUT, DELETE
    /// and TRACE, which say of themselves that doing them twice is doing them once (RFC 9110 section 9.2.2). Replaces the
    /// default.
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let (methods, rest) = Methods::of(methods);
        if rest || methods.0 & !Methods::IDEMPOTENT.0 != 0 {
            self.reject("methods", "must be idempotent methods");
        }
        self.settings.methods = methods;
        self
    }

    /// The methods whose requests may be sent again if they carry an `Idempotency-Key`: POST and PATCH, for routes whose
    /// upstream keeps the keys. None unless set.
    ///
    /// A key is a string in quotes that is not empty, or anything bare that is one thing; several are none, on one line or on two.
    pub fn keyed_methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        let (methods, rest) = Methods::of(methods);
        if rest {
            self.reject("keyed_methods", "must be standard methods");
        }
        self.settings.keyed = methods;
        self
    }

    /// Whether a request that has left no trace may be sent again whatever its method: the connection could not be made, or
    /// the upstream says that it did nothing with it (RFC 9113 section 8.7). Yes unless set.
    pub const fn unsent(mut self, unsent: bool) -> Self {
        self.settings.unsent = unsent;
        self
    }

    /// Whether gRPC calls of this route may be sent again whatever became of the first. All of them are POST, so it is for
    /// the route to say. No unless set.
    pub const fn idempotent_grpc(mut self, idempotent: bool) -> Self {
        self.settings.idempotent_grpc = idempotent;
        self
    }

    /// The statuses that are worth another try: 5xx, without 501 and 505, which would be the same again. Replaces the
    /// default.
    pub fn statuses(mut self, statuses: impl IntoIterator<Item = StatusCode>) -> Self {
        self.settings.statuses = statuses.into_iter().collect();
        let transient = |status: &StatusCode| {
            status.is_server_error()
                && *status != StatusCode::NOT_IMPLEMENTED
                && *status != StatusCode::HTTP_VERSION_NOT_SUPPORTED
        };
        if !self.settings.statuses.iter().all(transient) {
            self.reject("statuses", "must be 5xx, and neither 501 nor 505");
        }
        self
    }

    /// Whether 429 and gRPC's RESOURCE_EXHAUSTED are worth another try if the upstream says when. Yes unless set.
    pub const fn throttled(mut self, throttled: bool) -> Self {
        self.settings.throttled = throttled;
        self
    }

    /// How long to wait before a retry.
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// How far off an upstream may ask a retry to be, by `Retry-After` or `grpc-retry-pushback-ms`: 5 s unless set. If it
    /// asks for more the request is not sent again, and its wish is passed on.
    pub const fn pushback_within(mut self, within: Duration) -> Self {
        self.settings.pushback_within = within;
        self
    }

    /// Whether what would be sent again is only counted: for a route that is tried out beside others. What it would take out
    /// of the budget, which is theirs as well, stays there. No unless set.
    pub const fn shadow(mut self, shadow: bool) -> Self {
        self.settings.shadow = shadow;
        self
    }

    /// How many bytes of a request's body are kept to be sent again: 64 KiB unless set. A longer body is streamed on, and
    /// its request sent once. A frame counts as 64 bytes at least.
    pub const fn replay_max(mut self, bytes: usize) -> Self {
        self.settings.replay_max = bytes;
        self
    }

    /// The policy.
    ///
    /// # Errors
    ///
    /// The first setting that breaks its rule.
    pub fn build(self) -> Result<RetryPolicy, ConfigError> {
        if let Some(rejected) = self.rejected {
            return Err(rejected);
        }
        if !(1..=RetryPolicy::MAX_ATTEMPTS).contains(&self.settings.max_attempts) {
            return Err(ConfigError::new("max_attempts", "must be from 1 to 10"));
        }
        Ok(RetryPolicy::of(self.settings))
    }

    fn reject(&mut self, field: &'static str, rule: &'static str) {
        self.rejected = self.rejected.take().or(Some(ConfigError::new(field, rule)));
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::decide::Eligibility;

    #[allow(clippy::needless_pass_by_value, reason = "shorter where it is called")]
    fn judge(policy: &RetryPolicy, method: Method, fields: &[(&'static str, &str)]) -> Eligibility {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        policy.permits().eligibility(&method, &headers)
    }

    #[test]
    fn safe_by_default() {
        let policy = RetryPolicy::default();
        for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::QUERY] {
            assert_eq!(judge(&policy, method, &[]), Eligibility::Always);
        }
        let other = Method::from_bytes(b"PURGE").unwrap();
        for method in [
            Method::POST,
            Method::PATCH,
            Method::PUT,
            Method::DELETE,
            Method::TRACE,
            other,
        ] {
            let key = [("idempotency-key", "\"k\"")];
            assert_eq!(judge(&policy, method, &key), Eligibility::Untouched);
        }
    }

    #[test]
    fn a_route_opts_in() {
        let policy = RetryPolicy::builder()
            .methods([Method::GET, Method::PUT, Method::DELETE])
            .keyed_methods([Method::POST])
            .unsent(false)
            .build()
            .unwrap();
        assert_eq!(judge(&policy, Method::PUT, &[]), Eligibility::Always);
        assert_eq!(judge(&policy, Method::HEAD, &[]), Eligibility::Never);
        let key = ("idempotency-key", "\"k\"");
        assert_eq!(judge(&policy, Method::POST, &[key]), Eligibility::Always);
        assert_eq!(judge(&policy, Method::PATCH, &[key]), Eligibility::Never);
        assert_eq!(judge(&policy, Method::POST, &[]), Eligibility::Never);
        assert_eq!(
            judge(&policy, Method::POST, &[key, key]),
            Eligibility::Never
        );
        let empty = [("idempotency-key", "")];
        assert_eq!(judge(&policy, Method::POST, &empty), Eligibility::Never);
    }

    #[test]
    fn a_key_is_one_key() {
        let policy = RetryPolicy::builder()
            .keyed_methods([Method::POST])
            .unsent(false)
            .build()
            .unwrap();
        for (value, expected) in [
            ("\"k\"", true),
            ("8e03978e-40d5-43dd-bc93-6894a57f9324", true),
            ("  \"k\" ", true),
            ("\"a, b\"", true),
            ("\"a\\\", b\"", true),
            ("\"k\";v=1", true),
            // Story: nothing in quotes, blanks, and two keys on one line were a key.
            ("\"\"", false),
            (" \"\" ", false),
            ("\"\";v=1", false),
            ("  \t", false),
            ("\"a\", \"b\"", false),
            ("a,b", false),
            ("\"a\\\\\", b", false),
            ("\"a, b", false),
        ] {
            let eligibility = judge(&policy, Method::POST, &[("idempotency-key", value)]);
            assert_eq!(eligibility == Eligibility::Always, expected, "{value}");
        }
    }

    #[test]
    fn grpc_calls_where_the_route_says_so() {
        let grpc = [("content-type", "application/grpc+proto")];
        let policy = RetryPolicy::default();
        assert_eq!(judge(&policy, Method::POST, &grpc), Eligibility::Untouched);
        let policy = RetryPolicy::builder().idempotent_grpc(true);
        let policy = policy.build().unwrap();
        assert_eq!(judge(&policy, Method::POST, &grpc), Eligibility::Always);
        let json = [("content-type", "application/json")];
        assert_eq!(judge(&policy, Method::POST, &json), Eligibility::Untouched);
        let web = [("content-type", "application/grpc-web")];
        assert_eq!(judge(&policy, Method::POST, &web), Eligibility::Untouched);
        // What is no POST is no gRPC call, whatever it says of its content.
        for method in [Method::PUT, Method::DELETE, Method::PATCH] {
            assert_eq!(judge(&policy, method, &grpc), Eligibility::Untouched);
        }
    }

    #[test]
    fn none_is_none() {
        let policy = RetryPolicy::none();
        assert_eq!(judge(&policy, Method::GET, &[]), Eligibility::Never);
    }

    #[test]
    fn what_cannot_be() {
        let builder = RetryPolicy::builder;
        let field = |builder: RetryPolicyBuilder| builder.build().unwrap_err().field().to_owned();
        assert_eq!(field(builder().max_attempts(0)), "max_attempts");
        assert_eq!(field(builder().max_attempts(11)), "max_attempts");
        assert_eq!(field(builder().methods([Method::POST])), "methods");
        assert_eq!(field(builder().methods([Method::CONNECT])), "methods");
        let keyed = [Method::CONNECT];
        assert_eq!(field(builder().keyed_methods(keyed)), "keyed_methods");
        for status in [400, 404, 429, 501, 505, 200] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(field(builder().statuses([status])), "statuses");
        }
        assert!(
            builder()
                .statuses([StatusCode::INTERNAL_SERVER_ERROR])
                .build()
                .is_ok()
        );
    }
}
