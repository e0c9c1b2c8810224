//! `[limits.*]`, and the routes that name them, as policies of one layer.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use gw_core::context::RouteMatch;
use gw_core::key::{AvailableIn, ClientIp, Header, KeyExtractor, MissingKey, Route};
use gw_core::stage::{HasClientAddr, HasRoute};
use gw_ratelimit::{ConfigError, Mode, Policy, Quota, RateLimitLayer};
use http::HeaderValue;
use http::request::Parts;

use crate::config::Config;
use crate::config::table;
use crate::config::value::Key;

/// The layer that asks every limit which stands before authentication.
pub(super) fn before_authentication(
    config: &Config,
) -> Result<RateLimitLayer<(PreAuthKey, ())>, ConfigError> {
    let limits = config
        .limits
        .iter()
        .filter(|(_, limit)| !limit.key.needs_identity());
    let policies = limits.filter_map(|(name, limit)| {
        let key = PreAuthKey::new(limit)?;
        let asked = Asked::by(config, name)?;
        let quota = Quota::per(limit.rate.per, limit.rate.count.get()).burst(limit.burst.get());
        let policy = Policy::new(name.as_str(), quota)
            .key(key)
            .mode(mode(limit.mode));
        Some(policy.when(move |parts| asked.covers(parts)))
    });
    RateLimitLayer::builder().policies(policies).build()
}

/// Which routes ask a limit, by their place in the table.
struct Asked {
    routes: Vec<bool>,
    unmatched: bool,
}

impl Asked {
    /// `None` if nobody does.
    fn by(config: &Config, limit: &str) -> Option<Self> {
        let names = |list: &[String]| list.iter().any(|name| name == limit);
        let routes: Vec<bool> = config
            .routes
            .iter()
            .map(|route| names(&route.limits))
            .collect();
        let unmatched = names(&config.server.default_limits);
        (unmatched || routes.contains(&true)).then_some(Self { routes, unmatched })
    }

    fn covers(&self, parts: &Parts) -> bool {
        match parts
            .extensions
            .get::<RouteMatch>()
            .and_then(RouteMatch::ordinal)
        {
            Some(ordinal) => self.routes.get(ordinal).copied().unwrap_or(false),
            None => self.unmatched,
        }
    }
}

/// A key that is known before authentication, chosen by the configuration.
#[derive(Debug, Clone)]
pub(crate) enum PreAuthKey {
    Client(ClientIp),
    Header(Header),
    Route,
    Global,
}

/// The value of a [`PreAuthKey`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PreAuthValue {
    Client(IpAddr),
    Header(HeaderValue),
    Route(RouteMatch),
    Global,
}

impl PreAuthKey {
    /// `None` for keys that are made of an identity.
    fn new(limit: &table::Limit) -> Option<Self> {
        match &limit.key {
            Key::Ip => Some(Self::Client(ClientIp::new().v6_prefix(limit.prefix6))),
            Key::Header(name) => Some(Self::Header(Header::new(name.clone()))),
            Key::Route => Some(Self::Route),
            Key::Global => Some(Self::Global),
            Key::Consumer | Key::User => None,
        }
    }
}

impl KeyExtractor for PreAuthKey {
    type Key = PreAuthValue;

    fn extract(&self, parts: &Parts) -> Result<PreAuthValue, MissingKey> {
        Ok(match self {
            Self::Client(key) => PreAuthValue::Client(key.extract(parts)?),
            Self::Header(key) => PreAuthValue::Header(key.extract(parts)?),
            Self::Route => PreAuthValue::Route(Route.extract(parts)?),
            Self::Global => PreAuthValue::Global,
        })
    }
}

impl<F: HasClientAddr + HasRoute> AvailableIn<F> for PreAuthKey {}

// The kind of key need not be hashed: each policy has one kind, and policies do not share keys.
impl Hash for PreAuthValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Client(address) => address.hash(state),
            Self::Header(value) => value.hash(state),
            Self::Route(route) => route.hash(state),
            Self::Global => {}
        }
    }
}

pub(super) const fn mode(written: table::Mode) -> Mode {
    match written {
        table::Mode::Enforce => Mode::Enforce,
        table::Mode::Shadow => Mode::Shadow,
        table::Mode::Off => Mode::Off,
    }
}
