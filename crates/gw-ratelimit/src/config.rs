use std::fmt;

/// What a policy does with a request that has nothing to make its key from.
///
/// Whichever it is, the first such request of each policy is logged (feature `tracing`), with what it lacks and what would
/// provide that.
///
/// # Examples
///
/// Two requests without the field, where one a minute may pass:
///
/// ```
/// use std::convert::Infallible;
/// use bytes::Bytes;
/// use gw_ratelimit::key::Header;
/// use gw_ratelimit::{OnMissingKey, Policy, Quota, RateLimitLayer};
/// use http::{HeaderName, Request, Response};
/// use http_body_util::Full;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let statuses = async |rule| {
///     let policy = Policy::new("per_device", Quota::per_minute(1))
///         .key(Header::new(HeaderName::from_static("x-device")))
///         .on_missing_key(rule);
///     let layer = RateLimitLayer::builder().policy(policy).build().unwrap();
///     let service = layer.layer(service_fn(async |_| {
///         Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
///     }));
///     let mut statuses = Vec::new();
///     for _ in 0..2 {
///         let answer = service.clone().oneshot(Request::new(())).await.unwrap();
///         statuses.push(answer.status().as_u16());
///     }
///     statuses
/// };
/// assert_eq!(statuses(OnMissingKey::SharedBucket).await, [200, 429]);
/// assert_eq!(statuses(OnMissingKey::Skip).await, [200, 200]);
/// assert_eq!(statuses(OnMissingKey::Deny).await, [400, 400]);
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMissingKey {
    /// Counts all such requests under one key of their own, which has the policy's quota and is that of no other request. The
    /// default: nobody gets around the limit by leaving the key out, and nobody is locked out for certain.
    #[default]
    SharedBucket,
    /// Lets the request pass this policy, which does not count it; the other policies of the layer decide. Not for a key that
    /// the client sends: who leaves it out would not be limited.
    Skip,
    /// Refuses the request with 400 [`MALFORMED_REQUEST`](crate::error::MALFORMED_REQUEST), and charges it to no policy: the
    /// key is something that each client must send. What is missing is the cause of the refusal, for the operator.
    Deny,
}

/// Which fields tell clients about their limits. Policies that are not enforced are never told about.
///
/// All numbers of quotas are of cells: requests, unless a policy says that they cost something else
/// ([`Policy::cost`](crate::Policy::cost), bytes of answers). The draft's `qu`, which names another unit than requests, is not
/// written.
///
/// They are as of the decision, or of the last charge or refund after it. Where `RateLimit` tells of nothing left, a `Retry-After`
/// or `grpc-retry-pushback-ms` of whoever answered further in is not before the end of that window, which has run since then.
///
/// The profile is named with its version: drafts of one name have changed the fields' syntax before, and an upgrade of
/// this crate must not change what clients are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Headers {
    /// No fields: nothing is written, and an upstream's fields pass.
    None,
    /// `RateLimit` and `RateLimit-Policy` as of draft-ietf-httpapi-ratelimit-headers-11.
    #[default]
    Draft11,
    /// `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (in seconds from now), for the policy
    /// that comes closest to refusing.
    Legacy,
    /// Both kinds.
    Draft11AndLegacy,
}

impl Headers {
    pub(crate) const fn draft(self) -> bool {
        matches!(self, Self::Draft11 | Self::Draft11AndLegacy)
    }

    pub(crate) const fn legacy(self) -> bool {
        matches!(self, Self::Legacy | Self::Draft11AndLegacy)
    }
}

/// Limits that cannot be enforced: which policy and field, and the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    policy: Option<Box<str>>,
    tier: Option<Box<str>>,
    field: &'static str,
    rule: &'static str,
}

impl ConfigError {
    pub(crate) const fn new(field: &'static str, rule: &'static str) -> Self {
        Self {
            policy: None,
            tier: None,
            field,
            rule,
        }
    }

    pub(crate) fn of_policy(mut self, name: &str) -> Self {
        self.policy = Some(name.into());
        self
    }

    pub(crate) fn of_tier(mut self, name: &str) -> Self {
        self.tier = Some(name.into());
        self
    }

    /// The field that is wrong.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The rule that it breaks.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }

    /// The policy it belongs to, if it belongs to one.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The policy's tier it belongs to, if it belongs to one.
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(policy) = &self.policy {
            write!(f, "policy {policy:?}: ")?;
        }
        if let Some(tier) = &self.tier {
            write!(f, "tier {tier:?}: ")?;
        }
        write!(f, "{} {}", self.field, self.rule)
    }
}

impl std::error::Error for ConfigError {}

/// A policy's name stands in header fields, metric labels and logs, so it is short and plain in all of them.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.:".contains(&b);
    if (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    const RULE: &str = "must be 1 to 64 characters out of A-Z a-z 0-9 _ - . :";
    Err(ConfigError::new("name", RULE))
}

/// The longest name of a policy, in bytes.
pub(crate) const MAX_NAME: usize = 64;
