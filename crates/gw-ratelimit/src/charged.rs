//! What an admitted request pays later.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use http::Extensions;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::decision::{PolicyId, Standing};
use crate::limiter::{Bill, Charge, Limiter};

/// Charges or pays back an admitted request while it is served, when it turns out what it costs.
///
/// A [`RateLimitLayer`](crate::RateLimitLayer) puts it into the extensions of requests that it lets pass, if one of its
/// policies takes [late charges](crate::Policy::late_charges). Clones speak of the same request, and may outlive it.
///
/// # Examples
///
/// ```
/// use gw_ratelimit::Charged;
/// use http::Request;
///
/// fn search(request: &Request<()>) {
///     let matches = 1_200;
///     if let Some(charged) = Charged::of(request.extensions()) {
///         charged.charge("searches", matches / 100);
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Charged(Arc<Account>);

/// What one request owes to the policies that may change it later.
struct Account {
    limiter: Arc<Limiter>,
    bills: SmallVec<[Owed; 2]>,
    /// Whether anything was charged or given back since the request was admitted.
    changed: AtomicBool,
    /// That of the same kind of layer further out.
    outer: Option<Charged>,
}

struct Owed {
    policy: PolicyId,
    /// Whether it can be found by the policy's name, or is the layer's alone.
    open: bool,
    bill: Mutex<Bill>,
}

/// One policy's part in a [`Charged`].
#[derive(Clone)]
pub(crate) struct Seat {
    charged: Charged,
    index: usize,
}

impl Charged {
    /// What stands in a request's extensions.
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Charges `cells` more to the policy of this name: how many were charged.
    ///
    /// The request has been admitted, so nothing is refused; the client's next request is, while the debt lasts. A debt
    /// never gets beyond two bursts: what would go beyond is not charged. `None` if no policy of this name takes late
    /// charges for this request, because there is none, it does not apply or it is off.
    pub fn charge(&self, policy: &str, cells: u32) -> Option<u32> {
        Some(self.seat(policy)?.charge(cells))
    }

    /// Gives back `cells` of what this request was charged under the policy of this name, when it was admitted or later:
    /// how many were given back.
    ///
    /// Never more than it was charged and has not got back yet. What of it the time has paid off already is counted as
    /// given back, and brings the client nothing; nor does what was charged to a key that was forgotten for want of room.
    /// After an operator has cut or freed debts of the policy, nothing is given back that was charged before. `None` as
    /// with [`Charged::charge`].
    pub fn refund(&self, policy: &str, cells: u32) -> Option<u32> {
        Some(self.seat(policy)?.refund(cells))
    }

    pub(crate) fn new(
        limiter: Arc<Limiter>,
        bills: impl IntoIterator<Item = (PolicyId, bool, Bill)>,
        outer: Option<Self>,
    ) -> Self {
        let owed = |(policy, open, bill)| Owed {
            policy,
            open,
            bill: Mutex::new(bill),
        };
        Self(Arc::new(Account {
            limiter,
            bills: bills.into_iter().map(owed).collect(),
            changed: AtomicBool::new(false),
            outer,
        }))
    }

    /// The innermost layer's policy of this name, if it takes late charges for this request.
    pub(crate) fn seat(&self, policy: &str) -> Option<Seat> {
        let layers = std::iter::successors(Some(self), |charged| charged.0.outer.as_ref());
        for charged in layers {
            let Account { limiter, bills, .. } = &*charged.0;
            let named = |owed: &Owed| owed.open && limiter.name(owed.policy) == Some(policy);
            if let Some(index) = bills.iter().position(named) {
                let charged = charged.clone();
                return Some(Seat { charged, index });
            }
        }
        None
    }

    /// Whether some layer's policy has this name, applying or not.
    pub(crate) fn knows(&self, policy: &str) -> bool {
        let mut layers = std::iter::successors(Some(self), |charged| charged.0.outer.as_ref());
        layers.any(|charged| charged.0.limiter.policy(policy).is_some())
    }

    /// Whether anything was charged or given back since the request was admitted.
    pub(crate) fn has_changed(&self) -> bool {
        self.0.changed.load(Ordering::Relaxed)
    }

    /// The policies in here, found by their names or not.
    pub(crate) fn seats(&self) -> impl Iterator<Item = (PolicyId, Seat)> {
        self.0.bills.iter().enumerate().map(|(index, owed)| {
            let charged = self.clone();
            (owed.policy, Seat { charged, index })
        })
    }
}

impl Seat {
    pub(crate) fn charge(&self, cells: u32) -> u32 {
        let debit = |limiter: &Limiter, bill: &mut Bill| limiter.debit(bill, cells, Instant::now());
        self.change(debit, Limiter::tell_debit)
    }

    pub(crate) fn refund(&self, cells: u32) -> u32 {
        let credit =
            |limiter: &Limiter, bill: &mut Bill| limiter.credit(bill, cells, Instant::now());
        self.change(credit, Limiter::tell_credit)
    }

    /// How the request stands with the policy now.
    pub(crate) fn standing(&self, now: u64) -> Option<Standing> {
        self.with(|limiter, bill| limiter.standing(bill.charge(), now))?
    }

    /// How many cells changed hands. That is told when the bill's lock is released.
    fn change(
        &self,
        change: impl FnOnce(&Limiter, &mut Bill) -> u32,
        tell: impl FnOnce(&Limiter, &Charge, u32),
    ) -> u32 {
        let changed = self.with(|limiter, bill| (*bill.charge(), change(limiter, bill)));
        let Some((charge, cells)) = changed.filter(|(_, cells)| *cells > 0) else {
            return 0;
        };
        self.charged.0.changed.store(true, Ordering::Relaxed);
        tell(&self.charged.0.limiter, &charge, cells);
        cells
    }

    /// One after the other, since each change goes by what was charged until then.
    fn with<T>(&self, see: impl FnOnce(&Limiter, &mut Bill) -> T) -> Option<T> {
        let account = &*self.charged.0;
        let owed = account.bills.get(self.index)?;
        let mut bill = owed.bill.lock().unwrap_or_else(PoisonError::into_inner);
        Some(see(&account.limiter, &mut bill))
    }
}

impl fmt::Debug for Charged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Account { limiter, bills, .. } = &*self.0;
        let names = bills.iter().filter_map(|owed| limiter.name(owed.policy));
        f.debug_list().entries(names).finish()
    }
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}
