//! Keys: what a request is counted under.
//!
//! A [`KeyExtractor`] reads a key from a request's head. The ones here cover the usual cases; tuples of extractors
//! are extractors, and so is [`key_fn`] around a closure. In a typed pipeline an extractor also says which facts
//! it needs, by the trait [`AvailableIn`]: a key made from an identity does not fit before authentication.

mod forwarded;
mod networks;
mod peer;
mod proxies;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, request::Parts};

pub use ipnet::IpNet;

pub use self::networks::Networks;
pub use self::peer::peer_addr;
pub use self::proxies::TrustedProxies;
use crate::context::{ClientAddr, Identity, RouteMatch};
use crate::stage::{HasClientAddr, HasIdentity, HasRoute};

/// Reads the key that a request is counted under.
///
/// An extractor must not allocate and must read nothing but the head: it runs for every request, the hostile ones
/// too.
pub trait KeyExtractor {
    /// The key. Its hash is kept, not the key itself, so it may borrow the connection's buffers by reference count.
    type Key: Hash + Eq;

    /// The key of this request, or why there is none.
    ///
    /// # Errors
    ///
    /// [`MissingKey`] if the request has nothing to make the key from. What happens then is the layer's rule.
    fn extract(&self, parts: &Parts) -> Result<Self::Key, MissingKey>;

    /// Feeds the key of this request to `state`, for layers that keep its hash only.
    ///
    /// Does what hashing the key that [`KeyExtractor::extract`] gives would do, and must go on doing so where it is
    /// overridden. That is worth it where the key is counted by reference: hashing it in place saves the counting.
    ///
    /// # Errors
    ///
    /// As [`KeyExtractor::extract`]. What `state` was fed until then means nothing.
    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey>
    where
        Self: Sized,
    {
        self.extract(parts)?.hash(state);
        Ok(())
    }
}

/// The request has nothing to make a key from. What it says is for the operator, and not for clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingKey {
    what: &'static str,
    field: Option<HeaderName>,
    remedy: &'static str,
}

impl MissingKey {
    /// Says `what` is missing and, for the operator, what would provide it.
    pub const fn new(what: &'static str, remedy: &'static str) -> Self {
        Self {
            what,
            field: None,
            remedy,
        }
    }

    /// The header field `name` is missing, which only the client can provide.
    pub const fn header(name: HeaderName) -> Self {
        Self {
            what: "header field",
            field: Some(name),
            remedy: "the client must send it",
        }
    }
}

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request has no {}", self.what)?;
        if let Some(field) = &self.field {
            write!(f, " `{field}`")?;
        }
        write!(f, ": {}", self.remedy)
    }
}

impl std::error::Error for MissingKey {}

/// States that a key can be read in a pipeline where the facts `F` hold.
pub trait AvailableIn<F> {}

/// No key at all needs nothing: the end of a list of keys made of pairs.
impl<F> AvailableIn<F> for () {}

/// The client's address, IPv6 grouped by prefix. Needs the [`ClientAddr`] that the address stage sets.
///
/// Outside a typed pipeline, where no such stage may exist, the peer's socket address stands in: no forwarded
/// field is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp {
    v6_prefix: u8,
}

impl ClientIp {
    /// Groups IPv6 by /64, which is what one subscriber has.
    pub const fn new() -> Self {
        Self { v6_prefix: 64 }
    }

    /// Groups IPv6 by the first `bits` bits; above 128 is the same as 128.
    #[must_use]
    pub const fn v6_prefix(mut self, bits: u8) -> Self {
        self.v6_prefix = bits;
        self
    }

    /// The key of a client at `address`: what an operator gives a handle to find the state of this client. By another address of the
    /// same network, or an IPv4 one that is mapped into IPv6, nothing is found.
    ///
    /// ```
    /// use std::net::IpAddr;
    ///
    /// use gw_core::key::ClientIp;
    ///
    /// let client: IpAddr = "2001:db8:1:2:3::7".parse()?;
    /// assert_eq!(ClientIp::new().of(client).to_string(), "2001:db8:1:2::");
    /// # Ok::<(), std::net::AddrParseError>(())
    /// ```
    pub fn of(&self, address: IpAddr) -> IpAddr {
        ClientAddr::new(address).network(self.v6_prefix)
    }
}

impl Default for ClientIp {
    fn default() -> Self {
        Self::new()
    }
}

impl KeyExtractor for ClientIp {
    type Key = IpAddr;

    fn extract(&self, parts: &Parts) -> Result<IpAddr, MissingKey> {
        let client = match parts.extensions.get::<ClientAddr>() {
            Some(client) => client.ip(),
            None => peer_addr(&parts.extensions)?.ip(),
        };
        Ok(self.of(client))
    }
}

impl<F: HasClientAddr> AvailableIn<F> for ClientIp {}

/// The value of a header field; the first one where there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header(HeaderName);

impl Header {
    /// Reads the field `name`.
    pub const fn new(name: HeaderName) -> Self {
        Self(name)
    }
}

impl Header {
    fn value<'a>(&self, parts: &'a Parts) -> Result<&'a HeaderValue, MissingKey> {
        let missing = || MissingKey::header(self.0.clone());
        parts.headers.get(&self.0).ok_or_else(missing)
    }
}

impl KeyExtractor for Header {
    type Key = HeaderValue;

    fn extract(&self, parts: &Parts) -> Result<HeaderValue, MissingKey> {
        self.value(parts).cloned()
    }

    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
        self.value(parts)?.hash(state);
        Ok(())
    }
}

impl<F> AvailableIn<F> for Header {}

/// The application that calls, from the [`Identity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Consumer;

/// The person on whose behalf the call is made, from the [`Identity`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct User;

impl KeyExtractor for Consumer {
    type Key = Arc<str>;

    fn extract(&self, parts: &Parts) -> Result<Arc<str>, MissingKey> {
        let identity = parts.extensions.get::<Identity>();
        identity
            .and_then(Identity::consumer_shared)
            .ok_or_else(no_consumer)
    }

    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
        let identity = parts.extensions.get::<Identity>();
        let consumer = identity
            .and_then(Identity::consumer)
            .ok_or_else(no_consumer)?;
        consumer.hash(state);
        Ok(())
    }
}

impl KeyExtractor for User {
    type Key = Arc<str>;

    fn extract(&self, parts: &Parts) -> Result<Arc<str>, MissingKey> {
        let identity = parts.extensions.get::<Identity>();
        identity.and_then(Identity::user_shared).ok_or_else(no_user)
    }

    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
        let identity = parts.extensions.get::<Identity>();
        let user = identity.and_then(Identity::user).ok_or_else(no_user)?;
        user.hash(state);
        Ok(())
    }
}

const fn no_consumer() -> MissingKey {
    MissingKey::new("consumer", AUTHENTICATE)
}

const fn no_user() -> MissingKey {
    MissingKey::new("user", AUTHENTICATE)
}

const AUTHENTICATE: &str = "an authenticator must stand before this layer and establish it";

impl<F: HasIdentity> AvailableIn<F> for Consumer {}
impl<F: HasIdentity> AvailableIn<F> for User {}

/// The matched route; all requests that match none share one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Route;

impl Route {
    fn of(parts: &Parts) -> Result<&RouteMatch, MissingKey> {
        let missing = || MissingKey::new("route", "the route stage must stand before this layer");
        parts.extensions.get().ok_or_else(missing)
    }
}

impl KeyExtractor for Route {
    type Key = RouteMatch;

    fn extract(&self, parts: &Parts) -> Result<RouteMatch, MissingKey> {
        Self::of(parts).cloned()
    }

    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
        Self::of(parts)?.hash(state);
        Ok(())
    }
}

impl<F: HasRoute> AvailableIn<F> for Route {}

/// One key for all requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Global;

impl KeyExtractor for Global {
    type Key = ();

    fn extract(&self, _: &Parts) -> Result<(), MissingKey> {
        Ok(())
    }
}

impl<F> AvailableIn<F> for Global {}

/// A key read by a closure; see [`key_fn`].
#[derive(Clone, Copy)]
pub struct KeyFn<C>(C);

/// Reads the key with `closure`. It must not allocate, and must not use what later stages establish.
pub const fn key_fn<K, C>(closure: C) -> KeyFn<C>
where
    C: Fn(&Parts) -> Result<K, MissingKey>,
{
    KeyFn(closure)
}

impl<C> fmt::Debug for KeyFn<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFn")
    }
}

impl<K: Hash + Eq, C: Fn(&Parts) -> Result<K, MissingKey>> KeyExtractor for KeyFn<C> {
    type Key = K;

    fn extract(&self, parts: &Parts) -> Result<K, MissingKey> {
        (self.0)(parts)
    }
}

impl<C, F> AvailableIn<F> for KeyFn<C> {}

macro_rules! tuple_key {
    ($($part:ident $index:tt),+) => {
        impl<$($part: KeyExtractor),+> KeyExtractor for ($($part,)+) {
            type Key = ($($part::Key,)+);

            fn extract(&self, parts: &Parts) -> Result<Self::Key, MissingKey> {
                Ok(($(self.$index.extract(parts)?,)+))
            }

            fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
                // A tuple is hashed as its parts are, one after the other.
                $(self.$index.hash_into(parts, state)?;)+
                Ok(())
            }
        }

        impl<Facts, $($part: AvailableIn<Facts>),+> AvailableIn<Facts> for ($($part,)+) {}
    };
}

tuple_key!(A 0, B 1);
tuple_key!(A 0, B 1, C 2);
tuple_key!(A 0, B 1, C 2, D 3);

#[cfg(test)]
mod tests;
