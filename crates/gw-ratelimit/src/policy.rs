use std::fmt;
use std::sync::Arc;

use gw_core::key::{Global, KeyExtractor, MissingKey};
use http::request::Parts;

use crate::config::{Mode, OnMissingKey};
use crate::decision::PolicyId;
use crate::limiter::{Charge, Limiter};
use crate::quota::Quota;
#[cfg(feature = "redis")]
use crate::redis::{SharedCharge, SharedLimiter};
use crate::store::KeyHash;

/// A named quota, and what it is counted by.
///
/// The type parameter is the key, so that a typed pipeline can refuse a policy whose key is not known yet where the
/// layer stands.
///
/// # Examples
///
/// ```
/// use gw_core::key::{Consumer, Route};
/// use gw_ratelimit::{Mode, Policy, Quota};
///
/// let policy = Policy::new("exports", Quota::per_minute(6).burst(2))
///     .key((Consumer, Route))
///     .when(|head| head.uri.path().ends_with("/export"))
///     .mode(Mode::Shadow);
/// ```
#[derive(Clone)]
pub struct Policy<K = Global> {
    name: Arc<str>,
    quota: Quota,
    mode: Mode,
    key: K,
    on_missing_key: OnMissingKey,
    when: Option<Predicate>,
    cost: Option<Cost>,
}

type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
type Cost = Arc<dyn Fn(&Parts) -> u32 + Send + Sync>;

impl Policy {
    /// A policy that is enforced, applies to all requests and counts all of them together, until [`Policy::key`] says
    /// what to count by.
    ///
    /// `name` is seen by clients, in metrics and in logs: 1 to 64 characters out of `A-Z a-z 0-9 _ - . :`.
    pub fn new(name: impl Into<Arc<str>>, quota: Quota) -> Self {
        Self {
            name: name.into(),
            quota,
            mode: Mode::Enforce,
            key: Global,
            on_missing_key: OnMissingKey::default(),
            when: None,
            cost: None,
        }
    }
}

impl<K> Policy<K> {
    /// Gives each value of `key` the quota for itself.
    pub fn key<L: KeyExtractor>(self, key: L) -> Policy<L> {
        Policy {
            name: self.name,
            quota: self.quota,
            mode: self.mode,
            key,
            on_missing_key: self.on_missing_key,
            when: self.when,
            cost: self.cost,
        }
    }

    /// What to do with requests that have no key.
    #[must_use]
    pub fn on_missing_key(mut self, rule: OnMissingKey) -> Self {
        self.on_missing_key = rule;
        self
    }

    /// Applies the policy only to requests for which `predicate` holds. It runs for each request, before the key is
    /// read, and must not allocate or block.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    /// How many cells a request costs; 1 where this is not set. A request that costs more than the burst is refused
    /// for good; one that costs nothing passes.
    #[must_use]
    pub fn cost(mut self, cost: impl Fn(&Parts) -> u32 + Send + Sync + 'static) -> Self {
        self.cost = Some(Arc::new(cost));
        self
    }

    /// Whether to enforce the policy, only to watch, or neither.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }
}

impl<K> Policy<K>
where
    K: KeyExtractor + Send + Sync + 'static,
{
    /// What the limiter has to know of this policy, and what the layer keeps.
    pub(crate) fn split(self) -> (Arc<str>, Quota, Mode, Rule) {
        let rule = Rule {
            key: Box::new(self.key),
            on_missing_key: self.on_missing_key,
            when: self.when,
            cost: self.cost,
        };
        (self.name, self.quota, self.mode, rule)
    }
}

impl<K> fmt::Debug for Policy<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("quota", &self.quota)
            .field("mode", &self.mode)
            .field("on_missing_key", &self.on_missing_key)
            .finish_non_exhaustive()
    }
}

/// How a layer makes a charge out of a request's head. The key's type is erased here: policies with different keys
/// stand in one list.
pub(crate) struct Rule {
    key: Box<dyn HashKey>,
    on_missing_key: OnMissingKey,
    when: Option<Predicate>,
    cost: Option<Cost>,
}

impl Rule {
    pub(crate) fn applies(&self, parts: &Parts) -> bool {
        self.when.as_ref().is_none_or(|predicate| predicate(parts))
    }

    pub(crate) fn on_missing_key(&self) -> OnMissingKey {
        self.on_missing_key
    }

    pub(crate) fn charge(
        &self,
        limiter: &Limiter,
        policy: PolicyId,
        parts: &Parts,
    ) -> Result<Charge, MissingKey> {
        let key = self.key.hash_key(limiter, policy, parts)?;
        Ok(self.charge_for(key, parts))
    }

    /// The charge in a shared store for one that this rule made.
    #[cfg(feature = "redis")]
    pub(crate) fn share(
        &self,
        limiter: &SharedLimiter,
        charge: Charge,
        parts: &Parts,
    ) -> SharedCharge {
        self.key.share(limiter, charge, parts)
    }

    /// The same for a request that lacks the key.
    pub(crate) fn keyless_charge(
        &self,
        limiter: &Limiter,
        policy: PolicyId,
        parts: &Parts,
    ) -> Charge {
        self.charge_for(limiter.keyless(policy), parts)
    }

    fn charge_for(&self, key: KeyHash, parts: &Parts) -> Charge {
        let cost = self.cost.as_ref().map_or(1, |cost| cost(parts));
        Charge { key, cost }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rule")
            .field("on_missing_key", &self.on_missing_key)
            .finish_non_exhaustive()
    }
}

trait HashKey: Send + Sync {
    fn hash_key(
        &self,
        limiter: &Limiter,
        policy: PolicyId,
        parts: &Parts,
    ) -> Result<KeyHash, MissingKey>;

    #[cfg(feature = "redis")]
    fn share(&self, limiter: &SharedLimiter, charge: Charge, parts: &Parts) -> SharedCharge;
}

impl<K: KeyExtractor + Send + Sync> HashKey for K {
    fn hash_key(
        &self,
        limiter: &Limiter,
        policy: PolicyId,
        parts: &Parts,
    ) -> Result<KeyHash, MissingKey> {
        limiter.key_of(policy, self, parts)
    }

    #[cfg(feature = "redis")]
    fn share(&self, limiter: &SharedLimiter, charge: Charge, parts: &Parts) -> SharedCharge {
        limiter.share(charge, self, parts)
    }
}
