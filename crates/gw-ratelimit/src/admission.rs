use std::sync::Arc;

use gw_core::Rejection;
use gw_core::record::Record;
use http::request::Parts;
use smallvec::SmallVec;
use tokio::time::Instant;

use crate::config::{Headers, Mode, OnMissingKey};
use crate::decision::{Decision, PolicyId, Standing};
use crate::error;
use crate::fields::Advert;
use crate::limiter::{Charge, Limiter};
use crate::policy::Rule;

/// From a request's head to a decision: what a layer's services share.
#[derive(Debug)]
pub(crate) struct Admission {
    limiter: Arc<Limiter>,
    /// One for each of the limiter's policies, in the same order.
    rules: Box<[Rule]>,
    headers: Headers,
}

/// What becomes of a request, and what its answer tells about limits.
#[derive(Debug)]
pub(crate) enum Admitted {
    Passed(Option<Advert>),
    Refused(Rejection, Option<Advert>),
}

pub(crate) type Charges = SmallVec<[Charge; 4]>;

impl Admission {
    pub(crate) fn new(limiter: Arc<Limiter>, rules: Vec<Rule>, headers: Headers) -> Self {
        Self {
            limiter,
            rules: rules.into(),
            headers,
        }
    }

    pub(crate) fn limiter(&self) -> &Arc<Limiter> {
        &self.limiter
    }

    /// Decides on a request, and tells the observer, whom `slot` tells which stage decided.
    pub(crate) fn admit(&self, parts: &Parts, slot: &'static str) -> Admitted {
        let charges = match self.charges(parts) {
            Ok(charges) if charges.is_empty() => return Admitted::Passed(None),
            Ok(charges) => charges,
            Err(rejection) => {
                record(parts, None, Some((slot, &rejection)));
                return Admitted::Refused(rejection, None);
            }
        };
        let now = self.limiter.nanos(Instant::now());
        let mut decision = Decision::default();
        self.limiter.decide(&charges, now, &mut decision);
        self.tell(parts, &decision, || error::exceeded(&decision), slot)
    }

    /// What becomes of a request that was decided on; tells the observer.
    pub(crate) fn tell(
        &self,
        parts: &Parts,
        decision: &Decision,
        rejection: impl FnOnce() -> Rejection,
        slot: &'static str,
    ) -> Admitted {
        let advert = Advert::of(decision, self.headers, &self.limiter);
        if decision.is_allowed() {
            record(parts, Some(decision), None);
            return Admitted::Passed(advert);
        }
        let rejection = rejection();
        record(parts, Some(decision), Some((slot, &rejection)));
        Admitted::Refused(rejection, advert)
    }

    #[cfg(feature = "redis")]
    pub(crate) fn rule(&self, policy: usize) -> Option<&Rule> {
        self.rules.get(policy)
    }

    /// What the request is to pay. Nothing is charged yet, so a policy that refuses here costs nothing elsewhere.
    pub(crate) fn charges(&self, parts: &Parts) -> Result<Charges, Rejection> {
        let mut charges = Charges::new();
        let policies = (0..=u8::MAX).map(PolicyId);
        for ((policy, rule), tally) in policies.zip(&self.rules).zip(self.limiter.tallies()) {
            let mode = self.limiter.mode(policy);
            if mode == Mode::Off || !rule.applies(parts) {
                continue;
            }
            let missing = match rule.charge(&self.limiter, policy, parts) {
                Ok(charge) => {
                    charges.push(charge);
                    continue;
                }
                Err(missing) => missing,
            };
            tally.key_missing(missing);
            match rule.on_missing_key() {
                OnMissingKey::SharedBucket => {
                    charges.push(rule.keyless_charge(&self.limiter, policy, parts));
                }
                OnMissingKey::Skip => tally.skipped(),
                OnMissingKey::Deny if mode == Mode::Enforce => {
                    tally.limited();
                    return Err(error::missing_key());
                }
                OnMissingKey::Deny => tally.would_limit(),
            }
        }
        Ok(charges)
    }
}

/// Tells the observer, if there is one. With several layers the least that any of them left is kept.
pub(crate) fn record(
    parts: &Parts,
    decision: Option<&Decision>,
    refused: Option<(&'static str, &Rejection)>,
) {
    let Some(record) = Record::of(&parts.extensions) else {
        return;
    };
    let standings = decision.into_iter().flat_map(Decision::standings);
    let enforced = standings.filter(|standing| standing.is_enforced());
    let least = enforced.map(Standing::remaining).min().map(u64::from);
    record.update(|exchange| {
        let known = exchange.rate_limit_remaining;
        exchange.rate_limit_remaining = known.into_iter().chain(least).min();
    });
    if let Some((slot, rejection)) = refused {
        record.refused(slot, rejection.code());
    }
}
