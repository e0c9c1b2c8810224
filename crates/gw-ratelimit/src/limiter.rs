use std::hash::{BuildHasher as _, Hash, Hasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::available_parallelism;

use gw_core::key::{KeyExtractor, MissingKey};
use http::HeaderValue;
use http::request::Parts;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::{ConfigError, Mode, check_name};
use crate::decision::{Decision, PolicyId, Ruling, Standing};
use crate::fields::PolicyLine;
use crate::gcra::{Gcra, Verdict, nanos};
use crate::handle::RateLimitHandle;
use crate::quota::Quota;
use crate::store::{Exact, KeyHash, Receipt, Store as _};
use crate::striped::Striped;
use crate::tally::Tally;
use crate::telemetry;

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
    store: Exact,
    /// Keyed at random, so that nobody can choose keys that share a state with another's.
    hasher: RandomState,
    /// For those that have no key, so that none is the same as a key.
    keyless_hasher: RandomState,
    /// Time 0 of all TATs.
    epoch: Instant,
}

/// A policy's quota, and the numbers it comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) quota: Quota,
    pub(crate) gcra: Gcra,
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

/// Builds a [`Limiter`].
#[derive(Debug, Clone)]
pub struct LimiterBuilder {
    policies: Vec<(Arc<str>, Quota, Mode)>,
    max_keys: usize,
}

impl LimiterBuilder {
    /// How many keys are held in all, unless it is said otherwise.
    pub const DEFAULT_MAX_KEYS: usize = 1_000_000;
    /// The most policies of one limiter.
    pub const MAX_POLICIES: usize = 256;
    /// The most that [`LimiterBuilder::max_keys`] takes.
    pub const MOST_KEYS: usize = u32::MAX as usize;

    /// Adds a policy that is enforced. Its name is 1 to 64 characters out of `A-Z a-z 0-9 _ - . :`.
    #[must_use]
    pub fn policy(self, name: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.policy_in(name, quota, Mode::Enforce)
    }

    /// Adds a policy in the given mode.
    #[must_use]
    pub fn policy_in(mut self, name: impl Into<Arc<str>>, quota: Quota, mode: Mode) -> Self {
        self.policies.push((name.into(), quota, mode));
        self
    }

    /// How many keys are held in all, over all policies; each takes 21 to 43 bytes. The bound is never exceeded.
    ///
    /// Memory is taken as keys come, and kept. When there is no room, keys without debt give way; if there are none,
    /// newcomers share one quota per policy and shard of the table, until there is room again. Shards fill a little
    /// unevenly: of a million keys' table, the first shard is full at about 98 % of the bound.
    #[must_use]
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }

    /// The limiter. Its clock starts here. Without policies, it allows everything.
    ///
    /// # Errors
    ///
    /// If there are more than [`LimiterBuilder::MAX_POLICIES`], a name is not plain or used twice, a quota cannot be
    /// enforced (see [`Gcra::new`]), or `max_keys` is 0 or above
    /// [`LimiterBuilder::MOST_KEYS`].
    pub fn build(self) -> Result<Limiter, ConfigError> {
        if self.policies.len() > Self::MAX_POLICIES {
            return Err(ConfigError::new("policies", "must be at most 256"));
        }
        if !(1..=Self::MOST_KEYS).contains(&self.max_keys) {
            return Err(ConfigError::new("max_keys", "must be 1 to 4294967295"));
        }
        let mut terms = Vec::with_capacity(self.policies.len());
        let mut tallies: Vec<Tally> = Vec::with_capacity(self.policies.len());
        let mut modes = Vec::with_capacity(self.policies.len());
        for (name, quota, mode) in self.policies {
            check_name(&name)?;
            if tallies.iter().any(|tally| *tally.name() == name) {
                return Err(ConfigError::new("name", "must not be used twice").of_policy(&name));
            }
            let gcra = Gcra::new(quota).map_err(|error| error.of_policy(&name))?;
            terms.push(Terms { quota, gcra });
            modes.push(AtomicU8::new(mode as u8));
            tallies.push(Tally::new(name));
        }
        let tallies: Arc<[Tally]> = tallies.into();
        let terms = terms.into();
        let book = Book { terms, line: None };
        let limiter = Limiter {
            book: Striped::new(book, Self::copies()),
            modes: modes.into(),
            store: Exact::new(self.max_keys, Arc::clone(&tallies)),
            tallies,
            hasher: RandomState::new(),
            keyless_hasher: RandomState::new(),
            epoch: Instant::now(),
        };
        limiter.book.change(|book| limiter.write_line(book));
        Ok(limiter)
    }

    /// Of what threads read without getting in one another's way: one for each that can run at once, within reason.
    fn copies() -> usize {
        available_parallelism().map_or(8, usize::from).min(64)
    }
}

impl Limiter {
    /// A builder without policies.
    pub const fn builder() -> LimiterBuilder {
        LimiterBuilder {
            policies: Vec::new(),
            max_keys: LimiterBuilder::DEFAULT_MAX_KEYS,
        }
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
        let verdict = Verdict::Allow {
            tat: self.store.peek(self.key(policy, key)),
        };
        Some(Standing::new(
            policy,
            self.mode(policy),
            terms.gcra,
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

    /// Decides into `decision`, which is empty: it is large.
    pub(crate) fn decide(&self, charges: &[Charge], now: u64, decision: &mut Decision) {
        {
            let book = self.book.read();
            let terms = &book.terms;
            if let [charge] = charges {
                self.pay(terms, charge, now, decision);
            } else {
                // Look first. Charging at once and taking back would do as well if it were not for the moment in
                // between: a client that keeps running into one policy would keep taking cells from the others, and
                // their clients would be refused for it.
                self.survey(terms, charges, now, None, decision);
                if decision.is_allowed() {
                    decision.clear();
                    self.pay_all(terms, charges, now, decision);
                }
            }
        }
        // From here on foreign code may run, without a lock.
        decision.bind();
        self.count(decision);
        self.announce();
    }

    /// Charges one policy, if it is willing. There is a receipt if something was charged.
    fn pay(
        &self,
        terms: &[Terms],
        charge: &Charge,
        now: u64,
        decision: &mut Decision,
    ) -> Option<Receipt> {
        let (policy, mode, terms) = self.applicable(terms, charge)?;
        let (verdict, place) = if charge.cost == 0 {
            // Free of charge, and no reason to remember the key.
            let tat = self.store.peek(charge.key);
            (Verdict::Allow { tat }, None)
        } else {
            self.store.charge(charge.key, &terms.gcra, charge.cost, now)
        };
        decision.push(Standing::new(policy, mode, terms.gcra, verdict, now));
        match (verdict, place) {
            (Verdict::Allow { tat }, Some(place)) => Some(Receipt {
                key: charge.key,
                place,
                after: tat,
                cost: terms.gcra.cost(charge.cost),
            }),
            _ => None,
        }
    }

    /// Charges all policies, which were all willing a moment ago. If one refuses after all, takes back what the
    /// others were charged.
    fn pay_all(&self, terms: &[Terms], charges: &[Charge], now: u64, decision: &mut Decision) {
        let mut receipts: SmallVec<[Receipt; 4]> = SmallVec::new();
        for charge in charges {
            receipts.extend(self.pay(terms, charge, now, decision));
            if !decision.is_allowed() {
                let refused = decision.standings().last().copied();
                for receipt in receipts {
                    let clock = || now.max(self.nanos(Instant::now()));
                    self.store.undo(receipt, &clock);
                }
                decision.clear();
                return self.survey(terms, charges, now, refused, decision);
            }
        }
    }

    /// How the request stands with all its policies if none is charged. Where one has refused already, its word
    /// stands, whatever it would say now.
    fn survey(
        &self,
        terms: &[Terms],
        charges: &[Charge],
        now: u64,
        refused: Option<Standing>,
        decision: &mut Decision,
    ) {
        for charge in charges {
            let Some((policy, mode, terms)) = self.applicable(terms, charge) else {
                continue;
            };
            if let Some(refused) = refused.filter(|refused| refused.policy() == policy) {
                decision.push(refused);
                continue;
            }
            let tat = self.store.peek(charge.key);
            let verdict = match terms.gcra.decide(tat, now, charge.cost) {
                // Not charged, so what it has is what it had.
                Verdict::Allow { .. } => Verdict::Allow { tat },
                denied => denied,
            };
            decision.push(Standing::new(policy, mode, terms.gcra, verdict, now));
        }
    }

    fn count(&self, decision: &Decision) {
        for standing in decision.standings() {
            let Some(tally) = self.tallies.get(standing.policy().index()) else {
                continue;
            };
            match standing.ruling() {
                Ruling::Allowed if decision.is_allowed() => tally.allowed(),
                // Some other policy refused: it was neither charged nor limited here.
                Ruling::Allowed => {}
                Ruling::Limited | Ruling::TooCostly if standing.is_enforced() => tally.limited(),
                Ruling::Limited | Ruling::TooCostly => tally.would_limit(),
            }
        }
    }

    /// Tells recorder and log what became of the keys.
    fn announce(&self) {
        if self.store.take_changed() {
            self.tallies.iter().for_each(Tally::announce);
        }
    }

    pub(crate) fn change_mode(&self, policy: PolicyId, mode: Mode) {
        let (Some(cell), Some(name)) = (self.modes.get(policy.index()), self.name(policy)) else {
            return;
        };
        let before = cell.swap(mode as u8, Ordering::Relaxed);
        if before != mode as u8 {
            self.book.change(|book| self.write_line(book));
            telemetry::mode_changed(name, mode);
        }
    }

    /// Debts stay: a TAT is a time, and keeps its meaning. If the burst became smaller in time, debts above it are cut
    /// to it, or a client would be locked out for longer than the new quota can mean.
    ///
    /// The cut comes when no decision is under way any more that saw the old quota. All that are then charge, and take
    /// back, under the new one, which leaves no debt above what is cut to: nothing is charged, and nothing taken back,
    /// that the cut could be in the way of.
    pub(crate) fn change_quota(
        &self,
        policy: PolicyId,
        quota: Quota,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let name = self.name(policy).unwrap_or_default();
        let gcra = Gcra::new(quota).map_err(|error| error.of_policy(name))?;
        let before = self.book.change(|book| {
            let terms = book.terms.get_mut(policy.index())?;
            let before = std::mem::replace(terms, Terms { quota, gcra });
            self.write_line(book);
            Some(before)
        });
        if let Some(before) = before {
            if gcra.tolerance() < before.gcra.tolerance() {
                let now = self.nanos(now);
                self.store.clamp(policy.index(), &|| {
                    let now = now.max(self.nanos(Instant::now()));
                    now.saturating_add(gcra.tolerance())
                });
            }
            if quota != before.quota {
                telemetry::quota_changed(name, quota);
            }
        }
        Ok(())
    }

    pub(crate) fn reset<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> bool {
        let held = self.store.reset(self.key(policy, key));
        self.announce();
        held
    }

    /// Writes down what is told of the quotas of all policies that are enforced.
    fn write_line(&self, book: &mut Book) {
        let policies = (0..=u8::MAX).map(PolicyId).zip(&book.terms);
        let enforced = policies.filter(|(policy, _)| self.mode(*policy) == Mode::Enforce);
        book.line = PolicyLine::of(enforced.map(|(policy, terms)| {
            let name = self.name(policy).unwrap_or_default();
            (policy, name, terms.gcra)
        }));
    }

    /// The policy of a charge and its terms, unless it is off.
    fn applicable<'a>(
        &self,
        terms: &'a [Terms],
        charge: &Charge,
    ) -> Option<(PolicyId, Mode, &'a Terms)> {
        let index = charge.key.policy();
        let policy = PolicyId(u8::try_from(index).ok()?);
        let mode = self.mode(policy);
        let terms = terms.get(index).filter(|_| mode != Mode::Off)?;
        Some((policy, mode, terms))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
