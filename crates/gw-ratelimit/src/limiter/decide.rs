//! The decision over several policies: all are charged or none.

use smallvec::SmallVec;

use super::late::{Bill, Paid};
use super::{Book, Charge, Limiter};
use crate::algorithm::Algorithm;
use crate::config::Mode;
use crate::decision::{Applied, Decision, Ruling, Standing};
use crate::store::{Receipt, Store as _};
use crate::verdict::Verdict;

/// What was charged.
type Payments = SmallVec<[Paid; 4]>;

impl Limiter {
    /// Decides.
    #[inline]
    pub(crate) fn decision(&self, charges: &[Charge], now: u64) -> Decision {
        if let [charge] = charges
            && let Some(standing) = self.pay_known(charge, now)
        {
            self.conclude_known(charge, &standing, now);
            return Decision::of(standing);
        }
        self.decision_under_guard(charges, now)
    }

    // Apart, so that what is decided above is written to where the caller wants it.
    #[inline(never)]
    fn decision_under_guard(&self, charges: &[Charge], now: u64) -> Decision {
        let mut decision = Decision::default();
        self.decide(charges, now, &mut decision);
        decision
    }

    /// Charges one policy, as most requests do that are charged to only one: a key that is known, under the policy's own
    /// quota. `None`, and nothing was charged, if more than that is to be done.
    ///
    /// Nothing is taken back here, so there is no need to keep a change of quotas away as long as this goes on. If there was
    /// one meanwhile, the debts may have been cut before the key was charged: then its debt is cut again. So the charge
    /// was made before the change, or as if.
    #[inline]
    fn pay_known(&self, charge: &Charge, now: u64) -> Option<Standing> {
        let policy = charge.policy()?;
        let mode = self.mode(policy);
        if charge.cost == 0 || charge.tier.is_some() || mode == Mode::Off {
            return None;
        }
        let terms = self.briefs.get(policy.index())?.read()?;
        let (key, cost) = (charge.key, charge.cost);
        let holds = || terms.holds();
        let verdict = self
            .store
            .charge_known(key, &terms.algorithm, cost, now, holds)?;
        if !terms.holds() {
            self.cut_one(policy, key, now);
        }
        let applied = Applied {
            policy,
            mode,
            tier: None,
            algorithm: &terms.algorithm,
            penalized: false,
        };
        Some(Standing::new(applied, verdict, now))
    }

    /// Takes note of what was decided on one key alone. No key came or went, so there is nothing to announce.
    #[inline]
    fn conclude_known(&self, charge: &Charge, standing: &Standing, now: u64) {
        if standing.ruling() == Ruling::Allowed {
            if let Some(tally) = self.tallies.get(charge.key.policy()) {
                tally.allowed(None, standing.filled_until(now));
            }
        } else {
            self.note_offender(charge, now);
            self.count_one(*standing, !standing.refuses(), now);
        }
    }

    /// Decides into `decision`, which is empty: it is large.
    pub(crate) fn decide(&self, charges: &[Charge], now: u64, decision: &mut Decision) {
        {
            let book = self.book.read();
            if let [charge] = charges {
                self.pay(&book, charge, now, decision);
            } else {
                self.survey_and_pay(&book, charges, now, decision, &mut Payments::new());
            }
            if decision.is_limited() {
                self.note_refusals(&book, charges, decision, now);
            }
        }
        self.settle(decision, now);
    }

    /// The same for a request that may be charged later: if it is let pass, what it was charged is noted in `bills`.
    pub(crate) fn decide_with_bills(
        &self,
        charges: &[Charge],
        now: u64,
        decision: &mut Decision,
        bills: &mut SmallVec<[Bill; 2]>,
    ) {
        {
            let book = self.book.read();
            let mut payments = Payments::new();
            self.survey_and_pay(&book, charges, now, decision, &mut payments);
            if decision.is_allowed() {
                let applying = charges.iter();
                let applying = applying.filter(|charge| self.applied(&book, charge).is_some());
                bills.extend(applying.map(|charge| {
                    let paid = payments.iter().find(|paid| paid.receipt.key == charge.key);
                    Bill::new(*charge, paid)
                }));
            }
            if decision.is_limited() {
                self.note_refusals(&book, charges, decision, now);
            }
        }
        self.settle(decision, now);
    }

    /// Looks first. Charging at once and taking back would do as well if it were not for the moment in between: a client
    /// that keeps running into one policy would keep taking cells from the others, and their clients would be refused for
    /// it.
    fn survey_and_pay(
        &self,
        book: &Book,
        charges: &[Charge],
        now: u64,
        decision: &mut Decision,
        payments: &mut Payments,
    ) {
        self.survey(book, charges, now, None, decision);
        if decision.is_allowed() {
            decision.clear();
            self.pay_all(book, charges, now, decision, payments);
        }
    }

    /// Finds the binding policy of a decision, counts it, and tells recorder and log. Foreign code may run, so there must
    /// be no lock.
    pub(crate) fn settle(&self, decision: &mut Decision, now: u64) {
        decision.bind();
        self.count(decision, now);
        self.announce();
    }

    /// The policy of a charge as it applies to a request that a shared store decides on, and what the request pays.
    #[cfg(feature = "redis")]
    pub(crate) fn apply(&self, charge: &Charge, now: u64) -> Option<(Applied<Algorithm>, u32)> {
        let book = self.book.read();
        let mut applied = self.applied(&book, charge)?;
        let cost = self.cost(charge, applied.algorithm, now);
        applied.penalized = cost > charge.cost;
        Some((applied.with(*applied.algorithm), cost))
    }

    /// Takes note of a charge that a shared store decided on, as far as it would have been allowed here.
    #[cfg(feature = "redis")]
    pub(crate) fn follow(&self, charge: &Charge, cost: u32, now: u64) -> Bill {
        let book = self.book.read();
        let Some(terms) = book.terms(charge).filter(|_| cost > 0) else {
            return Bill::empty(*charge);
        };
        let (key, algorithm, mark) = (charge.key, &terms.algorithm, self.mark(charge));
        let verdict = self.store.charge(key, algorithm, cost, now, &book.terms);
        let Verdict::Allow { state: after } = verdict else {
            return Bill::empty(*charge);
        };
        let paid = Paid {
            receipt: Receipt { key, after, cost },
            algorithm: *algorithm,
            mark,
        };
        Bill::new(*charge, Some(&paid))
    }

    /// Takes note of a decision of a shared store, over these charges.
    #[cfg(feature = "redis")]
    pub(crate) fn conclude(&self, charges: &[Charge], decision: &mut Decision, now: u64) {
        if decision.is_limited() {
            self.note_refusals(&self.book.read(), charges, decision, now);
        }
        self.settle(decision, now);
    }

    /// Charges one policy, if it is willing. There is a receipt if something was charged.
    fn pay(
        &self,
        book: &Book,
        charge: &Charge,
        now: u64,
        decision: &mut Decision,
    ) -> Option<(Receipt, Algorithm)> {
        let mut applied = self.applied(book, charge)?;
        let (key, algorithm) = (charge.key, applied.algorithm);
        let cost = self.cost(charge, algorithm, now);
        applied.penalized = cost > charge.cost;
        let verdict = if cost == 0 {
            // Free of charge, and no reason to remember the key.
            let state = self.store.peek(key, algorithm);
            Verdict::Allow { state }
        } else {
            self.store.charge(key, algorithm, cost, now, &book.terms)
        };
        decision.push(Standing::new(applied, verdict, now));
        match verdict {
            Verdict::Allow { state: after } if cost > 0 => {
                Some((Receipt { key, after, cost }, *algorithm))
            }
            _ => None,
        }
    }

    /// Charges all policies, which were all willing a moment ago. If one refuses after all, takes back what the
    /// others were charged.
    pub(super) fn pay_all(
        &self,
        book: &Book,
        charges: &[Charge],
        now: u64,
        decision: &mut Decision,
        payments: &mut Payments,
    ) {
        for (index, charge) in charges.iter().enumerate() {
            let mark = self.mark(charge);
            let paid = self.pay(book, charge, now, decision);
            payments.extend(paid.map(|(receipt, algorithm)| Paid {
                receipt,
                algorithm,
                mark,
            }));
            if !decision.is_allowed() {
                let standing = decision.standings().last().copied();
                let refused = standing.map(|standing| (index, standing));
                for paid in payments.drain(..) {
                    self.take_back(paid.receipt, &paid.algorithm, paid.mark, now);
                }
                decision.clear();
                return self.survey(book, charges, now, refused, decision);
            }
        }
    }

    /// How the request stands with all its policies if none is charged. Where one charge was refused already, that
    /// stands, whatever would be said now.
    fn survey(
        &self,
        book: &Book,
        charges: &[Charge],
        now: u64,
        refused: Option<(usize, Standing)>,
        decision: &mut Decision,
    ) {
        for (index, charge) in charges.iter().enumerate() {
            if let Some((_, refused)) = refused.filter(|(at, _)| *at == index) {
                decision.push(refused);
                continue;
            }
            let Some(mut applied) = self.applied(book, charge) else {
                continue;
            };
            let cost = self.cost(charge, applied.algorithm, now);
            applied.penalized = cost > charge.cost;
            let state = self.store.peek(charge.key, applied.algorithm);
            let verdict = match applied.algorithm.decide(state, now, cost) {
                // Not charged, so what it has is what it had.
                Verdict::Allow { .. } => Verdict::Allow { state },
                denied => denied,
            };
            decision.push(Standing::new(applied, verdict, now));
        }
    }

    fn count(&self, decision: &Decision, now: u64) {
        for standing in decision.standings() {
            self.count_one(*standing, decision.is_allowed(), now);
        }
    }

    /// `passes`: whether the request may pass, whatever this policy said.
    fn count_one(&self, standing: Standing, passes: bool, now: u64) {
        let Some(tally) = self.tallies.get(standing.policy().index()) else {
            return;
        };
        match standing.ruling() {
            Ruling::Allowed if passes => {
                tally.allowed(standing.tier(), standing.filled_until(now));
            }
            // Some other policy refused: it was neither charged nor limited here.
            Ruling::Allowed => {}
            Ruling::Limited | Ruling::TooCostly if standing.is_enforced() => tally.limited(),
            Ruling::Limited | Ruling::TooCostly => tally.would_limit(),
        }
    }

    /// The policy of a charge as it applies, unless it is off.
    pub(super) fn applied<'a>(
        &self,
        book: &'a Book,
        charge: &Charge,
    ) -> Option<Applied<&'a Algorithm>> {
        let policy = charge.policy()?;
        let mode = self.mode(policy);
        let terms = book.terms(charge).filter(|_| mode != Mode::Off)?;
        Some(Applied {
            policy,
            mode,
            tier: charge.tier,
            algorithm: &terms.algorithm,
            penalized: false,
        })
    }
}
