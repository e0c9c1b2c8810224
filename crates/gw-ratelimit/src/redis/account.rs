//! What an admitted request owes to policies whose state is in Redis.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::limiter::SharedCharge;
use super::receipt::{Paid, Receipt};
use super::script::{Order, Place, Settled, Task};
use super::shared::Shared;
use crate::algorithm::Algorithm;
use crate::charged::{Account, Charged};
use crate::decision::{PolicyId, Standing};
use crate::limiter::{Bill, Limiter};

/// What one request was charged under one policy, and has not got back.
#[derive(Debug)]
pub(super) struct SharedBill {
    pub(super) charge: SharedCharge,
    /// What can be given back in Redis.
    cells: u32,
    paid: Paid,
    /// The same where this instance counts along.
    local: Bill,
    /// What Redis is not told yet: charges above 0, refunds below.
    due: i64,
    /// Whether somebody is going to tell it.
    waiting: bool,
    /// What changed since the request was admitted.
    charged: u32,
    refunded: u32,
}

/// One policy of an account. It waits in line to be settled, and so may outlive the account.
#[derive(Debug)]
pub(super) struct Owed {
    policy: PolicyId,
    open: bool,
    bill: Mutex<SharedBill>,
}

pub(super) struct SharedAccount {
    shared: Arc<Shared>,
    owed: SmallVec<[Arc<Owed>; 2]>,
    changed: AtomicBool,
    outer: Option<Charged>,
    /// Where the request was admitted: changes may be made outside of any runtime.
    runtime: Option<Handle>,
}

impl SharedBill {
    pub(super) const fn new(charge: SharedCharge, paid: Paid, cells: u32, local: Bill) -> Self {
        Self {
            charge,
            cells,
            paid,
            local,
            due: 0,
            waiting: false,
            charged: 0,
            refunded: 0,
        }
    }

    /// Notes that cells are to be charged: how many. What two bursts have no room for in any case is not.
    fn charge(&mut self, algorithm: &Algorithm, cells: u32) -> u32 {
        let most = i64::from(algorithm.with_double_burst().burst());
        let room = most.saturating_sub(self.due).max(0);
        let cells = u32::try_from(room).unwrap_or(u32::MAX).min(cells);
        self.due += i64::from(cells);
        self.cells = self.cells.saturating_add(cells);
        self.charged = self.charged.saturating_add(cells);
        cells
    }

    /// Notes that cells are to be given back, after this instance has given back `here` of them: how many it is. What only one
    /// of both was charged comes back where it was.
    fn refund(&mut self, cells: u32, here: u32) -> u32 {
        let there = cells.min(self.cells);
        self.cells -= there;
        self.due -= i64::from(there);
        let given = there.max(here);
        self.refunded = self.refunded.saturating_add(given);
        given
    }

    /// Whether it has to get in line now.
    fn wait(&mut self) -> bool {
        self.due != 0 && !std::mem::replace(&mut self.waiting, true)
    }

    /// What Redis has to be told. From here on it counts as told.
    fn orders(&mut self, algorithm: Option<Algorithm>, orders: &mut Vec<Order>) {
        self.waiting = false;
        let due = std::mem::take(&mut self.due);
        let place = Place {
            policy: self.charge.local.key.policy(),
            digest: self.charge.digest,
        };
        let cells = u32::try_from(due.unsigned_abs()).unwrap_or(u32::MAX);
        if due > 0 {
            match algorithm {
                Some(algorithm) => orders.push(Order {
                    place,
                    algorithm,
                    cells,
                    task: Task::Charge,
                }),
                // It is off by now, and charges nothing.
                None => self.cells = self.cells.saturating_sub(cells),
            }
            return;
        }
        let parts = self.paid.take(cells);
        orders.extend(parts.into_iter().map(|(algorithm, receipt, cells)| Order {
            place,
            algorithm,
            cells,
            task: Task::Refund(receipt),
        }));
    }
}

impl Owed {
    pub(super) fn orders(&self, limiter: &Limiter, orders: &mut Vec<Order>) {
        let mut bill = self.bill();
        // The quota in force.
        let applied = limiter.apply(&bill.charge.local, 0);
        let algorithm = applied.map(|(applied, _)| applied.algorithm);
        bill.orders(algorithm, orders);
    }

    /// Takes note of what became of an order, which is told of when the bill's lock is released: foreign code may run.
    pub(super) fn settled(&self, limiter: &Limiter, order: &Order, settled: &Settled) {
        let charge = {
            let mut bill = self.bill();
            if order.task == Task::Charge {
                let (clock, cells) = (settled.clock, settled.cells);
                let receipt = Receipt::of(&order.algorithm, &settled.seen, clock, cells);
                bill.paid.add(order.algorithm, receipt);
                bill.cells = bill
                    .cells
                    .saturating_sub(order.cells - cells.min(order.cells));
            }
            bill.charge.local
        };
        match order.task {
            Task::Charge => limiter.tell_debit(&charge, settled.cells),
            Task::Refund(_) | Task::Give => limiter.tell_credit(&charge, settled.cells),
        }
    }

    /// Redis could not be told of an order: what was not charged is not given back. If it was told and its answer is
    /// missing, it is not told again, as it would be charged twice.
    pub(super) fn lost(&self, order: &Order) {
        if order.task == Task::Charge {
            let mut bill = self.bill();
            bill.cells = bill.cells.saturating_sub(order.cells);
        }
    }

    /// There is no room for it in the line: how many cells are lost.
    fn turned_away(&self) -> u64 {
        let mut bill = self.bill();
        bill.waiting = false;
        let due = std::mem::take(&mut bill.due);
        let charged = u32::try_from(due).unwrap_or(0);
        bill.cells = bill.cells.saturating_sub(charged);
        due.unsigned_abs()
    }

    fn bill(&self) -> MutexGuard<'_, SharedBill> {
        self.bill.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedAccount {
    pub(super) fn new(
        shared: Arc<Shared>,
        owed: impl IntoIterator<Item = (PolicyId, bool, SharedBill)>,
        outer: Option<Charged>,
    ) -> Self {
        let owed = owed.into_iter().map(|(policy, open, bill)| {
            let bill = Mutex::new(bill);
            Arc::new(Owed { policy, open, bill })
        });
        Self {
            shared,
            owed: owed.collect(),
            changed: AtomicBool::new(false),
            outer,
            runtime: Handle::try_current().ok(),
        }
    }

    /// Changes a bill, and sees to it that Redis is told.
    fn change<T>(&self, place: usize, change: impl FnOnce(&mut SharedBill) -> T) -> Option<T> {
        let owed = self.owed.get(place)?;
        let (changed, waits) = {
            let mut bill = owed.bill();
            let before = (bill.charged, bill.refunded);
            let changed = change(&mut bill);
            if (bill.charged, bill.refunded) != before {
                self.changed.store(true, Ordering::Relaxed);
            }
            (changed, bill.wait())
        };
        if waits && !self.shared.post(owed, self.runtime.as_ref()) {
            self.shared.tally.turned_away(owed.turned_away());
        }
        Some(changed)
    }
}

impl Account for SharedAccount {
    fn limiter(&self) -> &Limiter {
        &self.shared.limiter
    }

    fn policy(&self, place: usize) -> Option<(PolicyId, bool)> {
        let owed = self.owed.get(place)?;
        Some((owed.policy, owed.open))
    }

    fn charge(&self, place: usize, cells: u32) -> Option<u32> {
        let (limiter, follows) = (&self.shared.limiter, self.shared.follows());
        let charge = |bill: &mut SharedBill| {
            let (applied, _) = limiter.apply(&bill.charge.local, 0)?;
            if follows {
                limiter.debit(&mut bill.local, cells, Instant::now());
            }
            Some(bill.charge(&applied.algorithm, cells))
        };
        self.change(place, charge)?
    }

    fn refund(&self, place: usize, cells: u32) -> u32 {
        let (limiter, follows) = (&self.shared.limiter, self.shared.follows());
        let refund = |bill: &mut SharedBill| {
            let here = match follows {
                true => limiter.credit(&mut bill.local, cells, Instant::now()),
                false => 0,
            };
            bill.refund(cells, here)
        };
        self.change(place, refund).unwrap_or(0)
    }

    /// As far as is known: Redis may not have been told yet.
    fn standing(&self, place: usize, then: &Standing, _: u64) -> Option<Standing> {
        let bill = self.owed.get(place)?.bill();
        Some(then.changed(bill.charged, bill.refunded))
    }

    fn has_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed)
    }

    fn outer(&self) -> Option<&Charged> {
        self.outer.as_ref()
    }
}
