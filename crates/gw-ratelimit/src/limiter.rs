mod brief;
mod builder;
mod change;
mod decide;
mod known;
mod late;
mod lates;
mod penalties;
mod refunds;

use std::fmt;
use std::hash::{BuildHasher as _, Hash, Hasher as _};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gw_core::Mode;
use gw_core::key::{KeyExtractor, MissingKey};
use gw_core::mode::SharedMode;
use http::HeaderValue;
use http::request::Parts;
use tokio::time::Instant;

use self::brief::Brief;
pub use self::builder::LimiterBuilder;
pub(crate) use self::builder::Spec;
pub(crate) use self::late::Bill;
use self::lates::Lates;
use self::penalties::Slot;
use self::refunds::Refunds;
use crate::algorithm::Algorithm;
use crate::decision::{Applied, Decision, PolicyId, Standing};
use crate::fields::PolicyLine;
use crate::gcra::nanos;
use crate::handle::RateLimitHandle;
use crate::memory::Memory;
use crate::offenders::{KeyId, Offender, Sketch};
use crate::quota::Quota;
use crate::store::{Hashing, InMemory, KeyHash};
use crate::striped::Striped;
use crate::tally::Tally;
use crate::tier::{Tier, Tiers};
use crate::verdict::Verdict;

/// Rate limits without HTTP: policies, the state of their keys, and the decision.
///
/// All methods take `&self`; share it behind an [`Arc`]. Deciding does not allocate for up to four policies at once,
/// never waits but for locks held some microseconds, and is not async.
///
/// # Examples
///
/// ```
/// use gw_ratelimit::{Limiter, Quota};
/// use tokio::time::Instant;
///
/// let limiter = Limiter::builder()
///     .policy("mails", Quota::per_hour(10).burst(2))
///     .build()?;
/// let mails = limiter.policy("mails").unwrap();
///
/// let now = Instant::now();
/// assert!(limiter.check(mails, "ann@example.com", 1, now).is_allowed());
/// assert!(limiter.check(mails, "ann@example.com", 1, now).is_allowed());
/// let refused = limiter.check(mails, "ann@example.com", 1, now);
/// assert_eq!(refused.retry_after().unwrap().as_secs(), 360);
/// assert!(limiter.check(mails, "bob@example.com", 1, now).is_allowed());
/// # Ok::<(), gw_ratelimit::ConfigError>(())
/// ```
pub struct Limiter {
    /// What a quota change replaces. A decision holds it until what it may have to take back is taken back, so that it
    /// sees one set of quotas throughout, and a change can wait until none is under way that saw the old one.
    book: Striped<Book>,
    /// By policy: what the book says of its own quota, for decisions on one key alone, which read it without a lock.
    briefs: Box<[Brief]>,
    /// By policy. Apart from the quotas: whether a policy applies is asked while foreign code runs.
    modes: Box<[SharedMode]>,
    /// The tiers of each policy.
    tiers: Box<[Tiers]>,
    /// What the limiter was built with: the quota of each policy, and those of its tiers.
    built: Box<[Box<[Quota]>]>,
    /// By policy; empty if none has a penalty.
    penalties: Box<[Option<Slot>]>,
    /// By policy. See [`Limiter::revise`].
    revisions: Box<[AtomicU32]>,
    /// See [`Refunds`].
    refunds: Refunds,
    lates: Lates,
    offenders: Mutex<Sketch>,
    /// Those of the policies, and after them those of what penalties keep in the store.
    tallies: Arc<[Tally]>,
    memory: Memory,
    store: InMemory,
    /// Keyed at random, so that nobody can choose keys that share a state with another's.
    hasher: Hashing,
    /// For those that have no key, so that none is the same as a key.
    keyless_hasher: Hashing,
    /// Time 0 of all states.
    epoch: Instant,
}

/// A policy's quota, and the numbers it comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) quota: Quota,
    pub(crate) algorithm: Algorithm,
}

#[derive(Debug, Clone)]
struct Book {
    /// By policy, and after them those of what penalties keep in the store.
    terms: Box<[Terms]>,
    /// Those of the tiers, by policy; empty if none has any.
    tiers: Box<[Box<[Terms]>]>,
    /// What is told of the policies' quotas when all that are enforced apply, since that hardly ever changes.
    line: Option<PolicyLine>,
}

/// A key of one policy and what it is to pay. Made by [`Limiter::charge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    pub(crate) key: KeyHash,
    pub(crate) cost: u32,
    pub(crate) tier: Option<Tier>,
}

impl Charge {
    /// The same under the quota of a tier; see [`Limiter::tier`]. A tier that the policy does not have is none.
    #[must_use]
    pub const fn tier(mut self, tier: Option<Tier>) -> Self {
        self.tier = tier;
        self
    }

    pub(crate) const fn policy(&self) -> PolicyId {
        self.key.policy_id()
    }
}

impl Book {
    /// Those that a charge is decided by.
    fn terms(&self, charge: &Charge) -> Option<&Terms> {
        let policy = charge.key.policy();
        let tier = charge.tier.and_then(|tier| self.tier(policy, tier));
        tier.or_else(|| self.terms.get(policy))
    }

    fn tier(&self, policy: usize, tier: Tier) -> Option<&Terms> {
        self.tiers.get(policy)?.get(tier.index())
    }

    /// Those of a policy and its tiers.
    fn all_of(&self, policy: usize) -> impl Iterator<Item = &Terms> {
        let tiers = self.tiers.get(policy).into_iter().flatten();
        self.terms.get(policy).into_iter().chain(tiers)
    }

    /// Under which of a policy's quotas a key may owe the most.
    fn roomiest(&self, policy: usize) -> Option<Algorithm> {
        let all = self.all_of(policy).map(|terms| terms.algorithm);
        all.reduce(|one, other| {
            if one.is_tighter_than(&other) {
                other
            } else {
                one
            }
        })
    }
}

impl Limiter {
    /// A builder without policies.
    pub const fn builder() -> LimiterBuilder {
        LimiterBuilder::new()
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<PolicyId> {
        let named = |tally: &Tally| **tally.name() == *name;
        let index = self.tallies().iter().position(named)?;
        u8::try_from(index).ok().map(PolicyId)
    }

    /// The tier of this name of a policy.
    pub fn tier(&self, policy: PolicyId, name: &str) -> Option<Tier> {
        self.tiers.get(policy.index())?.named(name)
    }

    /// What a policy counts with: its own quota, and so those of its tiers, which count alike.
    #[cfg(feature = "redis")]
    pub(crate) fn algorithm(&self, policy: PolicyId) -> Option<Algorithm> {
        let book = self.book.read();
        Some(book.terms.get(policy.index())?.algorithm)
    }

    fn tier_name(&self, policy: PolicyId, tier: Tier) -> Option<&str> {
        let mut names = self.tiers.get(policy.index())?.names();
        names.nth(tier.index()).map(|name| &**name)
    }

    /// How full the burst of the busiest key of a policy is: 0 to 1, more after late charges. At the most: what a key has
    /// got back since is not taken into account.
    pub(crate) fn fill(&self, policy: PolicyId, now: u64) -> f64 {
        let Some(tally) = self.tallies().get(policy.index()) else {
            return 0.0;
        };
        let book = self.book.read();
        let of = |tier, terms: &Terms| {
            let filled = tally.filled_until(tier).saturating_sub(now);
            filled as f64 / terms.algorithm.burst_window().as_nanos() as f64
        };
        let tiers = book.all_of(policy.index()).enumerate();
        tiers
            .map(|(index, terms)| of(index.checked_sub(1).and_then(Tier::nth), terms))
            .fold(0.0, f64::max)
    }

    /// The keys that were refused most often of late, those most often first.
    pub(crate) fn top_offenders(&self, most: usize, now: u64) -> Vec<Offender> {
        let mut offenders = self
            .offenders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let held: Vec<_> = offenders.held(now).collect();
        drop(offenders);
        let mut offenders: Vec<Offender> = held
            .into_iter()
            // Two half-lives after one refusal it is no news any more.
            .filter(|(_, count)| count.most >= 0.5)
            .filter_map(|(key, count)| {
                let policy = PolicyId((key & 0xff) as u8);
                Some(Offender {
                    policy: self.shared_name(policy)?,
                    key: KeyId::of(KeyHash::new(key, policy.0)),
                    refusals: count.most,
                    at_least: count.most - count.excess,
                })
            })
            .collect();
        offenders.sort_by(|a, b| b.refusals.total_cmp(&a.refusals));
        offenders.truncate(most);
        offenders
    }

    /// The name of a policy of this limiter.
    pub fn name(&self, policy: PolicyId) -> Option<&str> {
        self.tallies()
            .get(policy.index())
            .map(|tally| &**tally.name())
    }

    pub(crate) fn shared_name(&self, policy: PolicyId) -> Option<Arc<str>> {
        let tally = self.tallies().get(policy.index())?;
        Some(Arc::clone(tally.name()))
    }

    /// A handle for whoever operates the limiter.
    pub fn handle(self: &Arc<Self>) -> RateLimitHandle {
        RateLimitHandle::new(Arc::clone(self))
    }

    /// Decides on a request of `cost` cells that one policy applies to, and charges it if it may pass.
    ///
    /// `now` is the time of the call; a reading that is a little old makes the decision stricter, never more lenient.
    pub fn check<K: Hash + ?Sized>(
        &self,
        policy: PolicyId,
        key: &K,
        cost: u32,
        now: Instant,
    ) -> Decision {
        self.check_all(&[self.charge(policy, key, cost)], now)
    }

    /// What `key` is to pay under `policy`, for [`Limiter::check_all`].
    pub fn charge<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K, cost: u32) -> Charge {
        Charge {
            key: self.key(policy, key),
            cost,
            tier: None,
        }
    }

    /// Decides on a request that several policies apply to. It is charged to all of them or to none.
    ///
    /// If another request takes the last of some policy's cells in the very moment between looking and charging, what
    /// was charged to the others is taken back; in between, these others are stricter than they should be. Charges
    /// made by another limiter are ignored if it has more policies than this one.
    pub fn check_all(&self, charges: &[Charge], now: Instant) -> Decision {
        self.decision(charges, self.nanos(now))
    }

    /// How `key` stands with `policy`, without charging anything. `None` for a policy of another limiter. A policy that is
    /// off tells what it would go on with.
    pub fn peek<K: Hash + ?Sized>(
        &self,
        policy: PolicyId,
        key: &K,
        now: Instant,
    ) -> Option<Standing> {
        self.peek_at(&self.charge(policy, key, 0), now)
    }

    /// The same for a charge, under the quota of its tier; its cost does not matter.
    pub fn peek_at(&self, charge: &Charge, now: Instant) -> Option<Standing> {
        self.standing(charge, self.nanos(now))
    }

    pub(crate) fn standing(&self, charge: &Charge, now: u64) -> Option<Standing> {
        let policy = charge.policy();
        self.name(policy)?;
        let book = self.book.read();
        let terms = book.terms(charge)?;
        let applied = Applied {
            policy,
            mode: self.mode(policy),
            tier: charge.tier,
            algorithm: &terms.algorithm,
            penalized: false,
        };
        let state = self.store.peek(charge.key);
        Some(Standing::new(applied, Verdict::Allow { state }, now))
    }

    pub(crate) fn key<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> KeyHash {
        KeyHash::new(self.hasher.hash_one(key), policy.0)
    }

    /// The same for the key of a request, where it stands.
    pub(crate) fn key_of<K: KeyExtractor>(
        &self,
        policy: PolicyId,
        extractor: &K,
        parts: &Parts,
    ) -> Result<KeyHash, MissingKey> {
        let mut state = self.hasher.build_hasher();
        extractor.hash_into(parts, &mut state)?;
        Ok(KeyHash::new(state.finish(), policy.0))
    }

    /// The key of all requests that lack one.
    pub(crate) fn keyless(&self, policy: PolicyId) -> KeyHash {
        KeyHash::new(self.keyless_hasher.hash_one(policy.0), policy.0)
    }

    /// The quota in force.
    pub(crate) fn quota(&self, policy: PolicyId) -> Option<Quota> {
        let book = self.book.read();
        Some(book.terms.get(policy.index())?.quota)
    }

    /// Whether the quota in force is less than the one that the limiter was built with.
    pub(crate) fn is_reduced(&self, policy: PolicyId, tier: Option<Tier>) -> bool {
        let book = self.book.read();
        let place = tier.map_or(0, |tier| tier.index() + 1);
        let built = self.built.get(policy.index());
        let built = built.and_then(|quotas| quotas.get(place));
        let in_force = book.all_of(policy.index()).nth(place);
        let both = built.zip(in_force);
        both.is_some_and(|(built, terms)| terms.quota.is_less_than(built))
    }

    /// The tiers of a policy and their quotas in force.
    pub(crate) fn tier_quotas(&self, policy: PolicyId) -> Vec<(Arc<str>, Quota)> {
        let book = self.book.read();
        let tiers = self.tiers.get(policy.index()).into_iter();
        let terms = book.tiers.get(policy.index()).into_iter().flatten();
        let names = tiers.flat_map(Tiers::names).map(Arc::clone);
        names.zip(terms.map(|terms| terms.quota)).collect()
    }

    /// The mode in force. A policy of another limiter is off.
    pub(crate) fn mode(&self, policy: PolicyId) -> Mode {
        let mode = self.modes.get(policy.index());
        mode.map_or(Mode::Off, SharedMode::get)
    }

    /// Shows what is told of the quotas of these policies, if it is written down. `show` runs under a guard, and must be
    /// short.
    pub(crate) fn with_policy_line(
        &self,
        policies: impl Iterator<Item = PolicyId>,
        show: impl FnOnce(&HeaderValue),
    ) {
        let book = self.book.read();
        if let Some(line) = book.line.as_ref().filter(|line| line.is_of(policies)) {
            show(line.value());
        }
    }

    /// Those of the policies.
    pub(crate) fn tallies(&self) -> &[Tally] {
        self.tallies.get(..self.modes.len()).unwrap_or_default()
    }

    /// How many keys have strikes with a policy, or had and are not swept yet.
    pub(crate) fn keys_with_strikes(&self, policy: PolicyId) -> u64 {
        let slot = self.slot_of(policy);
        let tally = slot.and_then(|slot| self.tallies.get(slot));
        tally.map_or(0, |tally| tally.counts().keys)
    }

    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// When it was so much on this limiter's clock.
    pub(crate) fn instant(&self, nanos: u64) -> Instant {
        self.epoch + Duration::from_nanos(nanos)
    }

    /// Tells recorder and log what became of the keys.
    fn announce(&self) {
        if self.store.take_changed() {
            self.tallies.iter().for_each(Tally::announce);
        }
    }
}

/// The policies, and not the states of all keys.
impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.tallies().iter().map(Tally::name).collect();
        f.debug_struct("Limiter")
            .field("policies", &names)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
