//! What requests are counted or spread by.

use http::HeaderName;

use serde::de::Deserializer;

use super::text::{FromText, deserialize_from_text, list, text};

const KEYS: &str = "must be \"ip\", \"header:NAME\", \"consumer\", \"user\", \"route\" or \
                    \"global\"";
const EARLY: &str = "must be \"ip\", \"header:NAME\", \"route\" or \"global\": consumer and user are not known \
                     before authentication";
const OF_CLIENTS: &str = "must be \"ip\" or \"header:NAME\"";
const BALANCES: &str = "must be \"least-request\", \"p2c-ewma\", \"round-robin\", \
                        \"hash:header:NAME\" or \"hash:ip\"";

/// What a limit counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The client's address.
    Ip,
    Header(HeaderName),
    Consumer,
    User,
    Route,
    /// All requests together.
    Global,
}

impl Key {
    /// Whether the key exists only after authentication.
    pub fn needs_identity(&self) -> bool {
        matches!(self, Self::Consumer | Self::User)
    }

    /// A key, or else `rule`.
    fn read(text: &str, rule: &'static str) -> Result<Self, &'static str> {
        match text {
            "ip" => Ok(Self::Ip),
            "consumer" => Ok(Self::Consumer),
            "user" => Ok(Self::User),
            "route" => Ok(Self::Route),
            "global" => Ok(Self::Global),
            _ => named(text, "header:", rule).map(Self::Header),
        }
    }
}

/// The header's name behind `prefix`.
fn named(text: &str, prefix: &str, rule: &'static str) -> Result<HeaderName, &'static str> {
    let name = text.strip_prefix(prefix).ok_or(rule)?;
    HeaderName::from_text(name)
}

impl FromText for Key {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        Self::read(text, KEYS)
    }
}

/// A key that is known before authentication.
struct Early(Key);

impl FromText for Early {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let key = Key::read(text, EARLY)?;
        let early = !key.needs_identity();
        early.then_some(Self(key)).ok_or(EARLY)
    }
}

/// For `#[serde(deserialize_with)]` where nobody is authenticated yet.
pub(in crate::config) fn early_key<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Key, D::Error> {
    text(deserializer).map(|Early(key)| key)
}

/// A key that tells one client from another.
struct OfClient(Key);

impl FromText for OfClient {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let key = Key::read(text, OF_CLIENTS)?;
        let of_client = matches!(key, Key::Ip | Key::Header(_));
        of_client.then_some(Self(key)).ok_or(OF_CLIENTS)
    }
}

/// For `#[serde(deserialize_with)]` on keys of which each tells one client from another.
pub(in crate::config) fn client_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Key>, D::Error> {
    let keys = list(deserializer)?;
    Ok(keys.into_iter().map(|OfClient(key)| key).collect())
}

/// How an upstream's endpoint is picked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    LeastRequest,
    /// The better of two at random, by a moving average of latency.
    P2cEwma,
    RoundRobin,
    /// The same header value meets the same endpoint.
    HashHeader(HeaderName),
    /// The same client address meets the same endpoint.
    HashIp,
}

impl FromText for Balance {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match text {
            "least-request" => Ok(Self::LeastRequest),
            "p2c-ewma" => Ok(Self::P2cEwma),
            "round-robin" => Ok(Self::RoundRobin),
            "hash:ip" => Ok(Self::HashIp),
            _ => named(text, "hash:header:", BALANCES).map(Self::HashHeader),
        }
    }
}

deserialize_from_text!(Key, Balance);
