//! What a request must be to be sent again: its method, and its key.

use gw_core::classify::is_grpc_call;
use http::{HeaderMap, Method};

use crate::decide::Eligibility;

/// A set of standard methods, one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Methods(pub(super) u16);

impl Methods {
    /// GET, HEAD, OPTIONS and QUERY: they change nothing.
    pub(crate) const SAFE: Self = Self(0b1111);
    /// Those, and PUT, DELETE and TRACE.
    pub(super) const IDEMPOTENT: Self = Self(0b111_1111);

    #[inline]
    pub(crate) fn bit(method: &Method) -> u16 {
        match *method {
            Method::GET => 1,
            Method::HEAD => 1 << 1,
            Method::OPTIONS => 1 << 2,
            Method::QUERY => 1 << 3,
            Method::PUT => 1 << 4,
            Method::DELETE => 1 << 5,
            Method::TRACE => 1 << 6,
            Method::POST => 1 << 7,
            Method::PATCH => 1 << 8,
            _ => 0,
        }
    }

    /// And whether there were others.
    pub(super) fn of(methods: impl IntoIterator<Item = Method>) -> (Self, bool) {
        let bits = methods.into_iter().map(|method| Self::bit(&method));
        bits.fold((Self(0), false), |(Self(set), rest), bit| {
            (Self(set | bit), rest || bit == 0)
        })
    }

    #[inline]
    pub(crate) const fn has(self, bit: u16) -> bool {
        self.0 & bit != 0
    }
}

/// What each request asks of a policy, and no more: after which failures it may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permits {
    pub(super) methods: Methods,
    pub(super) keyed: Methods,
    pub(super) again: bool,
    pub(super) unsent: bool,
    pub(super) idempotent_grpc: bool,
}

impl Permits {
    /// For a request with this head.
    #[inline]
    pub(crate) fn eligibility(self, method: &Method, headers: &HeaderMap) -> Eligibility {
        if !self.again {
            return Eligibility::Never;
        }
        let bit = Methods::bit(method);
        let whatever_happened = self.methods.has(bit)
            || self.keyed.has(bit) && has_key(headers)
            || self.idempotent_grpc && is_grpc_call(method, headers);
        if whatever_happened {
            Eligibility::Always
        } else if self.unsent {
            Eligibility::Untouched
        } else {
            Eligibility::Never
        }
    }
}

/// One key that is not empty (draft-ietf-httpapi-idempotency-key-header). With two of them nobody knows which one counts.
fn has_key(headers: &HeaderMap) -> bool {
    let mut keys = headers.get_all("idempotency-key").iter();
    keys.next().is_some_and(|key| is_one_key(key.as_bytes())) && keys.next().is_none()
}

/// A string in quotes, as the draft has it, or anything else that is one thing: many clients send a bare UUID. A comma outside of
/// quotes is as good as a second line (RFC 9110 section 5.3).
fn is_one_key(value: &[u8]) -> bool {
    let value = value.trim_ascii();
    if value.is_empty() || value.starts_with(b"\"\"") {
        return false;
    }
    let (mut quoted, mut bytes) = (false, value.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => quoted = !quoted,
            // What follows is meant as it is.
            b'\\' if quoted => drop(bytes.next()),
            b',' if !quoted => return false,
            _ => {}
        }
    }
    // Quotes that do not end are half a key.
    !quoted
}
