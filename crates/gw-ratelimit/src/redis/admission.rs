use std::pin::Pin;
use std::sync::Arc;

use gw_core::Rejection;
use http::request::Parts;
use smallvec::SmallVec;

use super::limiter::{SharedCharge, SharedLimiter};
use super::shared::{Begun, Outcome};
use crate::admission::{Admission, Charges, record};
use crate::error;
use crate::fields::Advert;
use crate::late::Late;

/// From a request's head to a decision in Redis: what a layer's services share.
#[derive(Debug)]
pub(super) struct SharedAdmission {
    admission: Arc<Admission>,
    limiter: SharedLimiter,
}

/// A decision that Redis was asked for. Boxed, as it crosses the network.
pub(super) type Question = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What the request may still be charged, if it passes.
pub(super) type Decided = Result<Option<Box<Late>>, Rejection>;

pub(super) enum Asked {
    Decided(Decided),
    Asking(Question),
}

impl SharedAdmission {
    pub(super) const fn new(admission: Arc<Admission>, limiter: SharedLimiter) -> Self {
        Self { admission, limiter }
    }

    pub(super) const fn limiter(&self) -> &SharedLimiter {
        &self.limiter
    }

    /// Decides on a request if that takes no question. What the answer is to tell is put into `advert`.
    pub(super) fn ask(
        &self,
        parts: &mut Parts,
        slot: &'static str,
        advert: &mut Option<Advert>,
    ) -> Asked {
        let mut charges = Charges::new();
        if let Err(rejection) = self.admission.charges(parts, &mut charges) {
            record(parts, &[], Some((slot, &rejection)));
            return Asked::Decided(Err(rejection));
        }
        if charges.is_empty() && !self.admission.is_open() {
            return Asked::Decided(Ok(None));
        }
        let charges: SmallVec<[SharedCharge; 4]> = charges
            .iter()
            .filter_map(|charge| {
                let rule = self.admission.rule(charge.key.policy())?;
                Some(rule.share(&self.limiter, *charge, parts))
            })
            .collect();
        match self.limiter.begin(&charges, self.admission.is_late()) {
            Begun::Decided(outcome) => Asked::Decided(self.tell(parts, slot, outcome, advert)),
            Begun::Asking(asking) => Asked::Asking(Box::pin((*asking).finish())),
        }
    }

    /// What becomes of a request that was decided on, and in `advert` what the answer is to tell.
    pub(super) fn tell(
        &self,
        parts: &mut Parts,
        slot: &'static str,
        outcome: Outcome,
        advert: &mut Option<Advert>,
    ) -> Decided {
        let Outcome {
            decision,
            now,
            bills,
        } = outcome;
        let rejection = || match decision.binding() {
            Some(_) => error::exceeded(&decision, self.admission.limiter()),
            // No policy refused: nobody was there to decide.
            None => error::unavailable(),
        };
        self.admission
            .tell_with(parts, slot, &decision, now, advert, rejection)?;
        if !self.admission.is_late() {
            return Ok(None);
        }
        let bills = bills.into_iter().map(|bill| (bill.charge.local, bill));
        let account = |owed, outer| self.limiter.account(owed, outer);
        Ok(self.admission.late(parts, bills, decision, account))
    }
}

/// What a service has of it.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) admission: Arc<SharedAdmission>,
    pub(super) slot: &'static str,
}
