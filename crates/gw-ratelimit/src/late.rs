use std::fmt;
use std::sync::Arc;

use http::response;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::charged::Charged;
use crate::decision::Decision;
use crate::fields::Advert;
use crate::policy::Adjust;

/// What an admitted request waits for that may still be charged: the head of its answer.
///
/// There is one only for requests that a policy with late charges applies to.
pub(crate) struct Late {
    admission: Arc<Admission>,
    charged: Charged,
    decision: Decision,
}

impl Late {
    pub(crate) const fn new(
        admission: Arc<Admission>,
        charged: Charged,
        decision: Decision,
    ) -> Self {
        Self {
            admission,
            charged,
            decision,
        }
    }

    /// Charges what the answer's head says. If anything was charged or given back since the request was admitted, what
    /// the answer tells about limits is told anew.
    pub(crate) fn settle(mut self, answer: &response::Parts) -> Option<Advert> {
        for (policy, _, seat) in self.charged.seats() {
            match self.admission.adjust(policy, answer) {
                Adjust::Nothing => {}
                Adjust::Charge(cells) => _ = seat.charge(cells),
                Adjust::Refund(cells) => _ = seat.refund(cells),
            }
        }
        if !self.charged.has_changed() {
            return None;
        }
        let limiter = self.admission.limiter();
        let now = limiter.nanos(Instant::now());
        for (policy, _, seat) in self.charged.seats() {
            let mut told = self.decision.standings().iter();
            let told = told.find(|standing| standing.policy() == policy);
            if let Some(standing) = told.and_then(|told| seat.standing(told, now)) {
                self.decision.replace(policy, standing);
            }
        }
        let (decision, headers) = (&self.decision, self.admission.headers());
        let (standings, binding) = (decision.standings(), decision.binding());
        let mut anew = None;
        Advert::put(&mut anew, standings, binding, headers, limiter, now);
        anew
    }
}

impl fmt::Debug for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Late")
            .field("charged", &self.charged)
            .finish_non_exhaustive()
    }
}
