//! The decision on one key that is known, as most requests ask for: without a lock of the quotas.

use gw_core::Mode;

use super::Limiter;
use super::brief::Seen;
use crate::algorithm::Algorithm;
use crate::decision::{Applied, PolicyId, Standing};
use crate::store::KeyHash;
use crate::verdict::Verdict;

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
            Algorithm::Window(_) => self.window_filled_until(),
        }
    }

    // Apart: it takes divisions. By value: what is lent has to be in memory.
    #[inline(never)]
    fn window_filled_until(self) -> u64 {
        self.standing().filled_until(self.now)
    }
}

impl Limiter {
    /// Decides on one key, as most requests ask for that are charged to only one: one that is known, under the policy's own
    /// quota; `mode` is the policy's. `None`, and nothing was charged, if more than that is to be done.
    ///
    /// No key comes or goes here, so there is nothing to announce.
    // Where it is called, so that what came of it is not written to memory and read from there.
    #[inline(always)]
    pub(crate) fn decide_known(
        &self,
        key: KeyHash,
        cost: u32,
        mode: Mode,
        now: u64,
    ) -> Option<Known> {
        let known = self.pay_known(key, cost, mode, now)?;
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
    fn pay_known(&self, key: KeyHash, cost: u32, mode: Mode, now: u64) -> Option<Known> {
        let policy = key.policy_id();
        if cost == 0 || mode == Mode::Off {
            return None;
        }
        let Seen { version, algorithm } = self.briefs.get(policy.index())?.read()?;
        // By value, both: what is lent has to be in memory.
        let holds = move || version.holds();
        let verdict = self.store.charge_known(key, algorithm, cost, now, holds)?;
        if !version.holds() {
            self.cut_one(policy, key, now);
        }
        Some(Known {
            policy,
            mode,
            algorithm,
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
}
