use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Account, Charged};
use crate::decision::{PolicyId, Standing};
use crate::limiter::{Bill, Limiter};

/// What a request owes to policies whose state is here.
pub(crate) struct LocalAccount {
    limiter: Arc<Limiter>,
    bills: SmallVec<[Owed; 2]>,
    changed: AtomicBool,
    outer: Option<Charged>,
}

struct Owed {
    policy: PolicyId,
    open: bool,
    bill: Mutex<Bill>,
}

impl LocalAccount {
    pub(crate) fn new(
        limiter: Arc<Limiter>,
        bills: impl IntoIterator<Item = (PolicyId, bool, Bill)>,
        outer: Option<Charged>,
    ) -> Self {
        let owed = |(policy, open, bill)| Owed {
            policy,
            open,
            bill: Mutex::new(bill),
        };
        Self {
            limiter,
            bills: bills.into_iter().map(owed).collect(),
            changed: AtomicBool::new(false),
            outer,
        }
    }

    /// One after the other, since each change goes by what was charged until then.
    fn with<T>(&self, place: usize, see: impl FnOnce(&mut Bill) -> T) -> Option<T> {
        let owed = self.bills.get(place)?;
        let mut bill = owed.bill.lock().unwrap_or_else(PoisonError::into_inner);
        Some(see(&mut bill))
    }

    fn note(&self, cells: u32) {
        if cells > 0 {
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

// What changed is told when the bill's lock is released: foreign code may run.
impl Account for LocalAccount {
    fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    fn policy(&self, place: usize) -> Option<(PolicyId, bool)> {
        let owed = self.bills.get(place)?;
        Some((owed.policy, owed.open))
    }

    fn charge(&self, place: usize, cells: u32) -> Option<u32> {
        let debit = |bill: &mut Bill| {
            let charged = self.limiter.debit(bill, cells, Instant::now());
            charged.map(|cells| (*bill.charge(), cells))
        };
        let (charge, cells) = self.with(place, debit)??;
        self.note(cells);
        self.limiter.tell_debit(&charge, cells);
        Some(cells)
    }

    fn refund(&self, place: usize, cells: u32) -> u32 {
        let credit = |bill: &mut Bill| {
            let given = self.limiter.credit(bill, cells, Instant::now());
            (*bill.charge(), given)
        };
        let Some((charge, cells)) = self.with(place, credit) else {
            return 0;
        };
        self.note(cells);
        self.limiter.tell_credit(&charge, cells);
        cells
    }

    fn standing(&self, place: usize, _: &Standing, now: u64) -> Option<Standing> {
        self.with(place, |bill| self.limiter.standing(bill.charge(), now))?
    }

    fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    fn outer(&self) -> Option<&Charged> {
        self.outer.as_ref()
    }
}
