//! What a limit counts by, chosen by the configuration.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use gw_core::context::RouteMatch;
use gw_core::key::{
    AvailableIn, ClientIp, Consumer, Header, KeyExtractor, MissingKey, Route, User,
};
use gw_core::stage::{HasClientAddr, HasIdentity, HasRoute};
use http::HeaderValue;
use http::request::Parts;

use crate::config::table::Limit;
use crate::config::value::Key;

/// A key that is known before authentication.
#[derive(Debug, Clone)]
pub(crate) enum EarlyKey {
    Client(ClientIp),
    Header(Header),
    Route,
    Global,
}

/// The value of an [`EarlyKey`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EarlyValue {
    Client(IpAddr),
    Header(HeaderValue),
    Route(RouteMatch),
    Global,
}

/// A key that is known behind authentication.
#[derive(Debug, Clone)]
pub(crate) enum CallerKey {
    Early(EarlyKey),
    Consumer,
    User,
}

/// The value of a [`CallerKey`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CallerValue {
    Early(EarlyValue),
    Named(Arc<str>),
}

impl EarlyKey {
    /// `None` for keys that are made of an identity.
    pub(super) fn of(limit: &Limit) -> Option<Self> {
        match &limit.key {
            Key::Ip => Some(Self::Client(ClientIp::new().v6_prefix(limit.prefix6))),
            Key::Header(name) => Some(Self::Header(Header::new(name.clone()))),
            Key::Route => Some(Self::Route),
            Key::Global => Some(Self::Global),
            Key::Consumer | Key::User => None,
        }
    }
}

impl CallerKey {
    pub(super) fn of(limit: &Limit) -> Self {
        match (EarlyKey::of(limit), &limit.key) {
            (Some(early), _) => Self::Early(early),
            (None, Key::User) => Self::User,
            (None, _) => Self::Consumer,
        }
    }
}

impl KeyExtractor for EarlyKey {
    type Key = EarlyValue;

    fn extract(&self, parts: &Parts) -> Result<EarlyValue, MissingKey> {
        Ok(match self {
            Self::Client(key) => EarlyValue::Client(key.extract(parts)?),
            Self::Header(key) => EarlyValue::Header(key.extract(parts)?),
            Self::Route => EarlyValue::Route(Route.extract(parts)?),
            Self::Global => EarlyValue::Global,
        })
    }
}

impl KeyExtractor for CallerKey {
    type Key = CallerValue;

    fn extract(&self, parts: &Parts) -> Result<CallerValue, MissingKey> {
        Ok(match self {
            Self::Early(key) => CallerValue::Early(key.extract(parts)?),
            Self::Consumer => CallerValue::Named(Consumer.extract(parts)?),
            Self::User => CallerValue::Named(User.extract(parts)?),
        })
    }
}

impl<F: HasClientAddr + HasRoute> AvailableIn<F> for EarlyKey {}
impl<F: HasClientAddr + HasRoute + HasIdentity> AvailableIn<F> for CallerKey {}

// The kind of key need not be hashed: each policy has one kind, and policies do not share keys.
impl Hash for EarlyValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Client(address) => address.hash(state),
            Self::Header(value) => value.hash(state),
            Self::Route(route) => route.hash(state),
            Self::Global => {}
        }
    }
}

impl Hash for CallerValue {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Self::Early(value) => value.hash(state),
            Self::Named(name) => name.hash(state),
        }
    }
}
