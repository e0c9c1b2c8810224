//! The decision over several policies: all are charged or none.

use gw_core::Mode;
use smallvec::SmallVec;

use super::late::{Bill, Mark, Paid};
use super::{Book, Charge, Limiter};
use crate::algorithm::Algorithm;
use crate::decision::{Applied, Decision, Ruling, Standing};
use crate::store::Receipt;
use crate::verdict::Verdict;

/// What was charged, in the order of the charges.
type Payments = SmallVec<[Payment; 4]>;

/// What was charged, by a policy whose quota does not change as long as this is kept.
#[derive(Debug, Clone, Copy)]
pub(super) struct Payment {
    /// Which of the charges.
    at: usize,
    pub(super) receipt: Receipt,
    pub(super) mark: Mark,
}

impl Payment {
    /// The same with what was in force, and the time that it was charged at.
    pub(super) const fn under(&self, algorithm: Algorithm, now: u64) -> Paid {
        Paid::new(self.receipt, algorithm, self.mark, now)
    }
}

impl Limiter {
    /// Decides.
    #[inline]
    pub(crate) fn decision(&self, charges: &[Charge], now: u64) -> Decision {
        match *charges {
            [charge] => self.decision_on_one(charge, now),
            _ => self.decision_under_guard(charges, now),
        }
    }

    // There once, and given what it decides on by value: what is lent has to be in memory.
    #[inline(never)]
    fn decision_on_one(&self, charge: Charge, now: u64) -> Decision {
        let Charge { key, cost, tier } = charge;
        let mode = self.mode(key.policy_id());
        if tier.is_none()
            && let Some(known) = self.decide_known(key, cost, mode, now)
        {
            return Decision::of(known.standing());
        }
        self.decision_under_guard(&[charge], now)
    }

    // Apart, so that what is decided above is written to where the caller wants it.
    #[inline(never)]
    pub(crate) fn decision_under_guard(&self, charges: &[Charge], now: u64) -> Decision {
        let mut decision = Decision::default();
        self.decide(charges, now, &mut decision);
        decision
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
                bills.extend(charges.iter().enumerate().filter_map(|(at, charge)| {
                    let algorithm = *self.applied(&book, charge)?.algorithm;
                    let paid = payments.iter().find(|paid| paid.at == at);
                    Some(Bill::new(
                        *charge,
                        paid.map(|paid| paid.under(algorithm, now)),
                    ))
                }));
            }
            if decision.is_limited() {
                self.note_refusals(&book, charges, decision, now);
            }
        }
        self.settle(decision, now);
    }

    /// Looks first, at no more than whether all would let it pass: how it stands is said of it once. Charging at once and
    /// taking back would do as well if it were not for the moment in between: a client that keeps running into one policy
    /// would keep taking cells from the others, and their clients would be refused for it.
    fn survey_and_pay(
        &self,
        book: &Book,
        charges: &[Charge],
        now: u64,
        decision: &mut Decision,
        payments: &mut Payments,
    ) {
        if !self.all_willing(book, charges, now) {
            self.survey(book, charges, now, None, decision);
            if !decision.is_allowed() {
                return;
            }
            // Time has passed, or an operator has changed a mode.
            decision.clear();
        }
        self.pay_all(book, charges, now, decision, payments);
    }

    /// Whether no policy would refuse the request.
    fn all_willing(&self, book: &Book, charges: &[Charge], now: u64) -> bool {
        charges.iter().all(|charge| {
            let Some(Applied {
                mode: Mode::Enforce,
                algorithm,
                ..
            }) = self.applied(book, charge)
            else {
                return true;
            };
            let cost = self.cost(charge, algorithm, now);
            let state = self.store.peek(charge.key);
            matches!(algorithm.decide(state, now, cost), Verdict::Allow { .. })
        })
    }

    /// Counts a decision, and tells recorder and log. Foreign code may run, so there must be no lock.
    pub(crate) fn settle(&self, decision: &Decision, now: u64) {
        self.count(decision, now);
        self.announce();
    }

    /// The policy of a charge as it applies to a request that a shared store decides on, and what the request pays.
    #[cfg(feature = "redis")]
    pub(crate) fn apply(&self, charge: &Charge, now: u64) -> Option<(Applied<Algorithm>, u32)> {
        let book = self.book.read();
        let (applied, cost) = self.priced(&book, charge, now)?;
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
        let receipt = Receipt { key, after, cost };
        Bill::new(*charge, Some(Paid::new(receipt, *algorithm, mark, now)))
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
    ) -> Option<Receipt> {
        let (applied, cost) = self.priced(book, charge, now)?;
        let (key, algorithm) = (charge.key, applied.algorithm);
        let verdict = if cost == 0 {
            // Free of charge, and no reason to remember the key.
            let state = self.store.peek(key);
            Verdict::Allow { state }
        } else {
            self.store.charge(key, algorithm, cost, now, &book.terms)
        };
        decision.push(Standing::new(applied, verdict, now));
        match verdict {
            Verdict::Allow { state: after } if cost > 0 => Some(Receipt { key, after, cost }),
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
        for (at, charge) in charges.iter().enumerate() {
            let mark = self.mark(charge);
            let paid = self.pay(book, charge, now, decision);
            payments.extend(paid.map(|receipt| Payment { at, receipt, mark }));
            if !decision.is_allowed() {
                let standing = decision.standings().last().copied();
                let refused = standing.map(|standing| (at, standing));
                for paid in payments.drain(..) {
                    if let Some(terms) = charges.get(paid.at).and_then(|charge| book.terms(charge))
                    {
                        let paid = paid.under(terms.algorithm, now);
                        self.take_back(&paid, paid.receipt.cost, now);
                    }
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
            let Some((applied, cost)) = self.priced(book, charge, now) else {
                continue;
            };
            let state = self.store.peek(charge.key);
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
            self.count_one(standing, decision.is_allowed(), now);
        }
    }

    /// `passes`: whether the request may pass, whatever this policy said.
    pub(super) fn count_one(&self, standing: &Standing, passes: bool, now: u64) {
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

    /// The policy of a charge as it applies, unless it is off, and what the request pays.
    fn priced<'a>(
        &self,
        book: &'a Book,
        charge: &Charge,
        now: u64,
    ) -> Option<(Applied<&'a Algorithm>, u32)> {
        let mut applied = self.applied(book, charge)?;
        let cost = self.cost(charge, applied.algorithm, now);
        applied.penalized = cost > charge.cost;
        Some((applied, cost))
    }

    /// The policy of a charge as it applies, unless it is off.
    pub(super) fn applied<'a>(
        &self,
        book: &'a Book,
        charge: &Charge,
    ) -> Option<Applied<&'a Algorithm>> {
        let policy = charge.policy();
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
