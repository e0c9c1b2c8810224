//! What an operator changes while requests are decided.

use std::hash::Hash;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Book, Limiter, Terms};
use crate::config::{ConfigError, Mode};
use crate::decision::PolicyId;
use crate::fields::PolicyLine;
use crate::quota::Quota;
use crate::store::Store as _;
use crate::telemetry;

impl Limiter {
    pub(crate) fn change_mode(&self, policy: PolicyId, mode: Mode) {
        let (Some(cell), Some(name)) = (self.modes.get(policy.index()), self.name(policy)) else {
            return;
        };
        let before = cell.swap(mode as u8, Ordering::Relaxed);
        if before != mode as u8 {
            self.book.change(|book| self.write_line(book), |()| {});
            telemetry::mode_changed(name, mode);
        }
    }

    /// Debts stay: a TAT is a time, and the counts of a window are cells; both keep their meaning. If a rate's
    /// burst became smaller in time, debts above it are cut to it, or a client would be locked out for longer than the new
    /// quota can mean.
    ///
    /// The cut comes when no decision is under way any more that saw the old quota. All that are then charge, and take
    /// back, under the new one, which leaves no debt above what is cut to: nothing is charged, and nothing taken back,
    /// that the cut could be in the way of.
    ///
    /// States that the new algorithm cannot read are translated before any decision sees the new quota: decisions wait
    /// for it, as for nothing else.
    pub(crate) fn change_quota(
        &self,
        policy: PolicyId,
        quota: Quota,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let name = self.name(policy).unwrap_or_default();
        let algorithm = self.memory.algorithm(quota);
        let algorithm = algorithm.map_err(|error| error.of_policy(name))?;
        let now = self.nanos(now);
        let clock = || now.max(self.nanos(Instant::now()));
        let change = |book: &mut Book| {
            let terms = book.terms.get_mut(policy.index())?;
            let before = std::mem::replace(terms, Terms { quota, algorithm });
            self.write_line(book);
            Some(before)
        };
        let before = self.book.change(change, |before| {
            let Some(before) = before.filter(|before| !algorithm.reads(&before.algorithm)) else {
                return;
            };
            let translate = |state, now| algorithm.translate(&before.algorithm, state, now);
            self.store.rewrite(policy.index(), &clock, &translate);
        });
        if let Some(before) = before {
            if algorithm.is_tighter_than(&before.algorithm) {
                let cut = |state, now| algorithm.cut(state, now);
                self.store.rewrite(policy.index(), &clock, &cut);
            }
            if quota != before.quota {
                telemetry::quota_changed(name, quota);
            }
        }
        Ok(())
    }

    pub(crate) fn reset<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> bool {
        let held = self.store.reset(self.key(policy, key));
        self.announce();
        held
    }

    /// Writes down what is told of the quotas of all policies that are enforced.
    pub(super) fn write_line(&self, book: &mut Book) {
        let policies = (0..=u8::MAX).map(PolicyId).zip(&book.terms);
        let enforced = policies.filter(|(policy, _)| self.mode(*policy) == Mode::Enforce);
        book.line = PolicyLine::of(enforced.map(|(policy, terms)| {
            let name = self.name(policy).unwrap_or_default();
            (policy, name, terms.algorithm)
        }));
    }
}
