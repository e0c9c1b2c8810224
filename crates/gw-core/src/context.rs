//! What the stages of a request tell one another, as types in the request's extensions.
//!
//! Each type says who sets it and who may rely on it. All are cheap to clone: a number or a shared pointer.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

/// The address of the other end of the connection, for servers that have no type of their own for it.
///
/// Set by the server glue, once per connection or request. See [`peer_addr`](crate::key::peer_addr).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerAddr(pub SocketAddr);

/// Who sent the request, after the walk through trusted proxies. Set by the stage that makes the walk.
///
/// Always in one form: an IPv4 address that arrived mapped into IPv6 is held as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(IpAddr);

impl ClientAddr {
    /// Takes an address in any form.
    pub fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }

    /// The address.
    pub const fn ip(self) -> IpAddr {
        self.0
    }

    /// The network that stands for one subscriber: the address itself for IPv4, the first `v6_bits` bits for IPv6.
    /// Above 128 bits is the same as 128.
    ///
    /// Two kinds of IPv6 addresses stand for IPv4 hosts. Those behind a translator (NAT64: `64:ff9b::/96` of RFC 6052,
    /// `64:ff9b:1::/48` of RFC 8215) are a host each and kept whole. With 6to4 (`2002::/16`) each IPv4 host has a /48 of
    /// its own, so no more than 48 bits count.
    pub fn network(self, v6_bits: u8) -> IpAddr {
        const TRANSLATED: u128 = 0x0064_ff9b << 96;
        const TRANSLATED_LOCALLY: u128 = 0x0064_ff9b_0001 << 80;
        const SIX_TO_FOUR: u128 = 0x2002 << 112;
        let IpAddr::V6(v6) = self.0 else {
            return self.0;
        };
        let address = u128::from(v6);
        let first = |bits: u8| address & mask(bits);
        let bits = if first(96) == TRANSLATED || first(48) == TRANSLATED_LOCALLY {
            128
        } else if first(16) == SIX_TO_FOUR {
            v6_bits.min(48)
        } else {
            v6_bits
        };
        IpAddr::V6(Ipv6Addr::from(first(bits)))
    }
}

/// The first `bits` bits of an IPv6 address.
const fn mask(bits: u8) -> u128 {
    match bits {
        0 => 0,
        1..=127 => u128::MAX << (128 - bits),
        _ => u128::MAX,
    }
}

/// The id of this request, for logs, error bodies and the upstream. Set by the request-id stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The longest id that is accepted, in bytes.
    pub const MAX_LEN: usize = 128;

    /// Takes an id of 1 to [`RequestId::MAX_LEN`] characters out of `A-Z a-z 0-9 - _ . ~ : / + = @`.
    ///
    /// Anything else is `None`: such an id could forge log lines or grow them.
    pub fn new(value: HeaderValue) -> Option<Self> {
        let bytes = value.as_bytes();
        let valid = (1..=Self::MAX_LEN).contains(&bytes.len())
            && bytes
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.~:/+=@".contains(b));
        valid.then_some(Self(value))
    }

    /// An id written as a UUID is: 32 lower-case hex digits in five groups.
    pub fn from_u128(bits: u128) -> Self {
        // From a table: it runs for each request, and formatting takes twenty times as long.
        let mut text = [b'-'; 36];
        let mut places = text.iter_mut();
        for (position, byte) in bits.to_be_bytes().into_iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                places.next();
            }
            let digits = HEX.get(usize::from(byte)).copied().unwrap_or_default();
            for (digit, place) in digits.into_iter().zip(&mut places) {
                *place = digit;
            }
        }
        // Shared from the start, since an id is always cloned. Hex digits and hyphens are a valid field value.
        let value = HeaderValue::from_maybe_shared(Bytes::from_owner(text));
        Self(value.unwrap_or(HeaderValue::from_static("0")))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        // Checked to be ASCII when it was made.
        self.0.to_str().unwrap_or_default()
    }

    /// The id as a field value.
    pub const fn header_value(&self) -> &HeaderValue {
        &self.0
    }
}

/// The two digits of each byte.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [digits[byte >> 4], digits[byte & 0xf]];
        byte += 1;
    }
    pairs
};

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where this request stands in a distributed trace (W3C Trace Context level 2). Set by the observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Names the whole trace.
    pub trace_id: TraceId,
    /// Names the span of the gateway within it.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// A trace id: 16 bytes, not all zero; printed as 32 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// A span id: 8 bytes, not all zero; printed as 16 lower-case hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

macro_rules! trace_identifier {
    ($name:ident, $bytes:literal) => {
        impl $name {
            /// `None` if all bytes are zero, which the specification calls invalid.
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// The bytes, most significant first.
            pub const fn bytes(self) -> [u8; $bytes] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

trace_identifier!(TraceId, 16);
trace_identifier!(SpanId, 8);

/// The route that the request matched, or the one that stands for no match. Set by the route stage.
///
/// Names and templates come from configuration, so both are safe as metric labels. The ordinal is the route's place in
/// its table: what is kept per route goes into a list, and is found without comparing names. Only the name is hashed, and whether
/// there is a place, so that two instances hash a route alike wherever it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RouteMatch(Arc<RouteName>);

#[derive(Debug, PartialEq, Eq)]
struct RouteName {
    name: Box<str>,
    template: Box<str>,
    ordinal: Option<usize>,
}

// By hand: instances that share what they count by route hash it alike, and one may have another table than the other.
impl Hash for RouteName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.ordinal.is_some().hash(state);
    }
}

impl RouteMatch {
    /// The name and template of requests that match no route.
    pub const UNMATCHED: &'static str = "unmatched";

    /// A configured route: its place in the table, its name, and the path template it was declared with.
    pub fn new(ordinal: usize, name: impl Into<Box<str>>, template: impl Into<Box<str>>) -> Self {
        let ordinal = Some(ordinal);
        Self(Arc::new(RouteName {
            name: name.into(),
            template: template.into(),
            ordinal,
        }))
    }

    /// What stands for no match. Make it once and clone it.
    pub fn unmatched() -> Self {
        let word = || Box::from(Self::UNMATCHED);
        Self(Arc::new(RouteName {
            name: word(),
            template: word(),
            ordinal: None,
        }))
    }

    /// The route's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The route's path template.
    pub fn template(&self) -> &str {
        &self.0.template
    }

    /// The route's place in its table, from 0; `None` if no route matched.
    pub fn ordinal(&self) -> Option<usize> {
        self.0.ordinal
    }
}

/// Who the caller is, as an authenticator established. Set by authenticators only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Arc<IdentityParts>);

/// The content of an [`Identity`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityParts {
    /// The application that calls.
    pub consumer: Option<Arc<str>>,
    /// The person on whose behalf it calls.
    pub user: Option<Arc<str>>,
    /// What the credential allows.
    pub scopes: Vec<Box<str>>,
    /// The groups the caller belongs to.
    pub roles: Vec<Box<str>>,
}

impl Identity {
    /// The identity with these parts.
    pub fn new(parts: IdentityParts) -> Self {
        Self(Arc::new(parts))
    }

    /// The application that calls.
    pub fn consumer(&self) -> Option<&str> {
        self.0.consumer.as_deref()
    }

    /// The person on whose behalf it calls.
    pub fn user(&self) -> Option<&str> {
        self.0.user.as_deref()
    }

    /// The consumer as the shared text itself, for keys.
    pub(crate) fn consumer_shared(&self) -> Option<Arc<str>> {
        self.0.consumer.clone()
    }

    /// The user as the shared text itself, for keys.
    pub(crate) fn user_shared(&self) -> Option<Arc<str>> {
        self.0.user.clone()
    }

    /// What the credential allows.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.0.scopes.iter().map(AsRef::as_ref)
    }

    /// The groups the caller belongs to.
    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.roles.iter().map(AsRef::as_ref)
    }
}

macro_rules! shared_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name `name`. Make it once and clone it: a clone does not allocate.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<Arc<str>> for $name {
            fn from(name: Arc<str>) -> Self {
                Self(name)
            }
        }

        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self::new(name)
            }
        }

        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self::new(name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

shared_name! {
    /// The lane the request belongs to. Set by the route stage, read by the bulkhead.
    Lane
}

shared_name! {
    /// The logical name of the upstream that serves the request; never an address. Set by the route stage.
    UpstreamName
}

/// How much it hurts to refuse the request; what is more critical is refused later. Set by the route stage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criticality {
    /// May be refused at the first sign of load.
    Sheddable,
    /// May be refused under load, and partial outages are expected.
    SheddablePlus,
    /// The default: refusing it hurts users.
    #[default]
    Critical,
    /// Refused last of all.
    CriticalPlus,
}

/// When the whole exchange must have ended. Set by the route stage; each later stage may only shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    at: Instant,
    by_client: bool,
}

impl Deadline {
    /// Ends at `at`.
    pub const fn at(at: Instant) -> Self {
        Self {
            at,
            by_client: false,
        }
    }

    /// Ends `limit` after `now`, or never if that instant cannot be represented.
    pub fn after(now: Instant, limit: Duration) -> Option<Self> {
        now.checked_add(limit).map(Self::at)
    }

    /// The same, as the client asks for it. What it does not wait for says nothing about the upstream: whoever can say so in a
    /// field could else make any upstream look broken.
    #[must_use]
    pub const fn by_client(self) -> Self {
        Self {
            by_client: true,
            ..self
        }
    }

    /// Whether it is the client's wish. Of two that end together the gateway's own is the earlier.
    pub const fn is_by_client(self) -> bool {
        self.by_client
    }

    /// The instant of the end.
    pub const fn instant(self) -> Instant {
        self.at
    }

    /// The time left, zero once it has passed.
    pub fn remaining(self, now: Instant) -> Duration {
        self.at.saturating_duration_since(now)
    }
}

/// The ordinal of a try to reach the upstream, from 1. Set by what retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub NonZeroU32);

impl Attempt {
    /// The first try.
    pub const FIRST: Self = Self(NonZeroU32::MIN);
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher as _, RandomState};

    use super::*;

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let mapped = ClientAddr::new("::ffff:192.0.2.7".parse().unwrap());
        assert_eq!(mapped, ClientAddr::new("192.0.2.7".parse().unwrap()));
    }

    /// Story: of two gateways that shared a limit by route, one had a route more in front. They counted all others apart.
    #[test]
    fn a_route_is_hashed_alike_wherever_it_stands() {
        let state = RandomState::new();
        let hash = |route: &RouteMatch| state.hash_one(route);
        let orders = RouteMatch::new(0, "orders", "/orders");
        assert_eq!(
            hash(&orders),
            hash(&RouteMatch::new(1, "orders", "/v2/orders"))
        );
        let unmatched = RouteMatch::unmatched();
        for other in [RouteMatch::new(0, "logins", "/orders"), unmatched.clone()] {
            assert_ne!(hash(&orders), hash(&other));
        }
        let named_so = RouteMatch::new(0, RouteMatch::UNMATCHED, RouteMatch::UNMATCHED);
        assert_ne!(hash(&unmatched), hash(&named_so));
    }

    #[test]
    fn networks_group_v6_only() {
        let network = |text: &str, bits| {
            ClientAddr::new(text.parse().unwrap())
                .network(bits)
                .to_string()
        };
        assert_eq!(network("192.0.2.7", 64), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 64), "2001:db8:1:2::");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 56), "2001:db8:1::");
        assert_eq!(network("2001:db8:1:2:3:4:5:6", 0), "::");
        assert_eq!(network("2001:db8::1", 200), "2001:db8::1");
        // Story: behind a NAT64 gateway all IPv4 clients share 64:ff9b::/96; grouping by /64 would make
        // them one client, and one of them could lock out the rest.
        assert_eq!(network("64:ff9b::c000:207", 64), "64:ff9b::c000:207");
        // The same behind a translator with a prefix of its own.
        let local = "64:ff9b:1:fffe::c000:207";
        assert_eq!(network(local, 64), local);
        // Story: an IPv4 host with 6to4 has 65,536 networks of 64 bits, and took one after the other.
        assert_eq!(network("2002:c000:207:1::1", 64), "2002:c000:207::");
        assert_eq!(network("2002:c000:207:2::1", 128), "2002:c000:207::");
        assert_eq!(network("2002:c000:207:2::1", 32), "2002:c000::");
    }

    #[test]
    fn request_ids_are_bounded_and_plain() {
        let id = |text: &str| RequestId::new(HeaderValue::from_str(text).unwrap());
        assert_eq!(id("a-B_9.~:/+=@").unwrap().as_str(), "a-B_9.~:/+=@");
        for bad in ["", "a b", "a\tb", "a\"b", "a,b", "a;b", "a\\b", "é"] {
            assert_eq!(id(bad), None, "{bad:?}");
        }
        assert!(id(&"x".repeat(128)).is_some());
        assert!(id(&"x".repeat(129)).is_none());
    }

    #[test]
    fn trace_identifiers_print_as_hex() {
        assert_eq!(TraceId::new([0; 16]), None);
        assert_eq!(
            SpanId::new([0, 0, 0, 0, 0, 0, 1, 0xab])
                .unwrap()
                .to_string(),
            "00000000000001ab"
        );
    }

    #[test]
    fn a_name_is_made_of_any_text() {
        let shared: Arc<str> = Arc::from("orders");
        for name in [
            UpstreamName::from("orders"),
            String::from("orders").into(),
            Arc::clone(&shared).into(),
        ] {
            assert_eq!(name, UpstreamName::new(Arc::clone(&shared)));
        }
        // Nothing is copied of what is shared already.
        assert_eq!(
            Lane::from(Arc::clone(&shared)).as_str().as_ptr(),
            shared.as_ptr()
        );
    }

    #[test]
    fn criticality_orders_what_is_refused_first() {
        assert!(Criticality::Sheddable < Criticality::default());
        assert!(Criticality::default() < Criticality::CriticalPlus);
    }
}
