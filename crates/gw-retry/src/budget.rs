//! How much extra load retries and hedges may make.
//!
//! A retry is a bet that the failure was this request's alone. When the upstream itself is failing, every retry makes it
//! worse; so what may be sent again is a part of what is sent at all. The decision is taken before the backoff, since
//! retries that wait are on their way as well, and what was decided and then not sent is given back.

mod active;
mod builder;
mod least;
mod live;
#[cfg(all(test, loom))]
mod loom_tests;
mod ratio;
#[cfg(feature = "tower")]
mod tower;

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use gw_core::Mode;
use gw_core::context::{TraceContext, UpstreamName};
use gw_core::mode::SharedMode;
use tokio::time::Instant;

use self::active::ActiveShare;
pub use self::builder::BudgetBuilder;
pub use self::live::BudgetSnapshot;
pub(crate) use self::ratio::Income;
pub use self::ratio::{RatioBudget, Taken};
use crate::backoff::nanos;
use crate::sync::{AtomicU64, Ordering};
use crate::telemetry::{self, BudgetMetrics};

/// A budget for retries and hedges, shared by all that are given a clone of it: make one for each upstream.
///
/// It is a [`RatioBudget`], a share of the requests that are on their way, or both; then a retry must fit into both.
/// What asks is what may be retried: requests that are sent once whatever happens neither add to it nor take from it.
///
/// # Examples
///
/// ```
/// use gw_retry::Budget;
/// use tokio::time::Instant;
///
/// let budget = Budget::builder("orders").ratio(0.2).min_per_second(0).build()?;
/// let now = Instant::now();
/// let requests: Vec<_> = (0..10).map(|_| budget.deposit(now)).collect();
/// let mut first = budget.withdraw(now).expect("a fifth of ten is two");
/// let second = budget.withdraw(now).expect("a fifth of ten is two");
/// assert!(budget.withdraw(now).is_none());
/// first.sent();
/// drop(second); // not sent: given back
/// assert!(budget.withdraw(now).is_some());
/// # drop(requests);
/// # Ok::<(), gw_retry::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

struct Shared {
    upstream: UpstreamName,
    ratio: Option<RatioBudget>,
    active: Option<ActiveShare>,
    mode: SharedMode,
    metrics: BudgetMetrics,
    /// When the last event was logged, in nanoseconds since `origin` and one more; 0 for never.
    logged: AtomicU64,
    origin: Instant,
}

/// At most one event in this time for each budget: it is a change of state, not a line for each request.
const QUIET: Duration = Duration::from_secs(1);

impl Budget {
    /// A budget for the upstream of this name, which is a label of metrics: it must come from configuration.
    ///
    /// Without further settings: a fifth of the requests of the last ten seconds, but ten a second in any case.
    pub fn builder(upstream: impl Into<Arc<str>>) -> BudgetBuilder {
        BudgetBuilder::new(upstream)
    }

    /// Counts a request that is sent for the first time at `now`. Hold what it returns for as long as the request is on its
    /// way.
    #[inline]
    pub fn deposit(&self, now: Instant) -> Deposit {
        self.enter(|ratio| ratio.count(now))
    }

    /// As [`deposit`](Self::deposit), of a request that is sent now.
    #[inline]
    pub(crate) fn deposit_now(&self) -> Deposit {
        self.enter(RatioBudget::count_now)
    }

    #[inline]
    fn enter(&self, count: impl FnOnce(&RatioBudget) -> Income) -> Deposit {
        let income = self.0.ratio.as_ref().map_or(Income::NOTHING, count);
        let active = self.0.active.as_ref().map(|active| {
            active.enter();
            self.clone()
        });
        Deposit { active, income }
    }

    /// A request has been refused further in, and was not sent: it brings nothing.
    pub(crate) fn take_back(&self, deposit: &Deposit) {
        if let Some(ratio) = &self.0.ratio {
            ratio.take_back(deposit.income);
        }
    }

    /// Takes one retry or hedge out at `now`. Ask when it is decided on, before it waits.
    ///
    /// In [`Mode::Shadow`] and [`Mode::Off`] there is always one; see [`Ticket::is_within`].
    #[inline]
    pub fn withdraw(&self, now: Instant) -> Option<Ticket> {
        self.withdraw_after(None, now)
    }

    /// As [`withdraw`](Self::withdraw), and with no place of its own if there is one to be had of the ticket `before`.
    fn withdraw_after(&self, before: Option<&Ticket>, now: Instant) -> Option<Ticket> {
        let instead = before.is_some_and(|before| before.placed);
        let taken = self.take(instead, now);
        if taken.is_none() && self.mode() == Mode::Enforce {
            return None;
        }
        Some(Ticket {
            budget: self.clone(),
            placed: taken.is_some() && !instead,
            taken,
            sent: false,
        })
    }

    /// One, if there is one, with what the ratio says of it. `instead` of one that has its place among those on their way.
    fn take(&self, instead: bool, now: Instant) -> Option<Taken> {
        let Shared { ratio, active, .. } = &*self.0;
        // First what can be undone without a trace: a refusal costs nothing.
        let fits = active.as_ref().is_none_or(|active| match instead {
            true => active.begin_instead(),
            false => active.begin_retry(),
        });
        if !fits {
            return None;
        }
        let taken = match ratio {
            None => Some(Taken::NOTHING),
            Some(ratio) => ratio.withdraw(now),
        };
        if let (None, Some(active), false) = (&taken, active, instead) {
            active.end_retry();
        }
        taken
    }

    /// As [`withdraw`](Self::withdraw), and whoever operates this hears of one that is not there. What follows on a retry that
    /// has failed may have the place of the ticket `before`, see [`Ticket::take_place_of`].
    pub(crate) fn spend(
        &self,
        before: Option<&Ticket>,
        trace: Option<&TraceContext>,
        now: Instant,
    ) -> Option<Ticket> {
        let ticket = self.withdraw_after(before, now);
        let within = ticket.as_ref().is_some_and(Ticket::is_within);
        if !within && self.mode() != Mode::Off {
            telemetry::exhausted(self, trace, now);
        }
        ticket
    }

    /// What it does.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.0.mode.get()
    }

    /// What it does from now on.
    pub fn set_mode(&self, mode: Mode) {
        if self.0.mode.set(mode) {
            telemetry::mode_changed("retry_budget", mode);
            self.warn_if_zero();
        }
    }

    /// The name of the upstream.
    pub fn upstream(&self) -> &UpstreamName {
        &self.0.upstream
    }

    /// Whether nothing can ever be taken out. A budget that is built so or becomes so is logged as a warning: failures that a
    /// retry would have hidden come through, and nothing else tells why. One that does not enforce is none, until it does.
    pub fn is_zero(&self) -> bool {
        if self.mode() != Mode::Enforce {
            return false;
        }
        let ratio = self.0.ratio.as_ref().is_some_and(RatioBudget::is_zero);
        ratio || self.0.active.as_ref().is_some_and(ActiveShare::is_zero)
    }

    fn warn_if_zero(&self) {
        if self.is_zero() {
            telemetry::zero_budget(self);
        }
    }

    /// How many retries could be taken out at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        let ratio = self.0.ratio.as_ref().map(|ratio| ratio.available(now));
        let active = self.0.active.as_ref().map(ActiveShare::available);
        ratio.unwrap_or(u64::MAX).min(active.unwrap_or(u64::MAX))
    }

    pub(crate) fn metrics(&self) -> &BudgetMetrics {
        &self.0.metrics
    }

    /// Whether an event that the budget is used up is due at `now`: the first one in a second.
    pub(crate) fn is_news(&self, now: Instant) -> bool {
        let now = nanos(now.saturating_duration_since(self.0.origin)).saturating_add(1);
        let last = self.0.logged.load(Ordering::Relaxed);
        let due = last == 0 || now.saturating_sub(last) >= nanos(QUIET);
        due && (self.0.logged)
            .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }
}

/// A request on its way, as its [`Budget`] counts it. Dropping it says that the request has ended.
#[derive(Debug)]
#[must_use = "the request counts as ended at once"]
pub struct Deposit {
    /// Only for a budget that counts them.
    active: Option<Budget>,
    income: Income,
}

impl Deposit {
    /// In no budget.
    pub(crate) const NONE: Self = Self {
        active: None,
        income: Income::NOTHING,
    };

    /// It, if it is to be held any longer.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<Self> {
        let active = Some(self.active.take()?);
        let income = self.income;
        Some(Self { active, income })
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        if let Some(active) = self.active.as_ref().and_then(|b| b.0.active.as_ref()) {
            active.leave();
        }
    }
}

/// A retry or hedge that was taken out of a [`Budget`].
///
/// Dropped before it was [`sent`](Self::sent), it goes back. Otherwise hold it for as long as what was sent is on its way.
#[derive(Debug)]
#[must_use = "a ticket that is dropped goes back"]
pub struct Ticket {
    budget: Budget,
    /// What the ratio says of it; none at all if there was nothing to take.
    taken: Option<Taken>,
    /// Whether it has a place among those on their way.
    placed: bool,
    sent: bool,
}

impl Ticket {
    /// Takes the place of the ticket that it was taken out after.
    pub(crate) const fn take_place_of(&mut self, before: &mut Self) {
        if self.is_within() {
            self.placed |= mem::replace(&mut before.placed, false);
        }
    }

    /// Whether the budget allowed for it, whatever its mode.
    pub const fn is_within(&self) -> bool {
        self.taken.is_some()
    }

    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// What it was taken out for has been sent: now it is spent.
    pub fn sent(&mut self) {
        self.sent = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        let Shared { ratio, active, .. } = &*self.budget.0;
        if let Some(ratio) = ratio.as_ref().filter(|_| !self.sent) {
            ratio.give_back(taken, Instant::now());
        }
        if let Some(active) = active.as_ref().filter(|_| self.placed) {
            active.end_retry();
        }
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget")
            .field("upstream", &self.0.upstream.as_str())
            .field("ratio", &self.0.ratio)
            .field("active", &self.0.active)
            .field("mode", &self.mode())
            .finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
