use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use gw_core::ConfigError;
use gw_core::context::{Identity, IdentityParts};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Predicate;
use super::digest::KeyDigest;
use crate::fields::{NO_UNDERSCORE, has_underscore};

/// A key, by its digest, and whom it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    consumer: Arc<str>,
    digest: KeyDigest,
    scopes: Vec<Box<str>>,
}

impl ApiKey {
    /// The key of `consumer` whose SHA-256 is `digest`. A consumer may have several keys: that is how one is replaced
    /// while the old one is still in use. Its name stands in logs and header fields: 1 to 128 visible characters of ASCII.
    ///
    /// SHA-256 is made to be fast. It hides keys that are random, of 128 bits or more, and no passwords.
    pub fn new(consumer: impl Into<Arc<str>>, digest: KeyDigest) -> Self {
        Self {
            consumer: consumer.into(),
            digest,
            scopes: Vec::new(),
        }
    }

    /// What this key allows: each is one word of visible characters of ASCII.
    #[must_use]
    pub fn scopes<T: Into<Box<str>>>(mut self, scopes: impl IntoIterator<Item = T>) -> Self {
        self.scopes.extend(scopes.into_iter().map(Into::into));
        self
    }
}

/// A set of keys, and the field that carries them. Clones share it.
///
/// The keys are looked up by the first 8 bytes of their digests, and the whole digests are compared in constant time: how
/// long an answer takes tells nothing of a key, and does not grow with their number.
#[derive(Clone)]
pub struct ApiKeys {
    header: HeaderName,
    challenge: HeaderValue,
    by_start: Arc<HashMap<u64, Vec<(KeyDigest, Identity)>>>,
    when: Option<Predicate>,
}

/// What a request carries for a set of keys.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credential<'k> {
    Missing,
    Nobodys,
    Of(&'k Identity),
}

impl ApiKeys {
    /// The longest key that is looked at, in bytes. A longer one is nobody's.
    pub const MAX_LEN: usize = 1024;

    /// A set without keys, in the field `x-api-key`.
    pub fn builder() -> ApiKeysBuilder {
        ApiKeysBuilder {
            header: HeaderName::from_static("x-api-key"),
            keys: Vec::new(),
            when: None,
        }
    }

    /// Whom `key` stands for.
    pub fn identify(&self, key: &[u8]) -> Option<&Identity> {
        if key.len() > Self::MAX_LEN {
            return None;
        }
        let digest = KeyDigest::of(key);
        let mut candidates = self.by_start.get(&digest.start())?.iter();
        candidates
            .find(|(known, _)| *known == digest)
            .map(|(_, identity)| identity)
    }

    /// The field that carries the keys.
    pub const fn header(&self) -> &HeaderName {
        &self.header
    }

    pub(super) const fn challenge(&self) -> &HeaderValue {
        &self.challenge
    }

    pub(super) fn is_asked(&self, parts: &Parts) -> bool {
        self.when.as_ref().is_none_or(|predicate| predicate(parts))
    }

    pub(super) fn credential(&self, headers: &HeaderMap) -> Credential<'_> {
        let mut lines = headers.get_all(&self.header).iter();
        let key = match (lines.next(), lines.next()) {
            (None, _) => return Credential::Missing,
            (Some(line), None) if self.header != AUTHORIZATION => line.as_bytes(),
            (Some(line), None) => match bearer(line.as_bytes()) {
                Some(key) => key,
                // For another authenticator.
                None => return Credential::Missing,
            },
            // Which of them would an upstream believe?
            (Some(_), Some(_)) => return Credential::Nobodys,
        };
        self.identify(key)
            .map_or(Credential::Nobodys, Credential::Of)
    }
}

const BEARER: &str = "Bearer";

/// The key in `Bearer KEY`. Schemes are compared without case (RFC 9110 section 11.1).
fn bearer(line: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = line.split_at_checked(BEARER.len())?;
    let separated = matches!(key.first(), None | Some(b' '));
    (separated && scheme.eq_ignore_ascii_case(BEARER.as_bytes())).then_some(key.trim_ascii())
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// Builds [`ApiKeys`].
#[derive(Clone)]
pub struct ApiKeysBuilder {
    header: HeaderName,
    keys: Vec<ApiKey>,
    when: Option<Predicate>,
}

impl ApiKeysBuilder {
    /// The field that carries the keys. In `authorization` a key follows the scheme `Bearer`, and what has another scheme
    /// is no key; any other field holds the key alone.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, key: ApiKey) -> Self {
        self.keys.push(key);
        self
    }

    /// Adds keys.
    #[must_use]
    pub fn keys(mut self, keys: impl IntoIterator<Item = ApiKey>) -> Self {
        self.keys.extend(keys);
        self
    }

    /// Asks this set only about requests for which `predicate` holds. It runs for each request that is not public, and
    /// must not allocate or block.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// The set. Without keys it knows nobody.
    ///
    /// # Errors
    ///
    /// If the field has an underscore in its name, since such fields are dropped before a key is looked for.
    ///
    /// If a consumer's name is not as [`ApiKey::new`] says, if a scope is not one word of visible characters of ASCII, if two
    /// entries have one digest, or if a digest is that of an empty text. The field is named as `keys[3].digest`, counted from 0.
    pub fn build(self) -> Result<ApiKeys, ConfigError> {
        if has_underscore(&self.header) {
            return Err(ConfigError::new("header", NO_UNDERSCORE));
        }
        let nothing = KeyDigest::of(b"");
        let mut by_start: HashMap<u64, Vec<(KeyDigest, Identity)>> = HashMap::new();
        for (index, key) in self.keys.into_iter().enumerate() {
            let wrong =
                |field: &str, rule| ConfigError::new(format!("keys[{index}].{field}"), rule);
            if !is_word(&key.consumer) || key.consumer.len() > MAX_NAME {
                return Err(wrong("consumer", NAME_RULE));
            }
            if let Some(at) = key.scopes.iter().position(|scope| !is_word(scope)) {
                return Err(wrong(&format!("scopes[{at}]"), SCOPE_RULE));
            }
            if key.digest == nothing {
                return Err(wrong(
                    "digest",
                    "is that of an empty text: hash the key itself",
                ));
            }
            let twins = by_start.entry(key.digest.start()).or_default();
            if twins.iter().any(|(known, _)| *known == key.digest) {
                return Err(wrong(
                    "digest",
                    "is there already: each key stands for one consumer",
                ));
            }
            let identity = Identity::new(IdentityParts {
                consumer: Some(key.consumer),
                scopes: key.scopes,
                ..IdentityParts::default()
            });
            twins.push((key.digest, identity));
        }
        Ok(ApiKeys {
            challenge: challenge(&self.header),
            header: self.header,
            by_start: Arc::new(by_start),
            when: self.when,
        })
    }
}

impl fmt::Debug for ApiKeysBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeysBuilder")
            .field("header", &self.header)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// The longest name of a consumer, in bytes: it stands in logs.
const MAX_NAME: usize = 128;
const NAME_RULE: &str = "must be 1 to 128 visible characters of ASCII";
const SCOPE_RULE: &str = "must be one word of visible characters: scopes are separated by spaces";

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// No scheme is registered for keys in fields of their own, so ours names the field.
fn challenge(header: &HeaderName) -> HeaderValue {
    if *header == AUTHORIZATION {
        return HeaderValue::from_static(BEARER);
    }
    // A field's name is made of characters that a quoted string may hold.
    let value = HeaderValue::try_from(format!("ApiKey header=\"{header}\""));
    value.unwrap_or(HeaderValue::from_static("ApiKey"))
}

#[cfg(test)]
mod tests;
