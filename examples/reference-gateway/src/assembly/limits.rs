//! `[limits.*]`, and the routes that name them, as policies of two layers: one that stands before authentication, and one
//! behind it.

mod key;

use gw_core::key::KeyExtractor;
use gw_ratelimit::{ConfigError, Mode, Policy, Quota, RateLimitLayer};

use self::key::{CallerKey, EarlyKey};
use super::asked::Asked;
use crate::config::Config;
use crate::config::table::{self, Access};

/// The layer that asks every limit which a route names in `limits`.
pub(super) fn before_authentication(
    config: &Config,
) -> Result<RateLimitLayer<(EarlyKey, ())>, ConfigError> {
    let policies = config.limits.iter().filter_map(|(name, limit)| {
        let named = |names: &[String]| names.contains(name);
        let unmatched = named(&config.server.default_limits);
        let asked = Asked::by(config, |route| named(&route.limits), unmatched);
        policy(name, limit, EarlyKey::of(limit)?, asked)
    });
    RateLimitLayer::builder().policies(policies).build()
}

/// The layer that asks every limit which a route names in `consumer_limits`. One that is named in both places counts in
/// each of them for itself.
pub(super) fn after_authentication(
    config: &Config,
) -> Result<RateLimitLayer<(CallerKey, ())>, ConfigError> {
    let policies = config.limits.iter().filter_map(|(name, limit)| {
        let named = |access: &Access| match access {
            Access::Public => false,
            Access::Authenticated { limits, .. } => limits.contains(name),
        };
        let asked = Asked::by(config, |route| named(&route.access), false);
        policy(name, limit, CallerKey::of(limit), asked)
    });
    RateLimitLayer::builder().policies(policies).build()
}

/// `None` if nobody asks it.
fn policy<K: KeyExtractor>(
    name: &str,
    limit: &table::Limit,
    key: K,
    asked: Asked,
) -> Option<Policy<K>> {
    let quota = Quota::per(limit.rate.per, limit.rate.count.get()).burst(limit.burst.get());
    let policy = Policy::new(name, quota).key(key).mode(mode(limit.mode));
    asked
        .is_anybody()
        .then(|| policy.when(move |parts| asked.covers(parts)))
}

pub(super) const fn mode(written: table::Mode) -> Mode {
    match written {
        table::Mode::Enforce => Mode::Enforce,
        table::Mode::Shadow => Mode::Shadow,
        table::Mode::Off => Mode::Off,
    }
}
