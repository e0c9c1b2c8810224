//! One policy of a request that is being decided.

use gw_core::Mode;
use smallvec::SmallVec;

use super::limiter::SharedCharge;
use super::receipt::{Paid, Receipts};
use super::script::{Answer, Place, Question, Seen};
use crate::algorithm::Algorithm;
use crate::decision::{Applied, Ruling, Standing};
use crate::gcra::Gcra;
use crate::verdict::Verdict;

#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    pub(super) charge: SharedCharge,
    pub(super) applied: Applied<Algorithm>,
    /// What it pays: more than the charge says, if the key has strikes here.
    pub(super) cost: u32,
    /// What was decided here, if it was. Else what is asked, and for how many cells.
    pub(super) known: Option<Verdict>,
    /// When the verdict's state is to be read, if that is not now: what is counted in Redis' windows is.
    pub(super) read_at: Option<u64>,
    pub(super) lacking: u32,
    pub(super) extra: u32,
    /// What was charged in Redis, should the request pass.
    pub(super) receipts: Receipts,
}

pub(super) type Items = SmallVec<[Item; 4]>;

impl Item {
    /// What cells are leased of: rates are, sliding windows are asked for each time.
    pub(super) const fn rate(&self) -> Option<&Gcra> {
        match &self.applied.algorithm {
            Algorithm::Gcra(gcra) => Some(gcra),
            Algorithm::Window(_) => None,
        }
    }

    /// A state of one that nothing is known of.
    pub(super) fn idle(&self, now: u64) -> u64 {
        self.applied.algorithm.idle(now)
    }

    pub(super) fn place(&self) -> Place {
        Place {
            policy: self.applied.policy.index(),
            digest: self.charge.digest,
        }
    }

    fn question(&self) -> Question {
        Question {
            place: self.place(),
            algorithm: self.applied.algorithm,
            cost: self.lacking,
            extra: self.extra,
            enforced: self.applied.mode == Mode::Enforce,
        }
    }

    /// What Redis' answer means. It is not asked again for `pause`.
    pub(super) fn hear(&mut self, answer: &Answer, now: u64, pause: u64) {
        let algorithm = self.applied.algorithm;
        let (state, at) = answer.seen.state(&algorithm, now);
        self.read_at = (at != now).then_some(at);
        self.known = Some(match (answer.ruling, &answer.seen, &algorithm) {
            (Ruling::Allowed, ..) => Verdict::Allow { state },
            (Ruling::TooCostly, ..) => Verdict::DenyForever { state },
            (Ruling::Limited, Seen::Rate { debt, .. }, Algorithm::Gcra(gcra)) => {
                let after = debt.saturating_add(gcra.cost(self.lacking));
                let wait = after.saturating_sub(gcra.tolerance());
                // Nor is it asked again before that.
                let wait = wait.max(pause);
                Verdict::Deny { state, wait }
            }
            (Ruling::Limited, ..) => match algorithm.decide(state, at, self.lacking) {
                denied @ Verdict::Deny { .. } => denied,
                // Not reached: the script decides as this does.
                Verdict::Allow { .. } | Verdict::DenyForever { .. } => {
                    Verdict::Deny { state, wait: 1 }
                }
            },
        });
    }

    /// Its key has this state, whatever was decided.
    pub(super) const fn stands_at(&mut self, tat: u64) {
        if let Some(
            Verdict::Allow { state } | Verdict::Deny { state, .. } | Verdict::DenyForever { state },
        ) = &mut self.known
        {
            *state = tat;
        }
    }

    /// How the request stands with the policy, once that is known.
    pub(super) fn standing(&self, now: u64) -> Standing {
        let idle = Verdict::Allow {
            state: self.idle(now),
        };
        let verdict = self.known.unwrap_or(idle);
        let applied = self.applied.with(&self.applied.algorithm);
        Standing::new(applied, verdict, self.read_at.unwrap_or(now))
    }

    /// What it was charged in Redis, now that the request passes.
    pub(super) fn paid(&self) -> Paid {
        Paid::new(&self.applied.algorithm, &self.receipts)
    }

    pub(super) fn is_allowed(&self) -> bool {
        matches!(self.known, Some(Verdict::Allow { .. }))
    }

    pub(super) fn refuses(&self) -> bool {
        self.applied.mode == Mode::Enforce && self.known.is_some() && !self.is_allowed()
    }
}

impl Seen {
    /// How the key stands.
    pub(super) fn standing(&self, applied: Applied<Algorithm>) -> Standing {
        let (state, at) = self.state(&applied.algorithm, 0);
        let verdict = Verdict::Allow { state };
        Standing::new(applied.with(&applied.algorithm), verdict, at)
    }

    /// The key's state here, and when it is to be read.
    pub(super) fn state(&self, algorithm: &Algorithm, now: u64) -> (u64, u64) {
        match (*self, algorithm) {
            (
                Self::Window {
                    current,
                    previous,
                    elapsed,
                    ..
                },
                Algorithm::Window(window),
            ) => {
                let elapsed = elapsed.saturating_mul(crate::window::Window::MICROSECOND);
                window.seen(current, previous, elapsed)
            }
            (Self::Rate { debt, .. }, _) => (now.saturating_add(debt), now),
            // Not reached: an answer is read as of its question's algorithm.
            (Self::Window { .. }, Algorithm::Gcra(_)) => (now, now),
        }
    }
}

/// What is not known here.
pub(super) fn questions(items: &Items) -> SmallVec<[Question; 4]> {
    let unknown = items.iter().filter(|item| item.known.is_none());
    unknown.map(Item::question).collect()
}
