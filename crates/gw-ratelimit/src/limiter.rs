mod builder;
mod change;
mod decide;

use std::hash::{BuildHasher as _, Hash, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gw_core::key::{KeyExtractor, MissingKey};
use http::HeaderValue;
use http::request::Parts;
use tokio::time::Instant;

pub use self::builder::LimiterBuilder;
use crate::algorithm::Algorithm;
use crate::config::Mode;
use crate::decision::{Decision, PolicyId, Standing};
use crate::fields::PolicyLine;
use crate::gcra::nanos;
use crate::handle::RateLimitHandle;
use crate::memory::Memory;
use crate::quota::Quota;
use crate::store::{InMemory, KeyHash, Store as _};
use crate::striped::Striped;
use crate::tally::Tally;
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
#[derive(Debug)]
pub struct Limiter {
    /// What a quota change replaces. A decision holds it until what it may have to take back is taken back, so that it
    /// sees one set of quotas throughout, and a change can wait until none is under way that saw the old one.
    book: Striped<Book>,
    /// By policy, as numbers. Apart from the quotas: whether a policy applies is asked while foreign code runs.
    modes: Box<[AtomicU8]>,
    tallies: Arc<[Tally]>,
    memory: Memory,
    store: InMemory,
    /// Keyed at random, so that nobody can choose keys that share a state with another's.
    hasher: RandomState,
    /// For those that have no key, so that none is the same as a key.
    keyless_hasher: RandomState,
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
    terms: Box<[Terms]>,
    /// What is told of the policies' quotas when all that are enforced apply, since that hardly ever changes.
    line: Option<PolicyLine>,
}

/// A key of one policy and what it is to pay. Made by [`Limiter::charge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    pub(crate) key: KeyHash,
    pub(crate) cost: u32,
}

impl Limiter {
    /// A builder without policies.
    pub const fn builder() -> LimiterBuilder {
        LimiterBuilder::new()
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<PolicyId> {
        let named = |tally: &Tally| **tally.name() == *name;
        let index = self.tallies.iter().position(named)?;
        u8::try_from(index).ok().map(PolicyId)
    }

    /// The name of a policy of this limiter.
    pub fn name(&self, policy: PolicyId) -> Option<&str> {
        self.tallies
            .get(policy.index())
            .map(|tally| &**tally.name())
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
        }
    }

    /// Decides on a request that several policies apply to. It is charged to all of them or to none.
    ///
    /// If another request takes the last of some policy's cells in the very moment between looking and charging, what
    /// was charged to the others is taken back; in between, these others are stricter than they should be. Charges
    /// made by another limiter are ignored if it has more policies than this one.
    pub fn check_all(&self, charges: &[Charge], now: Instant) -> Decision {
        let mut decision = Decision::default();
        self.decide(charges, self.nanos(now), &mut decision);
        decision
    }

    /// How `key` stands with `policy`, without charging anything. `None` for a policy of another limiter.
    pub fn peek<K: Hash + ?Sized>(
        &self,
        policy: PolicyId,
        key: &K,
        now: Instant,
    ) -> Option<Standing> {
        let terms = self.terms(policy)?;
        let algorithm = terms.algorithm;
        let verdict = Verdict::Allow {
            state: self.store.peek(self.key(policy, key), &algorithm),
        };
        Some(Standing::new(
            policy,
            self.mode(policy),
            algorithm,
            verdict,
            self.nanos(now),
        ))
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
    pub(crate) fn terms(&self, policy: PolicyId) -> Option<Terms> {
        self.book.read().terms.get(policy.index()).copied()
    }

    /// The mode in force. A policy of another limiter is off.
    pub(crate) fn mode(&self, policy: PolicyId) -> Mode {
        const ENFORCE: u8 = Mode::Enforce as u8;
        const SHADOW: u8 = Mode::Shadow as u8;
        // Nothing else is read by it.
        match self
            .modes
            .get(policy.index())
            .map(|mode| mode.load(Ordering::Relaxed))
        {
            Some(ENFORCE) => Mode::Enforce,
            Some(SHADOW) => Mode::Shadow,
            _ => Mode::Off,
        }
    }

    /// What is told of the quotas of these policies, if it is written down.
    pub(crate) fn policy_line(
        &self,
        policies: impl Iterator<Item = PolicyId>,
    ) -> Option<HeaderValue> {
        let book = self.book.read();
        let line = book.line.as_ref()?;
        line.is_of(policies).then(|| line.value())
    }

    pub(crate) fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.epoch))
    }

    /// Tells recorder and log what became of the keys.
    fn announce(&self) {
        if self.store.take_changed() {
            self.tallies.iter().for_each(Tally::announce);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
