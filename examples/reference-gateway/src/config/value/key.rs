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
}

impl FromText for Key {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match text {
            "ip" => Ok(Self::Ip),
            "consumer" => Ok(Self::Consumer),
            "user" => Ok(Self::User),
            "route" => Ok(Self::Route),
            "global" => Ok(Self::Global),
            _ => text
                .strip_prefix("header:")
                .and_then(|name| name.parse().ok())
                .map(Self::Header)
                .ok_or(KEYS),
        }
    }
}

/// A key that is known before authentication.
struct Early(Key);

impl FromText for Early {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let early = Key::from_text(text)
            .ok()
            .filter(|key| !key.needs_identity());
        early.map(Self).ok_or(EARLY)
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
        let known = Key::from_text(text)
            .ok()
            .filter(|key| matches!(key, Key::Ip | Key::Header(_)));
        known.map(Self).ok_or(OF_CLIENTS)
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    #[default]
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
            _ => text
                .strip_prefix("hash:header:")
                .and_then(|name| name.parse().ok())
                .map(Self::HashHeader)
                .ok_or(BALANCES),
        }
    }
}

deserialize_from_text!(Key, Balance);
