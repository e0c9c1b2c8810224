use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use gw_core::key::KeyExtractor;
use http::request::Parts;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::breaker::{Breaker, Change, Leave};
use super::held::Held;
use super::key::{Digester, Names};
use super::lease::{Grant, Lease};
use super::link::{Failure, Link};
use super::script::{Answer, Answers, Question, Return};
use super::settings::{OnFailure, RedisStore};
use super::table::Table;
use super::telemetry::{Source, StoreTally};
use crate::algorithm::Algorithm;
use crate::config::{ConfigError, Mode};
use crate::decision::{Applied, Decision, PolicyId, Ruling, Standing};
use crate::gcra::Gcra;
use crate::handle::RateLimitHandle;
use crate::limiter::{Charge, Limiter, LimiterBuilder};
use crate::tier::Tier;
use crate::verdict::Verdict;

/// Rate limits without HTTP, shared by all instances that use the same Redis.
///
/// Redis decides, by its own clock, so instances need not agree on the time. With [`Leases`](super::Leases) it is asked
/// for some cells at a time. While it does not answer, [`OnFailure`] says who decides.
///
/// Clones are the same limiter. It must be used within a tokio runtime with time and I/O.
///
/// # Examples
///
/// ```no_run
/// use gw_ratelimit::redis::RedisStore;
/// use gw_ratelimit::{Limiter, Quota};
///
/// # async fn example(secret: &[u8]) -> Result<(), gw_ratelimit::ConfigError> {
/// let limiter = Limiter::builder()
///     .policy("mails", Quota::per_hour(10).burst(2))
///     .build_shared(&RedisStore::new("redis://127.0.0.1", "mailer", secret))?;
/// let mails = limiter.policy("mails").unwrap();
/// if limiter.check(mails, "ann@example.com", 1).await.is_allowed() {
///     // Send it.
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SharedLimiter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// Holds the policies, and decides where Redis cannot.
    limiter: Arc<Limiter>,
    name: Arc<str>,
    digester: Digester,
    link: Link,
    breaker: Mutex<Breaker>,
    timeout: Duration,
    on_failure: OnFailure,
    leases: Option<Holdings>,
    /// Whether a task gives back what is not spent.
    tended: AtomicBool,
    tally: StoreTally,
}

/// Who gives back what is not spent. Another one may, when this one is gone.
struct Tending(Weak<Shared>);

/// The leases of this instance.
#[derive(Debug)]
pub(super) struct Holdings {
    pub(super) table: Table,
    /// The most cells of one lease.
    most: u32,
}

/// A key of one policy and what it is to pay. Made by [`SharedLimiter::charge`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedCharge {
    pub(super) local: Charge,
    pub(super) digest: u128,
}

/// How things stand between a limiter and Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreSnapshot {
    /// Whether Redis is asked. If not, [`OnFailure`] decides, until a question that is let through is answered.
    pub is_asked: bool,
    /// How many questions were asked.
    pub asked: u64,
    /// How many of them were not answered, or not in time.
    pub failed: u64,
    /// How many requests Redis decided on.
    pub by_store: u64,
    /// How many were decided on by what was leased or known, without asking.
    pub by_lease: u64,
    /// How many were decided on by [`OnFailure`].
    pub by_rule: u64,
    /// For how many keys cells are held now.
    pub leases: usize,
}

/// One policy of a request that is being decided.
#[derive(Debug, Clone, Copy)]
struct Item {
    charge: SharedCharge,
    applied: Applied,
    gcra: Gcra,
    /// What it pays: more than the charge says, if the key has strikes here.
    cost: u32,
    /// What was decided here, if it was. Else what is asked, and for how many cells.
    known: Option<Verdict>,
    lacking: u32,
    extra: u32,
}

type Items = SmallVec<[Item; 4]>;

/// A request that is decided, or that Redis has to be asked about.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "it is moved once, and a box for the large one would be for each request"
)]
pub(super) enum Begun {
    Decided(Decision),
    Asking(Box<Asking>),
}

/// A question that is about to be asked. Dropping it, at any time, gives back what it holds.
#[derive(Debug)]
pub(super) struct Asking {
    items: Items,
    held: Held,
    leave: Permit,
}

/// Leave to ask. It must come to something, or the next one could not have it.
#[derive(Debug)]
struct Permit {
    shared: Arc<Shared>,
    leave: Option<Leave>,
}

impl LimiterBuilder {
    /// The limiter, with its state in Redis. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// As [`LimiterBuilder::build`]; if a value of the store is out of its bounds, or a quota is a sliding window.
    pub fn build_shared(self, store: &RedisStore) -> Result<SharedLimiter, ConfigError> {
        SharedLimiter::new(Arc::new(self.rates_only().build()?), store)
    }
}

impl SharedCharge {
    /// The same under the quota of a tier; see [`SharedLimiter::tier`].
    #[must_use]
    pub const fn tier(mut self, tier: Option<Tier>) -> Self {
        self.local = self.local.tier(tier);
        self
    }
}

impl SharedLimiter {
    pub(super) fn new(limiter: Arc<Limiter>, store: &RedisStore) -> Result<Self, ConfigError> {
        let info = store.check()?;
        let policies = limiter.tallies().iter().map(|tally| tally.name());
        let names = Names::new(&store.name, policies);
        let leases = store.leases.map(|leases| Holdings {
            table: Table::new(leases.max_keys),
            most: leases.most,
        });
        Ok(Self {
            shared: Arc::new(Shared {
                limiter,
                name: Arc::clone(&store.name),
                digester: Digester::new(&store.secret),
                link: Link::new(info, names),
                breaker: Mutex::new(Breaker::new(store.failures, store.probe_after)),
                timeout: store.timeout,
                on_failure: store.on_failure,
                leases,
                tended: AtomicBool::new(false),
                tally: StoreTally::new(Arc::clone(&store.name)),
            }),
        })
    }

    /// The policy of this name.
    pub fn policy(&self, name: &str) -> Option<PolicyId> {
        self.shared.limiter.policy(name)
    }

    /// The tier of this name of a policy.
    pub fn tier(&self, policy: PolicyId, name: &str) -> Option<Tier> {
        self.shared.limiter.tier(policy, name)
    }

    /// A handle for whoever operates the limiter: modes, quotas, and what was decided here. It changes this instance
    /// only, and what it tells of keys is what the local fallback knows; for the shared state see
    /// [`SharedLimiter::peek`] and [`SharedLimiter::reset`].
    ///
    /// Debts stay when a quota is changed, also those above what the new one can mean: instances change one after the
    /// other, and the old quota may still be in force elsewhere. They run off, or are reset.
    pub fn handle(&self) -> RateLimitHandle {
        self.shared.limiter.handle()
    }

    /// How things stand with Redis. The numbers are read one after the other, not at one instant.
    pub fn store(&self) -> StoreSnapshot {
        let shared = &self.shared;
        let counts = shared.tally.counts();
        let now = shared.now();
        let holdings = shared.leases.as_ref();
        let leases = holdings.map_or(0, |holdings| holdings.held(now));
        StoreSnapshot {
            is_asked: shared.breaker().is_closed(),
            asked: counts.asked,
            failed: counts.failed,
            by_store: counts.by_store,
            by_lease: counts.by_lease,
            by_rule: counts.by_rule,
            leases,
        }
    }

    /// Decides on a request of `cost` cells that one policy applies to, and charges it if it may pass.
    ///
    /// # Cancel safety
    ///
    /// As [`SharedLimiter::check_all`].
    pub async fn check<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K, cost: u32) -> Decision {
        let charge = self.charge(policy, key, cost);
        self.check_all(&[charge]).await
    }

    /// What `key` is to pay under `policy`, for [`SharedLimiter::check_all`].
    pub fn charge<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K, cost: u32) -> SharedCharge {
        let name = self.shared.limiter.name(policy).unwrap_or_default();
        SharedCharge {
            local: self.shared.limiter.charge(policy, key, cost),
            digest: self.shared.digester.digest(name, key),
        }
    }

    /// Decides on a request that several policies apply to. It is charged to all of them or to none.
    ///
    /// If Redis does not answer and the rule is [`OnFailure::Closed`], the decision refuses, and none of its policies
    /// is binding. Charges made by another limiter are ignored if it has more policies than this one.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the request has been charged once or not at all. What was taken out of leases for it is put
    /// back.
    pub async fn check_all(&self, charges: &[SharedCharge]) -> Decision {
        match self.begin(charges) {
            Begun::Decided(decision) => decision,
            Begun::Asking(asking) => (*asking).finish().await,
        }
    }

    /// Connects to Redis, if there is no connection yet; says whether there is one. To be called when the instance starts:
    /// connecting may take longer than a request may wait. The first request does it otherwise.
    ///
    /// # Cancel safety
    ///
    /// Connecting goes on when it is dropped.
    pub async fn connect(&self) -> bool {
        self.shared.link.is_connected().await
    }

    /// How `key` stands with `policy` in Redis, without charging anything, under the quota of a tier or the policy's own.
    /// `None` for a policy of another limiter or one that is off, or if Redis does not answer.
    pub async fn peek<K: Hash + ?Sized>(
        &self,
        policy: PolicyId,
        tier: Option<Tier>,
        key: &K,
    ) -> Option<Standing> {
        let shared = &self.shared;
        let charge = self.charge(policy, key, 0).tier(tier);
        let (applied, _) = shared.limiter.apply(&charge.local, 0)?;
        let Algorithm::Gcra(gcra) = applied.algorithm else {
            return None;
        };
        let question = Question {
            policy: policy.index(),
            digest: charge.digest,
            gcra,
            cost: 0,
            extra: 0,
            enforced: false,
        };
        let permit = Permit::of(shared)?;
        let answers = permit.ask(shared.link.ask(&[question])).await?;
        let state = answers.of_policies.first()?.debt;
        Some(Standing::new(applied, Verdict::Allow { state }, 0))
    }

    /// Frees `key` of its debt under `policy`, for all instances; says whether it had any. Cells that other instances
    /// have leased for it stay with them. `false` for a policy of another limiter, or if Redis does not answer.
    pub async fn reset<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> bool {
        let shared = &self.shared;
        if shared.limiter.name(policy).is_none() {
            return false;
        }
        let digest = self.charge(policy, key, 0).digest;
        let Some(permit) = Permit::of(shared) else {
            return false;
        };
        let had = permit.ask(shared.link.reset(policy.index(), digest)).await;
        if let Some(holdings) = &shared.leases {
            holdings.table.known(digest, |entry| entry.lease.forget());
        }
        let _ = shared
            .limiter
            .name(policy)
            .is_some_and(|name| self.handle().reset(name, key));
        had.unwrap_or(false)
    }

    /// Gives leased cells back to Redis that were not spent, as far as that is possible: those of keys that nobody else
    /// has charged since. Says how often that was so. To be called before the instance ends; without it the cells run
    /// off by themselves.
    ///
    /// # Cancel safety
    ///
    /// What was not given back when it is dropped is lost, and runs off.
    pub async fn give_back(&self) -> usize {
        self.shared.give_back(|_| true).await
    }

    /// The charge in Redis for one made here, of a request's key or of its lack.
    pub(crate) fn share<K: KeyExtractor>(
        &self,
        local: Charge,
        extractor: &K,
        parts: &Parts,
    ) -> SharedCharge {
        let digester = &self.shared.digester;
        let tally = self.shared.limiter.tallies().get(local.key.policy());
        let name = tally.map_or("", |tally| tally.name());
        let digest = digester.digest_of(name, extractor, parts);
        // It was charged locally, so its rule counts those who lack the key.
        let digest = digest.unwrap_or_else(|_| digester.keyless(name));
        SharedCharge { local, digest }
    }

    /// Decides, if that takes no question.
    pub(super) fn begin(&self, charges: &[SharedCharge]) -> Begun {
        let shared = &self.shared;
        let mut items = shared.items(charges);
        if items.is_empty() {
            return Begun::Decided(Decision::default());
        }
        let mut held = Held::new(Arc::clone(shared));
        if let Some(holdings) = &shared.leases
            && shared.decide_here(holdings, &mut items, &mut held)
        {
            let decision = shared.conclude(&items, Source::Lease);
            shared.fetch_ahead(holdings, &items);
            return Begun::Decided(decision);
        }
        match Permit::of(shared) {
            Some(leave) => Begun::Asking(Box::new(Asking { items, held, leave })),
            None => {
                drop(held);
                Begun::Decided(shared.decide_by_rule(&items))
            }
        }
    }
}

impl Asking {
    /// Asks and decides.
    pub(super) async fn finish(self) -> Decision {
        let Self {
            mut items,
            held,
            leave,
        } = self;
        let shared = Arc::clone(&leave.shared);
        let questions = questions(&items);
        let sent = shared.now();
        let answers = leave.ask(shared.link.ask(&questions)).await;
        let Some(answers) = answers else {
            drop(held);
            return shared.decide_by_rule(&items);
        };
        shared.hear(&mut items, &answers, sent);
        if !items.iter().any(Item::refuses) {
            held.keep();
        }
        shared.conclude(&items, Source::Store)
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.limiter.nanos(Instant::now())
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Nothing in there panics half way.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn holdings(&self) -> Option<&Holdings> {
        self.leases.as_ref()
    }

    /// The policies that are asked: all that apply and are not off.
    fn items(&self, charges: &[SharedCharge]) -> Items {
        let now = self.now();
        let item = |charge: &SharedCharge| {
            let (applied, cost) = self.limiter.apply(&charge.local, now)?;
            // No other was built, nor can be changed to.
            let Algorithm::Gcra(gcra) = applied.algorithm else {
                return None;
            };
            Some(Item {
                charge: *charge,
                applied,
                gcra,
                cost,
                known: None,
                lacking: cost,
                extra: 0,
            })
        };
        charges.iter().filter_map(item).collect()
    }

    /// Decides by what is known and leased here. `false` if Redis has to be asked for what is lacking; what is not is
    /// held then.
    fn decide_here(&self, holdings: &Holdings, items: &mut Items, held: &mut Held) -> bool {
        let now = self.now();
        for item in &mut *items {
            let decide =
                |entry: &mut super::table::Entry| entry.lease.decide(&item.gcra, item.cost, now);
            match holdings.table.known(item.charge.digest, decide) {
                Some(Verdict::Allow { .. }) => {}
                None if item.cost <= item.gcra.burst() => {}
                None => item.known = Some(Verdict::DenyForever { state: now }),
                Some(denied) => item.known = Some(denied),
            }
        }
        let refused = items.iter().any(Item::refuses);
        let mut asking = false;
        for item in &mut *items {
            if item.known.is_some() {
                continue;
            }
            let (digest, gcra, cost) = (item.charge.digest, item.gcra, item.cost);
            if refused {
                // Nothing is charged, and nothing asked.
                let known = holdings
                    .table
                    .known(digest, |entry| entry.lease.balance(now));
                let tat = known.unwrap_or(now);
                item.known = Some(Verdict::Allow { state: tat });
                continue;
            }
            let taken = holdings
                .table
                .place((digest, item.applied.policy.0), now, |entry| {
                    let spent = entry.lease.spend(&gcra, cost, now);
                    let lacking = cost - spent.cells();
                    if lacking == 0 {
                        let tat = entry.lease.balance(now);
                        return (spent, lacking, 0, Some(tat));
                    }
                    let extra = if entry.fetching {
                        0
                    } else {
                        entry.lease.extra(&gcra, holdings.most, now)
                    };
                    entry.fetching |= extra > 0;
                    (spent, lacking, extra, None)
                });
            // Without a place there, it is asked for what it costs and no more.
            let Some((spent, lacking, extra, balance)) = taken else {
                asking |= cost > 0;
                if cost == 0 {
                    item.known = Some(Verdict::Allow { state: now });
                }
                continue;
            };
            held.spent(digest, spent);
            if extra > 0 {
                held.fetching(digest);
            }
            item.known = balance.map(|tat| Verdict::Allow { state: tat });
            (item.lacking, item.extra) = (lacking, extra);
            asking |= item.known.is_none();
        }
        if !asking && !refused {
            held.spend();
        }
        !asking
    }

    /// Takes note of what Redis answered.
    fn hear(self: &Arc<Self>, items: &mut Items, answers: &Answers, sent: u64) {
        let now = self.now();
        let asked = items.iter_mut().filter(|item| item.known.is_none());
        for (item, answer) in asked.zip(&answers.of_policies) {
            let (mut tat, mut pause) = (now.saturating_add(answer.debt), 0);
            if let Some(holdings) = &self.leases {
                let grant = Grant {
                    debt: answer.debt,
                    leased: answer.leased,
                    clock: answers.clock,
                    limited: answer.ruling != Ruling::Allowed,
                };
                let (gcra, extra) = (item.gcra, item.extra);
                let known = holdings.table.known(item.charge.digest, |entry| {
                    entry.lease.told(&gcra, grant, extra, sent, now);
                    (entry.lease.balance(now), entry.lease.pause(now))
                });
                (tat, pause) = known.unwrap_or((tat, pause));
            }
            if answer.leased > 0 {
                self.tend();
            }
            item.known = Some(item.verdict(answer, tat, pause));
        }
    }

    /// Sees to it that cells which nobody spends are given back, for as long as there are any.
    fn tend(self: &Arc<Self>) {
        // Nothing else is read by it.
        if self.tended.swap(true, Ordering::Relaxed) {
            return;
        }
        let tending = Tending(Arc::downgrade(self));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Lease::HOLD).await;
                let Some(shared) = tending.0.upgrade() else {
                    return;
                };
                let now = shared.now();
                shared.give_back(|lease| lease.is_stale(now)).await;
                let holdings = shared.leases.as_ref();
                if holdings.is_none_or(|holdings| holdings.held(shared.now()) == 0) {
                    return;
                }
            }
        });
    }

    /// The decision, once it is known what each policy says.
    fn conclude(&self, items: &Items, source: Source) -> Decision {
        let now = self.now();
        let mut decision = Decision::default();
        for item in items {
            // All are known by now.
            let verdict = item.known.unwrap_or(Verdict::Allow { state: now });
            decision.push(Standing::new(item.applied, verdict, now));
        }
        if decision.is_allowed() && self.on_failure == OnFailure::LocalFallback {
            let charged = items.iter().filter(|item| item.is_allowed());
            let charged = charged.map(|item| (item.charge.local, item.cost));
            self.limiter.follow(charged, now);
        }
        let charges: SmallVec<[Charge; 4]> = items.iter().map(|item| item.charge.local).collect();
        self.limiter.conclude(&charges, &mut decision, now);
        self.tally.decided(source);
        decision
    }

    /// The decision while Redis does not answer.
    fn decide_by_rule(&self, items: &Items) -> Decision {
        self.tally.decided(Source::Failure(self.on_failure));
        let mut decision = Decision::default();
        match self.on_failure {
            OnFailure::LocalFallback => {
                let charges: SmallVec<[Charge; 4]> =
                    items.iter().map(|item| item.charge.local).collect();
                self.limiter
                    .decide(&charges, self.now(), &mut decision, None);
            }
            OnFailure::Open => {}
            OnFailure::Closed => {
                if items.iter().any(|item| item.applied.mode == Mode::Enforce) {
                    decision.refuse();
                }
            }
        }
        decision
    }

    /// Fetches more for those keys of which half is gone, so that the next request need not wait.
    fn fetch_ahead(self: &Arc<Self>, holdings: &Holdings, items: &Items) {
        let now = self.now();
        let mut wanted = Items::new();
        for item in items {
            let extra = holdings.table.known(item.charge.digest, |entry| {
                if entry.fetching || !entry.lease.is_half_gone(now) {
                    return 0;
                }
                let extra = entry.lease.extra(&item.gcra, holdings.most, now);
                entry.fetching = extra > 0;
                extra
            });
            let Some(extra @ 1..) = extra else { continue };
            wanted.push(Item {
                known: None,
                lacking: 0,
                extra,
                ..*item
            });
        }
        if wanted.is_empty() {
            return;
        }
        let mut held = Held::new(Arc::clone(self));
        for item in &wanted {
            held.fetching(item.charge.digest);
        }
        let Some(permit) = Permit::of(self) else {
            return;
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            // Given back when it is over.
            let _held = held;
            let questions = questions(&wanted);
            let sent = shared.now();
            if let Some(answers) = permit.ask(shared.link.ask(&questions)).await {
                shared.hear(&mut wanted, &answers, sent);
            }
        });
    }

    async fn give_back(self: &Arc<Self>, which: impl Fn(&Lease) -> bool) -> usize {
        let Some(holdings) = &self.leases else {
            return 0;
        };
        let now = self.now();
        let mut unspent = Vec::new();
        holdings.table.each(|digest, entry| {
            if which(&entry.lease) {
                // The last ones first: those before them are the last ones then.
                while let Some(cells) = entry.lease.take_unspent(now) {
                    unspent.push((digest, entry.policy, cells));
                }
            }
        });
        let mut given = 0;
        for (digest, policy, cells) in unspent {
            let Some(permit) = Permit::of(self) else {
                break;
            };
            let cells = Return {
                policy: policy.into(),
                digest,
                end: cells.end,
                start: cells.start,
            };
            let done = permit.ask(self.link.give_back(&cells)).await;
            given += usize::from(done == Some(true));
        }
        given
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.tended.store(false, Ordering::Relaxed);
        }
    }
}

impl Holdings {
    /// For how many keys there are cells.
    fn held(&self, now: u64) -> usize {
        let mut held = 0;
        self.table
            .each(|_, entry| held += usize::from(entry.lease.available(now) > 0));
        held
    }
}

impl Item {
    fn question(&self) -> Question {
        Question {
            policy: self.applied.policy.index(),
            digest: self.charge.digest,
            gcra: self.gcra,
            cost: self.lacking,
            extra: self.extra,
            enforced: self.applied.mode == Mode::Enforce,
        }
    }

    fn verdict(&self, answer: &Answer, tat: u64, pause: u64) -> Verdict {
        match answer.ruling {
            Ruling::Allowed => Verdict::Allow { state: tat },
            Ruling::Limited => {
                let after = answer.debt.saturating_add(self.gcra.cost(self.lacking));
                // Redis may count in coarser units than these.
                let wait = after.saturating_sub(self.gcra.tolerance()).max(1);
                // Nor is it asked again before that.
                let wait = wait.max(pause);
                Verdict::Deny { state: tat, wait }
            }
            Ruling::TooCostly => Verdict::DenyForever { state: tat },
        }
    }

    fn is_allowed(&self) -> bool {
        matches!(self.known, Some(Verdict::Allow { .. }))
    }

    fn refuses(&self) -> bool {
        self.applied.mode == Mode::Enforce && self.known.is_some() && !self.is_allowed()
    }
}

/// What is not known here.
fn questions(items: &Items) -> SmallVec<[Question; 4]> {
    let unknown = items.iter().filter(|item| item.known.is_none());
    unknown.map(Item::question).collect()
}

impl Permit {
    fn of(shared: &Arc<Shared>) -> Option<Self> {
        let leave = shared.breaker().leave(Instant::now())?;
        Some(Self {
            shared: Arc::clone(shared),
            leave: Some(leave),
        })
    }

    /// Waits for the answer, and no longer than is allowed.
    async fn ask<T>(mut self, answer: impl Future<Output = Result<T, Failure>>) -> Option<T> {
        let shared = Arc::clone(&self.shared);
        let tally = &shared.tally;
        tally.asked();
        let sent = Instant::now();
        let answer = tokio::time::timeout(shared.timeout, answer).await;
        let took = sent.elapsed();
        let answer = answer.unwrap_or(Err(Failure::Timeout));
        let leave = self.leave.take()?;
        match answer {
            Ok(answer) => {
                tally.answered(took);
                let change = shared.breaker().answered(leave);
                if change == Change::Closed {
                    tally.mode(&shared.name, true, shared.on_failure);
                }
                Some(answer)
            }
            Err(failure) => {
                tally.failed(&failure, took);
                let change = shared.breaker().failed(leave, Instant::now());
                if change == Change::Opened {
                    tally.opened(&shared.name, &failure, shared.on_failure);
                }
                if !shared.breaker().is_closed() {
                    shared.link.renew();
                }
                None
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(leave) = self.leave.take() {
            self.shared.breaker().abandoned(leave, Instant::now());
        }
    }
}
