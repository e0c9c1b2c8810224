//! `[auth]`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gw_pipeline::inbound::{self, IdentityHeadersLayer};
use http::HeaderName;
use http::header::AUTHORIZATION;
use serde::Deserialize;

use crate::config::read::Broken;
use crate::config::value::{HttpUrl, duration_or_zero, optional, text};

/// How callers prove who they are. Names are shared: a route's `auth` may name either kind.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// Whether the `Authorization` header, and the headers with API keys, go on to the upstream.
    pub forward_credentials: bool,
    pub identity_headers: IdentityHeaders,
    pub jwt: BTreeMap<String, Jwt>,
    pub api_keys: BTreeMap<String, ApiKeys>,
}

impl Auth {
    /// The names that `auth` lists may use.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.jwt
            .keys()
            .chain(self.api_keys.keys())
            .map(String::as_str)
    }

    /// Whether a field with credentials is gone behind authentication.
    pub fn drops(&self, name: &HeaderName) -> bool {
        let is_of_keys = self.api_keys.values().any(|keys| keys.header == *name);
        let is_of_tokens = !self.jwt.is_empty() && *name == AUTHORIZATION;
        !self.forward_credentials && (is_of_keys || is_of_tokens)
    }

    /// Whether a field of clients is gone, and none set in its place, where a service inside the gateway is asked: after
    /// authentication, or for anybody.
    pub fn withholds(&self, name: &HeaderName, authenticated: bool) -> bool {
        let identity = &self.identity_headers;
        // Keys name no user.
        let is_set = authenticated && [&identity.consumer, &identity.scopes].contains(&name);
        let is_made_up = identity.layer().removes(name) && !is_set;
        // No service has it, whoever else reads it.
        let is_authorization = !self.forward_credentials && *name == AUTHORIZATION;
        self.drops(name) || is_authorization || is_made_up
    }
}

/// What tells an upstream who called.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityHeaders {
    #[serde(deserialize_with = "text")]
    pub consumer: HeaderName,
    #[serde(deserialize_with = "text")]
    pub user: HeaderName,
    #[serde(deserialize_with = "text")]
    pub scopes: HeaderName,
}

impl IdentityHeaders {
    /// What sets them, and drops the client's own.
    pub fn layer(&self) -> IdentityHeadersLayer {
        let Self {
            consumer,
            user,
            scopes,
        } = self.clone();
        IdentityHeadersLayer::new(inbound::IdentityHeaders::new(consumer, user, scopes))
    }
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            consumer: HeaderName::from_static("x-consumer-id"),
            user: HeaderName::from_static("x-user-id"),
            scopes: HeaderName::from_static("x-scopes"),
        }
    }
}

/// `[auth.jwt.NAME]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "JwtTable")]
pub struct Jwt {
    pub issuer: String,
    /// At least one.
    pub audience: Vec<String>,
    /// At least one.
    pub algorithms: Vec<Algorithm>,
    pub keys: KeySource,
    /// Clock difference that is forgiven.
    pub leeway: Duration,
    pub claims: Claims,
}

/// Where the verification keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// PEM of a public key.
    PublicKey(PathBuf),
    Jwks(HttpUrl),
    /// A shared secret, for the HS algorithms.
    Secret(PathBuf),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JwtTable {
    issuer: String,
    audience: Vec<String>,
    algorithms: Vec<Algorithm>,
    #[serde(default, deserialize_with = "optional")]
    key_file: Option<PathBuf>,
    #[serde(default)]
    jwks_url: Option<HttpUrl>,
    #[serde(default, deserialize_with = "optional")]
    secret_file: Option<PathBuf>,
    #[serde(default = "default_leeway", deserialize_with = "duration_or_zero")]
    leeway: Duration,
    #[serde(default)]
    claims: Claims,
}

fn default_leeway() -> Duration {
    Duration::from_secs(30)
}

impl TryFrom<JwtTable> for Jwt {
    type Error = Broken;

    fn try_from(table: JwtTable) -> Result<Self, Broken> {
        let keys = match (table.key_file, table.jwks_url, table.secret_file) {
            (Some(file), None, None) => KeySource::PublicKey(file),
            (None, Some(url), None) => KeySource::Jwks(url),
            (None, None, Some(file)) => KeySource::Secret(file),
            (_, url, secret) => {
                let url = url.map(|_| "jwks_url");
                return Err(Broken {
                    key: secret.map(|_| "secret_file").or(url),
                    rule: "must have exactly one of `key_file`, `jwks_url` and `secret_file`",
                });
            }
        };
        let JwtTable {
            issuer,
            audience,
            algorithms,
            leeway,
            claims,
            ..
        } = table;
        Ok(Self {
            issuer,
            audience,
            algorithms,
            keys,
            leeway,
            claims,
        })
    }
}

/// Signature algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    /// Whether signing and verifying use one shared secret.
    pub fn is_symmetric(self) -> bool {
        matches!(self, Self::HS256 | Self::HS384 | Self::HS512)
    }
}

/// Which claim says what.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Claims {
    pub consumer: String,
    pub user: String,
    pub scopes: String,
    pub roles: String,
}

impl Default for Claims {
    fn default() -> Self {
        Self {
            consumer: "azp".to_owned(),
            user: "sub".to_owned(),
            scopes: "scope".to_owned(),
            roles: "roles".to_owned(),
        }
    }
}

/// `[auth.api_keys.NAME]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKeys {
    /// Keys with their hashes.
    #[serde(deserialize_with = "text")]
    pub file: PathBuf,
    #[serde(default = "default_key_header", deserialize_with = "text")]
    pub header: HeaderName,
}

impl ApiKeys {
    /// Whether there is no such file. Then nobody has a key.
    pub fn is_missing(&self) -> bool {
        matches!(self.file.try_exists(), Ok(false))
    }
}

fn default_key_header() -> HeaderName {
    HeaderName::from_static("x-api-key")
}
