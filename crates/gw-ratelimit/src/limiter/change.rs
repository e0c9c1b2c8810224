//! What an operator changes while requests are decided.

use std::hash::Hash;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Book, Limiter, Terms};
use crate::config::{ConfigError, Mode};
use crate::decision::PolicyId;
use crate::fields::PolicyLine;
use crate::gcra::Gcra;
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
            self.book.change(|book| self.write_line(book));
            telemetry::mode_changed(name, mode);
        }
    }

    /// Debts stay: a TAT is a time, and keeps its meaning. If the burst became smaller in time, debts above it are cut
    /// to it, or a client would be locked out for longer than the new quota can mean.
    ///
    /// The cut comes when no decision is under way any more that saw the old quota. All that are then charge, and take
    /// back, under the new one, which leaves no debt above what is cut to: nothing is charged, and nothing taken back,
    /// that the cut could be in the way of.
    pub(crate) fn change_quota(
        &self,
        policy: PolicyId,
        quota: Quota,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let name = self.name(policy).unwrap_or_default();
        let gcra = Gcra::new(quota).map_err(|error| error.of_policy(name))?;
        let before = self.book.change(|book| {
            let terms = book.terms.get_mut(policy.index())?;
            let before = std::mem::replace(terms, Terms { quota, gcra });
            self.write_line(book);
            Some(before)
        });
        if let Some(before) = before {
            if gcra.tolerance() < before.gcra.tolerance() {
                let now = self.nanos(now);
                self.store.clamp(policy.index(), &|| {
                    let now = now.max(self.nanos(Instant::now()));
                    now.saturating_add(gcra.tolerance())
                });
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
            (policy, name, terms.gcra)
        }));
    }
}
