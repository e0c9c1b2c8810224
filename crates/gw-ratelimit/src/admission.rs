use std::slice;
use std::sync::Arc;

use gw_core::key::MissingKey;
use gw_core::record::Record;
use gw_core::{Mode, Rejection};
use http::request::Parts;
use http::response;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::charged::{Charged, LocalAccount};
use crate::config::{Headers, OnMissingKey};
use crate::decision::{Decision, PolicyId, Standing};
use crate::error;
use crate::fields::Advert;
use crate::late::Late;
use crate::limiter::{Bill, Charge, Limiter};
use crate::policy::{Adjust, Rule};

/// From a request's head to a decision: what a layer's services share.
#[derive(Debug)]
pub(crate) struct Admission {
    limiter: Arc<Limiter>,
    /// One for each of the limiter's policies, in the same order.
    rules: Box<[Rule]>,
    headers: Headers,
    /// Whether some rule takes late charges, and whether it takes them from others.
    late: bool,
    open: bool,
}

pub(crate) type Charges = SmallVec<[Charge; 4]>;
pub(crate) type Bills = SmallVec<[Bill; 2]>;
/// What may be charged later, by policy, and whether that can be found by its name.
pub(crate) type Owed<B> = SmallVec<[(PolicyId, bool, B); 2]>;

impl Admission {
    pub(crate) fn new(limiter: Arc<Limiter>, rules: Vec<Rule>, headers: Headers) -> Self {
        Self {
            limiter,
            late: rules.iter().any(Rule::is_late),
            open: rules.iter().any(Rule::is_open),
            rules: rules.into(),
            headers,
        }
    }

    pub(crate) const fn headers(&self) -> Headers {
        self.headers
    }

    /// What an answer changes about what its request has paid this policy.
    pub(crate) fn adjust(&self, policy: PolicyId, answer: &response::Parts) -> Adjust {
        let rule = self.rules.get(policy.index());
        rule.map_or(Adjust::Nothing, |rule| rule.adjust(answer))
    }

    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// Decides on a request, and tells the observer, whom `slot` tells which stage decided. What later stages need to
    /// know is put into the request's extensions, and what the answer is to tell into `advert`, which is empty: it is
    /// large, and goes on from there into the future.
    ///
    /// # Errors
    ///
    /// The refusal, if it may not pass.
    #[inline]
    pub(crate) fn admit(
        self: &Arc<Self>,
        parts: &mut Parts,
        slot: &'static str,
        advert: &mut Option<Advert>,
    ) -> Result<Option<Box<Late>>, Rejection> {
        if let ([rule], false) = (&*self.rules, self.late) {
            self.admit_by_one(rule, parts, slot, advert)?;
            return Ok(None);
        }
        self.admit_by_all(parts, slot, advert)
    }

    /// The same where there is one policy, as in many layers, and nothing is charged late: no list of charges, and where
    /// nobody is to be told, no record of how the request stands.
    // Apart, so that it is there once, and not for each service.
    #[inline(never)]
    fn admit_by_one(
        &self,
        rule: &Rule,
        parts: &mut Parts,
        slot: &'static str,
        advert: &mut Option<Advert>,
    ) -> Result<(), Rejection> {
        let policy = PolicyId(0);
        let mode = self.limiter.mode(policy);
        if mode == Mode::Off || !rule.applies(parts) {
            return Ok(());
        }
        // By its parts all the way: put together and taken apart again, it would go through memory, and that stalls.
        let Charge { key, cost, tier } = match rule.key(&self.limiter, policy, parts) {
            Ok(key) => rule.charge(key, parts),
            Err(missing) => match self.keyless_charge(policy, rule, parts, mode, missing) {
                Ok(Some(charge)) => charge,
                Ok(None) => return Ok(()),
                Err(rejection) => return Err(refused(parts, slot, rejection)),
            },
        };
        let now = self.limiter.nanos(Instant::now());
        if tier.is_none()
            && let Some(known) = self.limiter.decide_known(key, cost, mode, now)
        {
            if !known.passes() {
                let decision = Decision::of(known.standing());
                return self.tell(parts, slot, &decision, now, advert);
            }
            if self.headers != Headers::None {
                let standing = known.standing();
                let binding = Some(&standing).filter(|standing| standing.is_enforced());
                self.advertise(slice::from_ref(&standing), binding, now, parts, advert);
            }
            if let Some(record) = Record::of(&parts.extensions) {
                write_down(record, &[known.standing()], None);
            }
            return Ok(());
        }
        let charge = Charge { key, cost, tier };
        let decision = self.limiter.decision_under_guard(&[charge], now);
        self.tell(parts, slot, &decision, now, advert)
    }

    // Apart, so that what is kept of many policies takes no room where there is one.
    #[inline(never)]
    fn admit_by_all(
        self: &Arc<Self>,
        parts: &mut Parts,
        slot: &'static str,
        advert: &mut Option<Advert>,
    ) -> Result<Option<Box<Late>>, Rejection> {
        let mut charges = Charges::new();
        if let Err(rejection) = self.charges(parts, &mut charges) {
            return Err(refused(parts, slot, rejection));
        }
        if charges.is_empty() && !self.open {
            return Ok(None);
        }
        let now = self.limiter.nanos(Instant::now());
        if !self.late {
            let decision = self.limiter.decision(&charges, now);
            self.tell(parts, slot, &decision, now, advert)?;
            return Ok(None);
        }
        let (mut decision, mut bills) = (Decision::default(), Bills::new());
        self.limiter
            .decide_with_bills(&charges, now, &mut decision, &mut bills);
        self.tell(parts, slot, &decision, now, advert)?;
        let bills = bills.into_iter().map(|bill| (*bill.charge(), bill));
        let account = |owed, outer| {
            let limiter = Arc::clone(&self.limiter);
            Charged::new(LocalAccount::new(limiter, owed, outer))
        };
        Ok(self.late(parts, bills, decision, account))
    }

    /// Tells the observer what was decided at `now`, layers of this crate further in, and the answer.
    ///
    /// # Errors
    ///
    /// The refusal, if the request may not pass.
    fn tell(
        &self,
        parts: &mut Parts,
        slot: &'static str,
        decision: &Decision,
        now: u64,
        advert: &mut Option<Advert>,
    ) -> Result<(), Rejection> {
        let refusal = || error::exceeded(decision, &self.limiter);
        self.tell_with(parts, slot, decision, now, advert, refusal)
    }

    /// The same with another refusal.
    ///
    /// # Errors
    ///
    /// The refusal, if the request may not pass.
    pub(crate) fn tell_with(
        &self,
        parts: &mut Parts,
        slot: &'static str,
        decision: &Decision,
        now: u64,
        advert: &mut Option<Advert>,
        refusal: impl FnOnce() -> Rejection,
    ) -> Result<(), Rejection> {
        let standings = decision.standings();
        if self.headers != Headers::None {
            self.advertise(standings, decision.binding(), now, parts, advert);
        }
        if decision.is_allowed() {
            record(parts, standings, None);
            return Ok(());
        }
        let rejection = refusal();
        record(parts, standings, Some((slot, &rejection)));
        Err(rejection)
    }

    /// Puts into `advert` what the answer is to tell, if it is to tell anything, and tells layers of this crate further in.
    fn advertise(
        &self,
        standings: &[Standing],
        binding: Option<&Standing>,
        now: u64,
        parts: &mut Parts,
        advert: &mut Option<Advert>,
    ) {
        Advert::put(advert, standings, binding, self.headers, &self.limiter, now);
        if let Some(told) = advert {
            told.mark(&mut parts.extensions);
        }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn rule(&self, policy: usize) -> Option<&Rule> {
        self.rules.get(policy)
    }

    /// Whether something may be charged after the decision.
    #[cfg(feature = "redis")]
    pub(crate) const fn is_late(&self) -> bool {
        self.late
    }

    /// Whether others may charge after the decision, by a policy's name.
    #[cfg(feature = "redis")]
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// What may still be charged to an admitted request, in an account of its own. Those within the layer find it in the
    /// request.
    pub(crate) fn late<B>(
        self: &Arc<Self>,
        parts: &mut Parts,
        bills: impl IntoIterator<Item = (Charge, B)>,
        decision: Decision,
        account: impl FnOnce(Owed<B>, Option<Charged>) -> Charged,
    ) -> Option<Box<Late>> {
        let mut owed = Owed::new();
        for (charge, bill) in bills {
            let policy = charge.policy();
            let rule = self.rules.get(policy.index())?;
            if rule.is_late() {
                owed.push((policy, rule.is_open(), bill));
            }
        }
        if owed.is_empty() && !self.open {
            return None;
        }
        let applies = !owed.is_empty();
        // Of a layer further out, whose policies are found by name as well.
        let outer = parts.extensions.get::<Charged>().cloned();
        let charged = account(owed, outer);
        if self.open {
            parts.extensions.insert(charged.clone());
        }
        applies.then(|| Box::new(Late::new(Arc::clone(self), charged, decision)))
    }

    /// What the request is to pay. Nothing is charged yet, so a policy that refuses here costs nothing elsewhere.
    pub(crate) fn charges(&self, parts: &Parts, charges: &mut Charges) -> Result<(), Rejection> {
        let policies = (0..=u8::MAX).map(PolicyId);
        for (policy, rule) in policies.zip(&self.rules) {
            charges.extend(self.charge(policy, rule, parts)?);
        }
        Ok(())
    }

    /// What it is to pay under one policy, if that applies.
    #[inline]
    fn charge(
        &self,
        policy: PolicyId,
        rule: &Rule,
        parts: &Parts,
    ) -> Result<Option<Charge>, Rejection> {
        let mode = self.limiter.mode(policy);
        if mode == Mode::Off || !rule.applies(parts) {
            return Ok(None);
        }
        match rule.key(&self.limiter, policy, parts) {
            Ok(key) => Ok(Some(rule.charge(key, parts))),
            Err(missing) => self.keyless_charge(policy, rule, parts, mode, missing),
        }
    }

    /// The same for a request that lacks what the policy counts by.
    #[cold]
    fn keyless_charge(
        &self,
        policy: PolicyId,
        rule: &Rule,
        parts: &Parts,
        mode: Mode,
        missing: MissingKey,
    ) -> Result<Option<Charge>, Rejection> {
        let Some(tally) = self.limiter.tallies().get(policy.index()) else {
            return Ok(None);
        };
        tally.key_missing(&missing, rule.on_missing_key());
        match rule.on_missing_key() {
            OnMissingKey::SharedBucket => {
                return Ok(Some(rule.charge(self.limiter.keyless(policy), parts)));
            }
            OnMissingKey::Skip => tally.skipped(),
            OnMissingKey::Deny if mode == Mode::Enforce => {
                tally.limited();
                return Err(error::missing_key(missing));
            }
            OnMissingKey::Deny => tally.would_limit(),
        }
        Ok(None)
    }
}

/// Tells the observer that a request was refused before anything was decided.
#[cold]
fn refused(parts: &Parts, slot: &'static str, rejection: Rejection) -> Rejection {
    record(parts, &[], Some((slot, &rejection)));
    rejection
}

/// Tells the observer, if there is one. With several layers the least that any of them left is kept.
#[inline]
pub(crate) fn record(
    parts: &Parts,
    standings: &[Standing],
    refused: Option<(&'static str, &Rejection)>,
) {
    if let Some(record) = Record::of(&parts.extensions) {
        write_down(record, standings, refused);
    }
}

// Apart, so that asking whether there is one is short.
#[inline(never)]
fn write_down(
    record: &Record,
    standings: &[Standing],
    refused: Option<(&'static str, &Rejection)>,
) {
    let enforced = standings.iter().filter(|standing| standing.is_enforced());
    let least = enforced.map(Standing::remaining).min().map(u64::from);
    record.update(|exchange| {
        let known = exchange.rate_limit_remaining;
        exchange.rate_limit_remaining = known.into_iter().chain(least).min();
    });
    if let Some((slot, rejection)) = refused {
        record.refused(slot, rejection.code());
    }
}
