//! `[limits.*]`, and the routes that name them, as policies of two stages: one that stands before authentication, and one
//! behind it.

mod controls;
mod key;
mod layer;
mod service;
mod shared;

use gw_core::Respond;
use gw_core::key::KeyExtractor;
use gw_pipeline::pipeline::slot::{self, Slot as _};
use gw_ratelimit::redis::{Leases, OnFailure, RedisStore};
use gw_ratelimit::{ConfigError, Policy, Quota, RateLimitLayer};

pub use self::controls::{LimitControls, StoreControls};
pub(crate) use self::controls::{close_stores, connect_stores};
use self::key::{CallerKey, EarlyKey};
pub(super) use self::layer::LimitsLayer;
use super::Fault;
use super::asked::Asked;
use crate::config::table::{self, Access, OnStoreError, Route, SharedStore};
use crate::config::{Config, KeyPath};

/// The stage that asks every limit which a route names in `limits`.
pub(super) fn before_authentication(
    config: &Config,
    respond: &Respond,
) -> Result<LimitsLayer<EarlyKey>, Fault> {
    let asked = config.limits.iter().filter_map(|(name, limit)| {
        let unmatched = config.server.default_limits.contains(name);
        let asked = Asked::by(config, |route| asks_early(route, name), unmatched);
        let key = EarlyKey::of(limit)?;
        asked
            .is_anybody()
            .then(|| Limit::of(name, limit, key, asked))
    });
    stage(slot::PreAuthLimit::NAME, asked.collect(), respond)
}

/// The stage that asks every limit which a route names in `consumer_limits`. None is asked by both stages: the configuration
/// is refused.
pub(super) fn after_authentication(
    config: &Config,
    respond: &Respond,
) -> Result<LimitsLayer<CallerKey>, Fault> {
    let asked = config.limits.iter().filter_map(|(name, limit)| {
        let asked = Asked::by(config, |route| asks_late(route, name), false);
        let key = CallerKey::of(limit);
        asked
            .is_anybody()
            .then(|| Limit::of(name, limit, key, asked))
    });
    stage(slot::PostAuthLimit::NAME, asked.collect(), respond)
}

/// Whether a route names the limit, or the server for requests without one.
pub(crate) fn is_asked(config: &Config, name: &String) -> bool {
    let mut routes = config.routes.iter();
    config.server.default_limits.contains(name)
        || routes.any(|route| asks_early(route, name) || asks_late(route, name))
}

fn asks_early(route: &Route, name: &String) -> bool {
    route.limits.contains(name)
}

fn asks_late(route: &Route, name: &String) -> bool {
    match &route.access {
        Access::Public => false,
        Access::Authenticated { limits, .. } => limits.contains(name),
    }
}

/// Builds each limit that nobody asks, to see whether it can be: who comes to name it is not to find it at fault then.
pub(super) fn check_unasked(config: &Config, respond: &Respond) -> Result<(), Fault> {
    for (name, limit) in &config.limits {
        if !is_asked(config, name) {
            let nobody = Asked::by(config, |_| false, false);
            let limit = Limit::of(name, limit, CallerKey::of(limit), nobody);
            stage(slot::PostAuthLimit::NAME, vec![limit], respond)?;
        }
    }
    Ok(())
}

struct Limit<'c, K> {
    name: &'c str,
    store: Option<&'c SharedStore>,
    burst: u32,
    policy: Policy<K>,
}

impl<'c, K: KeyExtractor> Limit<'c, K> {
    fn of(name: &'c str, limit: &'c table::Limit, key: K, asked: Asked) -> Self {
        let quota = Quota::per(limit.rate.per, limit.rate.count.get()).burst(limit.burst.get());
        let policy = Policy::new(name, quota).key(key).mode(limit.mode);
        Self {
            name,
            store: limit.store.as_ref(),
            burst: limit.burst.get(),
            policy: policy.when(move |parts| asked.covers(parts)),
        }
    }
}

/// One layer for the limits that this instance counts alone, and one for those of each store, since a layer charges all of
/// its policies or none. Limits of one store that are leased, or have another rule for when it fails, are apart.
fn stage<K>(
    stage: &'static str,
    limits: Vec<Limit<'_, K>>,
    respond: &Respond,
) -> Result<LimitsLayer<K>, Fault>
where
    K: KeyExtractor + Send + Sync + 'static,
{
    let (shared, local): (Vec<_>, Vec<_>) =
        limits.into_iter().partition(|limit| limit.store.is_some());
    let local = RateLimitLayer::builder()
        .policies(local.into_iter().map(|limit| limit.policy))
        .build()
        .map_err(|error| Fault::of_limits(&error))?;
    let mut groups: Vec<(&SharedStore, Vec<Limit<'_, K>>)> = Vec::new();
    for limit in shared {
        let Some(store) = limit.store else { continue };
        match groups.iter_mut().find(|(of, _)| *of == store) {
            Some((_, limits)) => limits.push(limit),
            None => groups.push((store, vec![limit])),
        }
    }
    let mut layer = LimitsLayer::new(stage, local.on_reject(respond.clone()));
    let mut labels: Vec<String> = Vec::new();
    for (store, limits) in groups {
        let label = label(stage, store, &labels);
        let names: Vec<&str> = limits.iter().map(|limit| limit.name).collect();
        let burst = limits.iter().map(|limit| limit.burst).min().unwrap_or(1);
        let shared = RateLimitLayer::builder()
            .policies(limits.into_iter().map(|limit| limit.policy))
            .build_shared(&redis(stage, store, burst).label(&*label))
            .map_err(|error| of_store(&error, &names))?;
        layer.share(
            label.as_str().into(),
            store,
            shared.on_reject(respond.clone()),
        );
        labels.push(label);
    }
    Ok(layer)
}

/// How many cells one instance takes in advance for one key: an eighth of the burst, so that two that are asked evenly lose
/// next to nothing by it, and no more than makes questions rare.
fn lease(burst: u32) -> u32 {
    (burst / 8).clamp(1, 64)
}

/// What metrics call the limits of one stage that have this store and rule: by the rule, and with a number from the second
/// server on. A URL may hold a password.
fn label(stage: &str, store: &SharedStore, taken: &[String]) -> String {
    let leased = if store.leased { ":leased" } else { "" };
    let label = format!("{stage}:{}{leased}", store.on_error.as_str());
    let numbered = (2..).map(|number| format!("{label}:{number}"));
    let mut labels = std::iter::once(label.clone()).chain(numbered);
    labels.find(|label| !taken.contains(label)).unwrap_or(label)
}

/// Instances share what they count if they have the same URL: it is the secret that keys are hashed with, so that who
/// does not know it cannot choose keys that share another's quota.
fn redis(stage: &'static str, store: &SharedStore, burst: u32) -> RedisStore {
    let url = store.url.expose();
    let redis = RedisStore::new(url, stage, format!("the limits of {url}"));
    let redis = redis.on_failure(match store.on_error {
        OnStoreError::Local => OnFailure::LocalFallback,
        OnStoreError::Open => OnFailure::Open,
        OnStoreError::Closed => OnFailure::Closed,
    });
    match store.leased {
        true => redis.leases(Leases::up_to(lease(burst))),
        false => redis,
    }
}

/// What is wrong is the policy's, or the store's, which all limits of the group name. Of a store, the file has the URL alone.
fn of_store(error: &ConfigError, names: &[&str]) -> Fault {
    const ROOTS: &str =
        "needs certificates that the system trusts, and it has none: name a file in SSL_CERT_FILE";
    let (None, [first, ..]) = (error.policy(), names) else {
        return Fault::of_limits(error);
    };
    // The limiter's own rule offers a socket's path too, which the file may not have.
    const URL: &str = "must be redis://[user:password@]host[:port][/db][?protocol=resp2|resp3], or rediss:// and the same; a user \
         needs a password";
    let rule = match error.field() {
        "url" => URL.to_owned(),
        "root_certificates" => ROOTS.to_owned(),
        field => format!("{field} {}", error.rule()),
    };
    Fault::new(KeyPath::of("limits").key(first).key("store"), rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: it offered `unix://`, which the file may not have.
    #[test]
    fn what_is_wrong_with_a_store_names_what_the_file_may_have() {
        let text = "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nstore = \"redis://u:p@h:nope\"\n\
                    [upstreams.a]\nendpoints = [\"http://h\"]\n[[routes]]\nname = \"all\"\n\
                    match = { prefix = \"/\" }\nupstream = \"a\"\npublic = true\n";
        let config = Config::parse("gateway.toml", text, "".as_ref(), &|_| None).unwrap();
        let fault = check_unasked(&config, &Respond::default()).unwrap_err();
        assert_eq!(fault.key, KeyPath::from("limits.x.store"));
        assert!(fault.message.contains("rediss://"), "{fault}");
        assert!(!fault.message.contains("unix"), "{fault}");
    }
}
