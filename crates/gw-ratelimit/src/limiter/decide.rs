//! The decision over several policies: all are charged or none.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Charge, Limiter, Terms};
use crate::config::Mode;
use crate::decision::{Decision, PolicyId, Ruling, Standing};
use crate::gcra::Verdict;
use crate::store::{Receipt, Store as _};

impl Limiter {
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
        self.settle(decision);
    }

    /// Finds the binding policy of a decision, counts it, and tells recorder and log. Foreign code may run, so there must
    /// be no lock.
    pub(crate) fn settle(&self, decision: &mut Decision) {
        decision.bind();
        self.count(decision);
        self.announce();
    }

    /// Takes note of charges that a shared store decided on, as far as they would have been allowed here.
    #[cfg(feature = "redis")]
    pub(crate) fn follow<'a>(&self, charges: impl Iterator<Item = &'a Charge>, now: u64) {
        let book = self.book.read();
        for charge in charges.filter(|charge| charge.cost > 0) {
            if let Some((_, _, terms)) = self.applicable(&book.terms, charge) {
                self.store.charge(charge.key, &terms.gcra, charge.cost, now);
            }
        }
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
