use std::pin::Pin;
use std::sync::Arc;

use gw_core::Rejection;
use http::request::Parts;
use smallvec::SmallVec;

use super::limiter::{SharedCharge, SharedLimiter};
use super::shared::Begun;
use crate::admission::{Admission, Admitted, record};
use crate::decision::Decision;
use crate::error;

/// From a request's head to a decision in Redis: what a layer's services share.
#[derive(Debug)]
pub(super) struct SharedAdmission {
    admission: Admission,
    limiter: SharedLimiter,
}

/// A decision that Redis was asked for. Boxed, as it crosses the network.
pub(super) type Question = Pin<Box<dyn Future<Output = Decision> + Send>>;

pub(super) enum Asked {
    Decided(Admitted),
    Asking(Question),
}

impl SharedAdmission {
    pub(super) const fn new(admission: Admission, limiter: SharedLimiter) -> Self {
        Self { admission, limiter }
    }

    pub(super) const fn limiter(&self) -> &SharedLimiter {
        &self.limiter
    }

    /// Decides on a request if that takes no question.
    pub(super) fn ask(&self, parts: &mut Parts, slot: &'static str) -> Asked {
        let charges = match self.admission.charges(parts) {
            Ok(charges) if charges.is_empty() => {
                return Asked::Decided(Admitted::Passed(None, None));
            }
            Ok(charges) => charges,
            Err(rejection) => {
                record(parts, None, Some((slot, &rejection)));
                return Asked::Decided(Admitted::Refused(rejection, None));
            }
        };
        let charges: SmallVec<[SharedCharge; 4]> = charges
            .iter()
            .filter_map(|charge| {
                let rule = self.admission.rule(charge.key.policy())?;
                Some(rule.share(&self.limiter, *charge, parts))
            })
            .collect();
        match self.limiter.begin(&charges) {
            Begun::Decided(decision) => Asked::Decided(self.tell(parts, &decision, slot)),
            Begun::Asking(asking) => Asked::Asking(Box::pin((*asking).finish())),
        }
    }

    /// What becomes of a request that was decided on.
    pub(super) fn tell(
        &self,
        parts: &mut Parts,
        decision: &Decision,
        slot: &'static str,
    ) -> Admitted {
        let rejection = || -> Rejection {
            match decision.binding() {
                Some(_) => error::exceeded(decision, self.admission.limiter()),
                // No policy refused: nobody was there to decide.
                None => error::unavailable(),
            }
        };
        self.admission.tell(parts, decision, rejection, slot)
    }
}

/// What a service has of it.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub(super) admission: Arc<SharedAdmission>,
    pub(super) slot: &'static str,
}
