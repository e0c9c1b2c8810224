use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_core::key::KeyExtractor;
use http::request::Parts;
use tokio::time::Instant;

use super::account::{SharedAccount, SharedBill};
use super::breaker::Breaker;
use super::courier::Courier;
use super::held::Held;
use super::key::{Digester, Names};
use super::link::Link;
use super::permit::Permit;
use super::script::{Order, Question, Task};
use super::settings::RedisStore;
use super::shared::{Asking, Begun, Holdings, Outcome, Shared};
use super::table::Table;
use super::telemetry::{Source, StoreTally};
use crate::admission::Owed;
use crate::algorithm::Algorithm;
use crate::charged::Charged;
use crate::config::ConfigError;
use crate::decision::{Applied, Decision, PolicyId, Standing};
use crate::handle::RateLimitHandle;
use crate::limiter::{Bill, Charge, Limiter, LimiterBuilder};
use crate::tier::Tier;
use crate::window::Window;

type Bills = Owed<SharedBill>;

/// Rate limits without HTTP, shared by all instances that use the same Redis.
///
/// Redis decides, by its own clock, so instances need not agree on the time. With [`Leases`](super::Leases) it is asked
/// for some cells at a time. While it does not answer, [`OnFailure`](super::OnFailure) says who decides.
///
/// Clones are the same limiter. It must be used within a tokio runtime with time and I/O; where there are several, see
/// [`SharedLimiter::connect`].
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
    pub(super) shared: Arc<Shared>,
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
    /// Whether Redis is asked. If not, [`OnFailure`](super::OnFailure) decides, until a question that is let through is answered.
    pub is_asked: bool,
    /// How many questions were asked.
    pub asked: u64,
    /// How many of them were not answered, or not in time.
    pub failed: u64,
    /// How many requests Redis decided on.
    pub by_store: u64,
    /// How many were decided on by what was leased or known, without asking.
    pub by_lease: u64,
    /// How many were decided on by [`OnFailure`](super::OnFailure).
    pub by_rule: u64,
    /// How many requests wait until Redis has been told what they were charged late or are given back; 4,096 at the most,
    /// and 64 that it is being told of.
    pub late_waiting: usize,
    /// How many cells it could not be told of.
    pub late_lost: u64,
    /// For how many keys cells are held now.
    pub leases: usize,
}

impl LimiterBuilder {
    /// The limiter, with its state in Redis. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// As [`LimiterBuilder::build`]; if a value of the store is out of its bounds. The length of a sliding window is rounded
    /// up to whole microseconds, and so is the time between the cells of a burst that takes longer than 52 days to win back.
    pub fn build_shared(self, store: &RedisStore) -> Result<SharedLimiter, ConfigError> {
        SharedLimiter::new(Arc::new(self.shared().build()?), store)
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
        let target = store.check()?;
        let policies = (0..=u8::MAX).map(PolicyId).zip(limiter.tallies());
        let policies = policies.map(|(policy, tally)| {
            let length = match limiter.algorithm(policy) {
                Some(Algorithm::Window(window)) => Some(window.length() / Window::MICROSECOND),
                Some(Algorithm::Gcra(_)) | None => None,
            };
            (&**tally.name(), length)
        });
        let names = Names::new(&store.name, policies);
        let leases = store.leases.map(|leases| Holdings {
            table: Table::new(leases.max_keys),
            most: leases.most,
            returning: tokio::sync::Mutex::new(()),
        });
        // One that is longer would be too long for the clock.
        let timeout = store.timeout.min(RedisStore::MAX_PROBE_AFTER);
        Ok(Self {
            shared: Arc::new(Shared {
                limiter,
                label: Arc::clone(store.called()),
                digester: Digester::new(&store.secret),
                link: Link::new(target, names),
                breaker: Mutex::new(Breaker::new(store.failures, timeout, store.probe_after)),
                timeout: store.timeout,
                on_failure: store.on_failure,
                leases,
                tended: AtomicBool::new(false),
                closed: AtomicBool::new(false),
                courier: Courier::default(),
                tally: StoreTally::new(Arc::clone(store.called())),
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

    /// How things stand with Redis. The numbers are read one after the other, not at one instant. With leases, all places for
    /// them are looked at (see [`Leases::max_keys`](super::Leases::max_keys)): that is no call for each request.
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
            late_waiting: shared.courier.waiting(),
            late_lost: counts.late_lost,
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
    /// If Redis does not answer and the rule is [`OnFailure::Closed`](super::OnFailure::Closed), the decision refuses, and none of its policies
    /// is binding. Charges made by another limiter are ignored if it has more policies than this one.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the request has been charged once or not at all. What was taken out of leases for it is put
    /// back.
    pub async fn check_all(&self, charges: &[SharedCharge]) -> Decision {
        let outcome = match self.begin(charges, false) {
            Begun::Decided(outcome) => outcome,
            Begun::Asking(asking) => (*asking).finish().await,
        };
        outcome.decision
    }

    /// Connects to Redis, if there is no connection yet; says whether there is one. To be called when the instance starts:
    /// connecting may take longer than a request may wait. The first request does it otherwise.
    ///
    /// Connections are made in the runtime in which this was called last, also those that replace a lost one, whoever asks;
    /// without this call, in the one in which the limiter was built. It should be one that is never blocked and goes on until
    /// the limiter is [closed](SharedLimiter::close), and not that of some of the requests alone. When it has ended, or the
    /// limiter was built outside of any, they are made where they are needed.
    ///
    /// # Cancel safety
    ///
    /// Connecting goes on when it is dropped.
    pub async fn connect(&self) -> bool {
        self.shared.link.is_connected().await
    }

    /// How `key` stands with `policy` in Redis, without charging anything, under the quota of a tier or the policy's own.
    /// `None` for a policy of another limiter or one that is off, or if Redis does not answer.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing, and may be dropped at any time.
    pub async fn peek<K: Hash + ?Sized>(
        &self,
        policy: PolicyId,
        tier: Option<Tier>,
        key: &K,
    ) -> Option<Standing> {
        let shared = &self.shared;
        let charge = self.charge(policy, key, 0).tier(tier);
        let (applied, _) = shared.limiter.apply(&charge.local, 0)?;
        let question = Question {
            place: shared.place(&charge),
            algorithm: applied.algorithm,
            cost: 0,
            extra: 0,
            enforced: false,
        };
        let permit = Permit::of(shared)?;
        let answers = permit.ask(shared.link.ask(&[question])).await?;
        let seen = answers.of_policies.first()?.seen;
        Some(seen.standing(applied))
    }

    /// Charges a key without asking, as [`Limiter::charge_late`]: at most up to two bursts of debt. Returns how the key
    /// stands then; `None` for a policy of another limiter or one that is off.
    ///
    /// If Redis does not answer, the cells are lost, and counted; with [`OnFailure::LocalFallback`](super::OnFailure) this
    /// instance has noted them, and it is how the key stands here that is returned, with the other rules `None`.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the key has been charged once or not at all.
    pub async fn charge_late(&self, charge: SharedCharge) -> Option<Standing> {
        let shared = &self.shared;
        let (applied, _) = shared.limiter.apply(&charge.local, 0)?;
        if shared.follows() {
            let mut bill = Bill::empty(charge.local);
            let (cells, now) = (charge.local.cost, Instant::now());
            shared.limiter.debit(&mut bill, cells, now)?;
        }
        self.settle(charge, applied, Task::Charge).await
    }

    /// Takes `charge` off a key's debt, as far as there is any: a gift, as [`Limiter::refund`]. Returns how the key stands
    /// then; `None` for a policy of another limiter or one that is off. If Redis does not answer, it is as with
    /// [`SharedLimiter::charge_late`].
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, it has been given back once or not at all.
    pub async fn refund(&self, charge: SharedCharge) -> Option<Standing> {
        let shared = &self.shared;
        let (applied, _) = shared.limiter.apply(&charge.local, 0)?;
        if shared.follows() {
            shared.limiter.give(&charge.local, Instant::now());
        }
        self.settle(charge, applied, Task::Give).await
    }

    async fn settle(
        &self,
        charge: SharedCharge,
        applied: Applied<Algorithm>,
        task: Task,
    ) -> Option<Standing> {
        let shared = &self.shared;
        let order = Order {
            place: shared.place(&charge),
            algorithm: applied.algorithm,
            cells: charge.local.cost,
            task,
        };
        let Some((settled, seen)) = shared.settle_one(&order).await else {
            let standing = shared.limiter.standing(&charge.local, shared.now());
            return standing.filter(|_| shared.follows());
        };
        match task {
            Task::Charge => shared.limiter.tell_debit(&charge.local, settled),
            Task::Give | Task::Refund(_) => shared.limiter.tell_credit(&charge.local, settled),
        }
        Some(seen.standing(applied))
    }

    /// Frees `key` of its debt under `policy`, for all instances; says whether it had any. Cells that other instances
    /// have leased for it stay with them until they ask next, and what they know of a refusal holds for a second at most. `false`
    /// for a policy of another limiter, or if Redis does not answer.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, the key may be free in Redis or not; what this instance has leased for it and counted itself stays.
    pub async fn reset<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> bool {
        let shared = &self.shared;
        let Some(name) = shared.limiter.name(policy) else {
            return false;
        };
        let digest = shared.digester.digest(name, key);
        let Some(permit) = Permit::of(shared) else {
            return false;
        };
        let had = permit.ask(shared.link.reset(policy.index(), digest)).await;
        if let Some(holdings) = &shared.leases {
            holdings.table.known(digest, |entry| entry.lease.forget());
        }
        shared.limiter.reset(policy, key);
        had.unwrap_or(false)
    }

    /// Gives leased cells back to Redis that were not spent, as far as that is possible: those of keys that nobody has
    /// charged since, this instance included. Keys for which more is on its way keep theirs, and all do while it is being found
    /// out whether Redis answers again. Says how often cells were given back. Before the instance ends, [`SharedLimiter::close`] does it.
    ///
    /// # Cancel safety
    ///
    /// What was not given back when it is dropped is lost, and runs off.
    pub async fn give_back(&self) -> usize {
        let given = self.shared.give_back(self.shared.timeout, |_| true);
        given.await.map_or(0, |returned| returned.given)
    }

    /// For when the instance ends: leases nothing from here on, gives back what is leased, as far as that is possible, and
    /// tells Redis of late charges and refunds that it was not told of yet. Ends when that is done, and after `within` at
    /// the latest: to take leased cells back, Redis has all of that time, not only as much as a request may wait, unless it
    /// did not answer before and this is how it is found out whether it does again. A question that is under way for that is
    /// waited for: if whoever asked it is blocked, for [`timeout`](super::RedisStore::timeout) and
    /// [`probe_after`](super::RedisStore::probe_after) together, since nobody else may ask before. With less time than that, what
    /// is leased runs off then. Says how often cells were given back.
    ///
    /// The limiter goes on deciding: Redis is asked about each request. Without this call, when the last clone is dropped,
    /// leased cells run off by themselves and what Redis was not told of is lost.
    ///
    /// # Cancel safety
    ///
    /// As when `within` is over: what was not given back runs off.
    pub async fn close(&self, within: Duration) -> usize {
        let given = AtomicUsize::new(0);
        let _ = tokio::time::timeout(within, self.shared.close(&given)).await;
        given.into_inner()
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

    /// Decides, if that takes no question. With `billed`, it is said what the request may be charged later.
    pub(super) fn begin(&self, charges: &[SharedCharge], billed: bool) -> Begun {
        let shared = &self.shared;
        let mut items = shared.items(charges);
        if items.is_empty() {
            return Begun::Decided(Outcome::default());
        }
        let mut held = Held::new(Arc::clone(shared));
        if let Some(holdings) = &shared.leases
            && shared.decide_here(holdings, &mut items, &mut held, billed)
        {
            let outcome = shared.conclude(&items, Source::Lease, billed);
            shared.fetch_ahead(holdings, &items);
            return Begun::Decided(outcome);
        }
        match Permit::of(shared) {
            Some(leave) => Begun::Asking(Box::new(Asking {
                items,
                held,
                leave,
                billed,
            })),
            None => {
                drop(held);
                Begun::Decided(shared.decide_by_rule(&items, billed))
            }
        }
    }

    /// What an admitted request may still be charged.
    pub(super) fn account(&self, owed: Bills, outer: Option<Charged>) -> Charged {
        Charged::new(SharedAccount::new(Arc::clone(&self.shared), owed, outer))
    }
}
