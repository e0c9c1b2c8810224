//! The decision over several policies: all are charged or none.

use smallvec::SmallVec;
use tokio::time::Instant;

use super::{Charge, Limiter, Terms};
use crate::config::Mode;
use crate::decision::{Decision, PolicyId, Ruling, Standing};

use crate::store::{Receipt, Store as _};
use crate::verdict::Verdict;

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
        let (policy, mode, Terms { algorithm, .. }) = self.applicable(terms, charge)?;
        let Charge { key, cost } = *charge;
        let (verdict, place) = if cost == 0 {
            // Free of charge, and no reason to remember the key.
            let state = self.store.peek(key, algorithm);
            (Verdict::Allow { state }, None)
        } else {
            self.store.charge(key, algorithm, cost, now, terms)
        };
        decision.push(Standing::new(policy, mode, *algorithm, verdict, now));
        match (verdict, place) {
            (Verdict::Allow { state: after }, Some(place)) => Some(Receipt {
                key,
                place,
                after,
                cost,
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
                    if let Some(terms) = terms.get(receipt.key.policy()) {
                        self.store.undo(receipt, &terms.algorithm, &clock);
                    }
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
            let Some((policy, mode, Terms { algorithm, .. })) = self.applicable(terms, charge)
            else {
                continue;
            };
            if let Some(refused) = refused.filter(|refused| refused.policy() == policy) {
                decision.push(refused);
                continue;
            }
            let state = self.store.peek(charge.key, algorithm);
            let verdict = match algorithm.decide(state, now, charge.cost) {
                // Not charged, so what it has is what it had.
                Verdict::Allow { .. } => Verdict::Allow { state },
                denied => denied,
            };
            decision.push(Standing::new(policy, mode, *algorithm, verdict, now));
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
