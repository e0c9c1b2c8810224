//! The decision over several policies: all are charged or none.

use gw_core::Mode;
use smallvec::SmallVec;

use super::late::{Bill, Mark, Paid};
use super::{Book, Charge, Limiter};
use crate::algorithm::Algorithm;
use crate::decision::{Applied, Decision, PolicyId, Ruling, Standing};
use crate::store::{KeyHash, Receipt, Store as _};
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

/// What came of a charge to one key alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    policy: PolicyId,
    mode: Mode,
    algorithm: Algorithm,
    verdict: Verdict,
    now: u64,
}

impl Known {
    /// Whether the request may pass, whatever the policy said.
    #[inline]
    pub(crate) fn passes(&self) -> bool {
        matches!(self.verdict, Verdict::Allow { .. }) || self.mode != Mode::Enforce
    }

    /// How the request stands.
    #[inline]
    pub(crate) const fn standing(&self) -> Standing {
        let applied = Applied {
            policy: self.policy,
            mode: self.mode,
            tier: None,
            algorithm: &self.algorithm,
            penalized: false,
        };
        Standing::new(applied, self.verdict, self.now)
    }

    /// As [`Standing::filled_until`], for the state that a charge led to.
    #[inline]
    fn filled_until(&self, state: u64) -> u64 {
        match self.algorithm {
            Algorithm::Gcra(_) => state,
            Algorithm::Window(_) => self.standing().filled_until(self.now),
        }
    }
}

impl Payment {
    /// The same with what was in force.
    pub(super) const fn under(&self, algorithm: Algorithm) -> Paid {
        Paid {
            receipt: self.receipt,
            algorithm,
            mark: self.mark,
        }
    }
}

impl Limiter {
    /// Decides.
    #[inline]
    pub(crate) fn decision(&self, charges: &[Charge], now: u64) -> Decision {
        if let [Charge { key, cost, tier }] = *charges
            && tier.is_none()
            && let Some(known) = self.decide_known(key, cost, now)
        {
            return Decision::of(known.standing());
        }
        self.decision_under_guard(charges, now)
    }

    // Apart, so that what is decided above is written to where the caller wants it.
    #[inline(never)]
    pub(crate) fn decision_under_guard(&self, charges: &[Charge], now: u64) -> Decision {
        let mut decision = Decision::default();
        self.decide(charges, now, &mut decision);
        decision
    }

    /// Decides on one key, as most requests ask for that are charged to only one: one that is known, under the policy's own
    /// quota. `None`, and nothing was charged, if more than that is to be done.
    ///
    /// No key comes or goes here, so there is nothing to announce.
    // Where it is called, so that what came of it is not written to memory and read from there.
    #[inline(always)]
    pub(crate) fn decide_known(&self, key: KeyHash, cost: u32, now: u64) -> Option<Known> {
        let known = self.pay_known(key, cost, now)?;
        match known.verdict {
            Verdict::Allow { state } => {
                if let Some(tally) = self.tallies.get(key.policy()) {
                    tally.allowed(None, known.filled_until(state));
                }
            }
            _ => self.note_refused(key, &known.standing()),
        }
        Some(known)
    }

    /// Charges it.
    ///
    /// Nothing is taken back here, so there is no need to keep a change of quotas away as long as this goes on. If there was
    /// one meanwhile, the debts may have been cut before the key was charged: then its debt is cut again. So the charge
    /// was made before the change, or as if.
    #[inline(always)]
    fn pay_known(&self, key: KeyHash, cost: u32, now: u64) -> Option<Known> {
        let policy = key.policy_id();
        let mode = self.mode(policy);
        if cost == 0 || mode == Mode::Off {
            return None;
        }
        let terms = self.briefs.get(policy.index())?.read()?;
        let holds = || terms.holds();
        let verdict = self
            .store
            .charge_known(key, &terms.algorithm, cost, now, holds)?;
        if !terms.holds() {
            self.cut_one(policy, key, now);
        }
        Some(Known {
            policy,
            mode,
            algorithm: terms.algorithm,
            verdict,
            now,
        })
    }

    /// Takes note of a refusal of one key alone.
    #[cold]
    fn note_refused(&self, key: KeyHash, standing: &Standing) {
        let now = standing.now();
        self.note_offender(key, now);
        self.count_one(standing, !standing.refuses(), now);
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
                    Some(Bill::new(*charge, paid.map(|paid| paid.under(algorithm))))
                }));
            }
            if decision.is_limited() {
                self.note_refusals(&book, charges, decision, now);
            }
        }
        self.settle(decision, now);
    }

    /// Looks first, at no more than whether all would let it pass: how it stands is said of it once. Charging at once and taking back would do as well if it were not for the moment in between: a client
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
            let state = self.store.peek(charge.key, algorithm);
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
        Bill::new(*charge, Some(paid))
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
                        self.take_back(paid.receipt, &terms.algorithm, paid.mark, now);
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
            self.count_one(standing, decision.is_allowed(), now);
        }
    }

    /// `passes`: whether the request may pass, whatever this policy said.
    fn count_one(&self, standing: &Standing, passes: bool, now: u64) {
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
