use std::fmt;
use std::sync::Arc;

use gw_core::Mode;
use gw_core::key::{Global, KeyExtractor, MissingKey};
use http::request::Parts;
use http::response;

use crate::config::OnMissingKey;
use crate::decision::PolicyId;
use crate::limiter::{Charge, Limiter, Spec};
use crate::penalty::Penalty;
use crate::quota::Quota;
#[cfg(feature = "redis")]
use crate::redis::{SharedCharge, SharedLimiter};
use crate::store::KeyHash;
use crate::tier::{Tier, Tiers};

/// A named quota, and what it is counted by.
///
/// The type parameter is the key, so that a typed pipeline can refuse a policy whose key is not known yet where the
/// layer stands.
///
/// # Examples
///
/// ```
/// use gw_ratelimit::key::{Consumer, Route};
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
    tiers: Vec<(Arc<str>, Quota)>,
    tier_of: Option<TierOf>,
    penalty: Option<Penalty>,
    late: bool,
    on_response: Option<OnResponse>,
}

type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;
type Cost = Arc<dyn Fn(&Parts) -> u32 + Send + Sync>;
type TierOf = Arc<dyn Fn(&Parts, &Tiers) -> Option<Tier> + Send + Sync>;
type OnResponse = Arc<dyn Fn(&response::Parts) -> Adjust + Send + Sync>;

/// What an answer changes about what its request has paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Adjust {
    /// It stays as it is.
    Nothing,
    /// So many cells more.
    Charge(u32),
    /// So many cells less, but never more than the request was charged: `Refund(u32::MAX)` is all of it, also where a
    /// [`Penalty`] has made it dearer. `Refund(1)` is one cell of that.
    Refund(u32),
}

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
            tiers: Vec::new(),
            tier_of: None,
            penalty: None,
            late: false,
            on_response: None,
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
            tiers: self.tiers,
            tier_of: self.tier_of,
            penalty: self.penalty,
            late: self.late,
            on_response: self.on_response,
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

    /// Gives the keys of a tier another quota than the rest. There may be up to [`Tier::MOST`]; their names are as those of
    /// policies. [`Policy::tier_of`] says who is in which.
    ///
    /// All quotas of a policy are rates, or all are sliding windows of one length: a key that changes tier takes its debt
    /// with it, and the debt must mean the same there. A debt is a time: what takes ten seconds to run off at the old rate
    /// takes ten seconds in the new tier as well. So nobody gains by changing tiers back and forth.
    #[must_use]
    pub fn tier(mut self, name: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.tiers.push((name.into(), quota));
        self
    }

    /// Says which tier a request is in. `None`, and where this is not set, is the policy's own quota. It runs for each
    /// request, and must not allocate or block.
    ///
    /// The tier must follow from the key, or from something that the client cannot choose.
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_ratelimit::key::Consumer;
    /// use gw_ratelimit::{Policy, Quota};
    ///
    /// #[derive(Clone)]
    /// struct Plan(&'static str);
    ///
    /// let policy = Policy::new("per_consumer", Quota::per_second(10))
    ///     .key(Consumer)
    ///     .tier("gold", Quota::per_second(1_000).burst(5_000))
    ///     .tier_of(|head, tiers| tiers.named(head.extensions.get::<Plan>()?.0));
    /// ```
    #[must_use]
    pub fn tier_of(
        mut self,
        resolver: impl Fn(&Parts, &Tiers) -> Option<Tier> + Send + Sync + 'static,
    ) -> Self {
        self.tier_of = Some(Arc::new(resolver));
        self
    }

    /// Makes requests dearer for keys that keep being refused. Each such key takes a second place in memory while it has
    /// strikes; where there is no room, those that would be forgotten first are. In [compact memory](crate::Memory::compact) a
    /// refused key takes the place of the one with the fewest strikes in its line, and these as well.
    ///
    /// In shadow mode what would have been refused is a strike, and only the policy's own decisions are changed by it.
    #[must_use]
    pub fn penalty(mut self, penalty: Penalty) -> Self {
        self.penalty = Some(penalty);
        self
    }

    /// Lets handlers, and layers further in, charge and pay back admitted requests under this policy, by the
    /// [`Charged`](crate::Charged) in their extensions. That costs an allocation for each request, so it is not the default.
    #[must_use]
    pub fn late_charges(mut self) -> Self {
        self.late = true;
        self
    }

    /// Charges or pays back a request by the head of its answer: five cells more for a failed login, nothing for a 304.
    ///
    /// A debt never gets beyond two bursts, and never is more given back than was charged. The answer's fields tell of what
    /// is left then. `adjust` runs for each answer of an admitted request, and must not block. A refusal further in that passes
    /// as an error, a [`Rejection`](gw_core::Rejection), is an answer too: `adjust` sees it in the extensions of a head with
    /// its status, which is its code's for gRPC callers as well.
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_ratelimit::key::ClientIp;
    /// use gw_ratelimit::{Adjust, Policy, Quota};
    ///
    /// let logins = Policy::new("logins", Quota::per_minute(30).burst(30))
    ///     .key(ClientIp::new())
    ///     .charge_response(|answer| match answer.status.as_u16() {
    ///         401 | 403 => Adjust::Charge(5),
    ///         500.. => Adjust::Refund(u32::MAX),
    ///         _ => Adjust::Nothing,
    ///     });
    /// ```
    #[must_use]
    pub fn charge_response(
        mut self,
        adjust: impl Fn(&response::Parts) -> Adjust + Send + Sync + 'static,
    ) -> Self {
        self.on_response = Some(Arc::new(adjust));
        self
    }

    /// Whether to enforce the policy, only to watch, or neither. Off it charges nobody.
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
    pub(crate) fn split(self) -> (Spec, Rule) {
        let names = self.tiers.iter().map(|(name, _)| Arc::clone(name));
        let rule = Rule {
            key: Box::new(self.key),
            on_missing_key: self.on_missing_key,
            when: self.when,
            cost: self.cost,
            tiers: Tiers::new(names),
            tier_of: self.tier_of,
            late: self.late,
            on_response: self.on_response,
        };
        let spec = Spec {
            name: self.name,
            quota: self.quota,
            mode: self.mode,
            tiers: self.tiers,
            penalty: self.penalty,
        };
        (spec, rule)
    }
}

impl<K> fmt::Debug for Policy<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name)
            .field("quota", &self.quota)
            .field("mode", &self.mode)
            .field("on_missing_key", &self.on_missing_key)
            .field("tiers", &self.tiers)
            .field("penalty", &self.penalty)
            .field("late", &self.late)
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
    tiers: Tiers,
    tier_of: Option<TierOf>,
    late: bool,
    on_response: Option<OnResponse>,
}

impl Rule {
    pub(crate) fn applies(&self, parts: &Parts) -> bool {
        self.when.as_ref().is_none_or(|predicate| predicate(parts))
    }

    pub(crate) fn on_missing_key(&self) -> OnMissingKey {
        self.on_missing_key
    }

    /// Whether others may charge late, by the policy's name.
    pub(crate) const fn is_open(&self) -> bool {
        self.late
    }

    /// Whether anything may be charged late.
    pub(crate) const fn is_late(&self) -> bool {
        self.late || self.on_response.is_some()
    }

    /// What the answer changes.
    pub(crate) fn adjust(&self, answer: &response::Parts) -> Adjust {
        let adjust = self.on_response.as_ref();
        adjust.map_or(Adjust::Nothing, |adjust| adjust(answer))
    }

    /// The key of a request, where it has one.
    #[inline]
    pub(crate) fn key(
        &self,
        limiter: &Limiter,
        policy: PolicyId,
        parts: &Parts,
    ) -> Result<KeyHash, MissingKey> {
        self.key.hash_key(limiter, policy, parts)
    }

    /// What is to be charged to a key.
    #[inline]
    pub(crate) fn charge(&self, key: KeyHash, parts: &Parts) -> Charge {
        let cost = self.cost.as_ref().map_or(1, |cost| cost(parts));
        let tier_of = self.tier_of.as_ref();
        let tier = tier_of.and_then(|tier_of| tier_of(parts, &self.tiers));
        Charge { key, cost, tier }
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
