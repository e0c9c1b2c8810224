//! What is charged and given back after the decision.

use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use tokio::time::Instant;

use super::refunds::Refunds;
use super::{Book, Charge, Limiter};
use crate::algorithm::Algorithm;
use crate::decision::{PolicyId, Standing};
use crate::store::Receipt;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// What one request was charged under one policy, and has not got back.
#[derive(Debug)]
pub(crate) struct Bill {
    charge: Charge,
    /// The last one last. Mostly there is one.
    paid: SmallVec<[Paid; 1]>,
}

/// Charges that can be taken back as one: nobody else was charged between them, and no debt ran off.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paid {
    pub(super) receipt: Receipt,
    /// What was in force. Where a quota has changed since, a cell gives back what it cost then.
    algorithm: Algorithm,
    mark: Mark,
    /// The debt that was there before: what was given back since was at most so much of it.
    stood_on: u64,
}

/// What was the case before a charge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Of the policy's debts. See [`Limiter::revise`].
    revision: u32,
    /// See [`Refunds`].
    refunds: u64,
}

impl Bill {
    /// Of more charges that others' came in between, the first ones are not given back any more.
    const MOST: usize = 4;

    /// Nothing has been charged yet.
    pub(crate) fn empty(charge: Charge) -> Self {
        Self::new(charge, None)
    }

    /// What was charged when the request was admitted.
    pub(super) fn new(charge: Charge, paid: Option<Paid>) -> Self {
        Self {
            charge,
            paid: paid.into_iter().collect(),
        }
    }

    /// Adds what was charged after all that is there.
    fn add(&mut self, paid: Paid) {
        if let Some(last) = self.paid.last_mut()
            && paid.follows(last)
        {
            last.join(&paid);
            return;
        }
        if self.paid.len() >= Self::MOST {
            self.paid.remove(0);
        }
        self.paid.push(paid);
    }

    pub(crate) const fn charge(&self) -> &Charge {
        &self.charge
    }
}

impl Limiter {
    /// Charges a key without asking: for a cost that is known only after the request was let pass. Returns how the key
    /// stands then; `None` for a policy of another limiter, or one that is off.
    ///
    /// Nothing is refused, so the key's debt may come to be more than a burst, and the next requests wait for it to run
    /// off. It never comes to be more than **two bursts** (or twice the limit of a sliding window): what would go beyond
    /// is not charged. So no mistake in a cost locks a client out for longer than it takes to win back two bursts.
    pub fn charge_late(&self, charge: Charge, now: Instant) -> Option<Standing> {
        let cells = self.debit(&mut Bill::empty(charge), charge.cost, now)?;
        self.tell_debit(&charge, cells);
        self.standing(&charge, self.nanos(now))
    }

    /// Takes `charge` off a key's debt, as far as there is any. Returns how the key stands then; `None` for a policy of
    /// another limiter.
    ///
    /// This is a gift: the limiter does not know what the key was charged for, and who gives back more than was charged
    /// lets so much more pass. A [`Charged`](crate::Charged) knows. Of a sliding window, only what was charged in the
    /// current window is given back. A key that was forgotten for want of room gets nothing.
    pub fn refund(&self, charge: Charge, now: Instant) -> Option<Standing> {
        let given = self.give(&charge, now)?;
        self.tell_credit(&charge, given);
        self.standing(&charge, self.nanos(now))
    }

    /// The same without telling anybody: how many cells were given back.
    pub(crate) fn give(&self, charge: &Charge, now: Instant) -> Option<u32> {
        let now = self.nanos(now);
        let book = self.book.read();
        let algorithm = book.terms(charge)?.algorithm;
        let mark = self.mark(charge);
        let state = self.store.peek(charge.key);
        let cost = charge.cost.min(algorithm.refundable(state, now));
        let receipt = Receipt {
            key: charge.key,
            after: state,
            cost,
        };
        let paid = Paid::new(receipt, algorithm, mark, now);
        let taken = cost > 0 && self.take_back(&paid, cost, now);
        // A key without a place of its own owes what others owed, which is not given back.
        Some(if taken { cost } else { 0 })
    }

    /// Charges `cells` more: how many were charged; `None` if the policy is off. What does not fit into two bursts of debt
    /// is not charged. Nobody is told yet, since a bill stands under a lock.
    pub(crate) fn debit(&self, bill: &mut Bill, cells: u32, now: Instant) -> Option<u32> {
        let now = self.nanos(now);
        // Before the book is held: whoever cuts debts waits for those who hold it.
        self.lates.note(bill.charge.key.policy());
        let book = self.book.read();
        let algorithm = self.applied(&book, &bill.charge)?.algorithm;
        let mark = self.mark(&bill.charge);
        let Some(receipt) = self.force(&book, &bill.charge, algorithm, cells, now) else {
            return Some(0);
        };
        let cells = receipt.cost;
        bill.add(Paid::new(receipt, *algorithm, mark, now));
        Some(cells)
    }

    /// Gives back `cells` of what was charged, the last ones first, or all of it: how many were given back. Nobody is told yet.
    pub(crate) fn credit(&self, bill: &mut Bill, cells: u32, now: Instant) -> u32 {
        let now = self.nanos(now);
        // Held until it is done, so that no debts are cut in between.
        let _book = self.book.read();
        let revision = self.revision(&bill.charge);
        bill.paid.retain(|paid| paid.mark.revision == revision);
        let mut given = 0;
        while given < cells
            && let Some(mut paid) = bill.paid.pop()
        {
            let some = paid.receipt.cost.min(cells - given);
            given += some;
            self.take_back(&paid, some, now);
            let owed = paid.algorithm.owed(some);
            for before in &mut bill.paid {
                // It did not stand on that.
                before.mark.discount(owed);
            }
            paid.take_off(some);
            if paid.receipt.cost > 0 {
                bill.paid.push(paid);
            }
        }
        given
    }

    /// Charges as many of the cells as fit into two bursts.
    fn force(
        &self,
        book: &Book,
        charge: &Charge,
        algorithm: &Algorithm,
        cells: u32,
        now: u64,
    ) -> Option<Receipt> {
        /// Others may charge between finding out what fits and charging it. Then there is less room, so it ends.
        const TRIES: u32 = 8;

        let roomy = algorithm.with_double_burst();
        let mut cells = cells.min(roomy.burst());
        for _ in 0..TRIES {
            if cells == 0 {
                return None;
            }
            let charged = self
                .store
                .charge(charge.key, &roomy, cells, now, &book.terms);
            match charged {
                Verdict::Allow { state: after } => {
                    return Some(Receipt {
                        key: charge.key,
                        after,
                        cost: cells,
                    });
                }
                Verdict::Deny { state, .. } | Verdict::DenyForever { state } => {
                    cells = cells.min(roomy.balance(state, now).remaining);
                }
            }
        }
        None
    }

    /// What was charged before cannot be taken back any more: debts were cut, or freed, and what is there now may be
    /// someone else's. Called when a key's debt was freed, while nobody charges or takes back, and before the debts of a
    /// policy are cut.
    pub(super) fn revise(&self, policy: PolicyId) {
        if let Some(revisions) = self.revisions.get(policy.index()) {
            revisions.fetch_add(1, Ordering::Release);
        }
    }

    fn revision(&self, charge: &Charge) -> u32 {
        let revision = self.revisions.get(charge.key.policy());
        revision.map_or(0, |revision| revision.load(Ordering::Acquire))
    }

    /// What is the case with a policy that is to be charged. Who looks before charging, and finds it unchanged when
    /// taking the charge back, has missed nothing.
    pub(super) fn mark(&self, charge: &Charge) -> Mark {
        Mark {
            revision: self.revision(charge),
            refunds: self.refunds.until_now(charge.key),
        }
    }

    /// Takes the last `cells` of a charge back; says whether its key was held.
    pub(super) fn take_back(&self, paid: &Paid, cells: u32, now: u64) -> bool {
        let (key, algorithm) = (paid.receipt.key, &paid.algorithm);
        let taking = self.refunds.take(key, algorithm.owed(cells));
        let receipt = Receipt {
            key,
            after: paid.without(taking.began()),
            cost: cells,
        };
        self.store.undo(receipt, algorithm, &|| {
            // Nothing is charged while this is asked. What others took back within this moment is as if time had gone by.
            let moment = taking.add();
            let now = now.max(self.nanos(Instant::now()));
            now.saturating_add(moment)
        })
    }

    /// Tells of a debit. Foreign code may run, so there must be no lock.
    pub(crate) fn tell_debit(&self, charge: &Charge, cells: u32) {
        self.tell(charge, cells, |tally| tally.charged_late(cells));
    }

    /// The same of a credit.
    pub(crate) fn tell_credit(&self, charge: &Charge, cells: u32) {
        self.tell(charge, cells, |tally| tally.refunded(cells));
    }

    fn tell(&self, charge: &Charge, cells: u32, note: impl FnOnce(&Tally)) {
        if cells == 0 {
            return;
        }
        if let Some(tally) = self.tallies.get(charge.key.policy()) {
            note(tally);
        }
        self.announce();
    }
}

impl Paid {
    /// A charge made at `now`, after the mark.
    pub(super) const fn new(receipt: Receipt, algorithm: Algorithm, mark: Mark, now: u64) -> Self {
        let stood_on = algorithm.stood_on(receipt.after, receipt.cost, now);
        Self {
            receipt,
            algorithm,
            mark,
            stood_on,
        }
    }

    /// What it would have led to without what was taken back until `refunds`. Of that no more lay below it than it stood on;
    /// the rest came after it, or was other keys'.
    fn without(&self, refunds: u64) -> u64 {
        let since = Refunds::between(self.mark.refunds, refunds);
        self.algorithm
            .without(self.receipt.after, since.min(self.stood_on))
    }

    /// Whether this one came at once after another, so that both can be taken back as one.
    fn follows(&self, before: &Self) -> bool {
        let algorithm = &self.algorithm;
        let Receipt { after, cost, .. } = self.receipt;
        let found = algorithm.take_back(after, after, cost, 0);
        let left = before.without(self.mark.refunds);
        let same = before.mark.revision == self.mark.revision && before.algorithm == *algorithm;
        same && algorithm.follows(left, found)
    }

    /// Adds one that followed.
    fn join(&mut self, next: &Self) {
        let refunded = Refunds::between(self.mark.refunds, next.mark.refunds);
        self.stood_on = self.stood_on.saturating_sub(refunded);
        self.mark = next.mark;
        self.receipt.after = next.receipt.after;
        self.receipt.cost = self.receipt.cost.saturating_add(next.receipt.cost);
    }

    /// As if so many cells less had been charged.
    fn take_off(&mut self, cells: u32) {
        let Self {
            receipt,
            algorithm,
            mark,
            stood_on: _,
        } = self;
        receipt.after = algorithm.take_back(receipt.after, receipt.after, cells, 0);
        receipt.cost -= cells;
        // Not to be reckoned twice.
        mark.discount(algorithm.owed(cells));
    }
}

impl Mark {
    /// So much of what was taken back since makes no difference to the charge.
    const fn discount(&mut self, owed: u64) {
        self.refunds = self.refunds.wrapping_add(owed);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
