//! What an operator changes while requests are decided.

use std::hash::Hash;

use gw_core::Mode;
use tokio::time::Instant;

use super::builder::unlike;
use super::{Book, Limiter, Terms};
use crate::algorithm::Algorithm;
use crate::config::ConfigError;
use crate::decision::PolicyId;
use crate::fields::PolicyLine;
use crate::quota::Quota;
use crate::store::KeyHash;
use crate::telemetry;
use crate::tier::Tier;

impl Limiter {
    pub(crate) fn change_mode(&self, policy: PolicyId, mode: Mode) {
        self.change_modes(|one| one == policy, mode);
    }

    /// Changes the mode of some policies. Of two changes at once one comes after the other.
    pub(crate) fn change_modes(&self, of: impl Fn(PolicyId) -> bool, mode: Mode) {
        let change = |book: &mut Book| {
            // With the first copy all are switched.
            let policies = (0..=u8::MAX).map(PolicyId).zip(&self.modes);
            let switched: Vec<_> = policies
                .filter(|(policy, current)| of(*policy) && current.set(mode))
                .map(|(policy, _)| policy)
                .collect();
            self.write_line(book);
            switched
        };
        // Told of afterwards: who listens may come back with another change.
        for policy in self.book.change(change, |_| {}) {
            telemetry::mode_changed(self.name(policy).unwrap_or_default(), mode);
        }
    }

    /// Changes a policy's own quota.
    pub(crate) fn change_quota(
        &self,
        policy: PolicyId,
        quota: Quota,
        now: Instant,
    ) -> Result<(), ConfigError> {
        self.change_quota_in(policy, None, quota, now)
    }

    /// Changes a policy's own quota or that of a tier.
    ///
    /// Debts stay: a TAT is a time, and the counts of a window are cells; both keep their meaning. If a rate's
    /// burst became smaller in time, debts above it are cut to it, or a client would be locked out for longer than the new
    /// quota can mean.
    ///
    /// The cut comes when no decision is under way any more that saw the old quota, but for those on one key alone, which take
    /// nothing back, and cut what they charged if it came too late (see `pay_known`). All that are then charge, and take
    /// back, under the new one, which leaves no debt above what is cut to: nothing is charged, and nothing taken back,
    /// that the cut could be in the way of.
    ///
    /// States that the new algorithm cannot read are translated before any decision sees the new quota: decisions wait
    /// for it, as for nothing else.
    ///
    /// A key may be in any tier, so what debts are cut to is the most that some quota of the policy allows; and twice that
    /// where keys were charged without being asked.
    pub(crate) fn change_quota_in(
        &self,
        policy: PolicyId,
        tier: Option<Tier>,
        quota: Quota,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let name = self.name(policy).unwrap_or_default();
        let tier_name = tier.and_then(|tier| self.tier_name(policy, tier));
        let algorithm = self.memory.algorithm(quota);
        let algorithm = algorithm.map_err(|error| error.of_policy(name))?;
        let now = self.nanos(now);
        let clock = || now.max(self.nanos(Instant::now()));
        let change = |book: &mut Book| {
            if self.memory.is_shared() && !book.reads(policy, &algorithm) {
                return Err(fixed());
            }
            let changed = book.change(policy, tier, quota, algorithm)?;
            self.write_line(book);
            Ok(changed)
        };
        // Until the debts are cut.
        let cutting = self.lates.cutting();
        let changed = self.book.change(change, |changed: &Result<Changed, _>| {
            let Ok(changed) = changed else { return };
            if changed.is_unreadable() || changed.is_tighter() {
                self.revise(policy);
            }
            let translate = || {
                let before = changed.before;
                let translate = |state, now| algorithm.translate(&before, state, now);
                if changed.is_unreadable() {
                    self.store.rewrite(policy.index(), &clock, &translate);
                }
            };
            match (tier, self.briefs.get(policy.index())) {
                (None, Some(brief)) => brief.change(algorithm, translate),
                _ => translate(),
            }
        });
        let changed = changed.map_err(|error: ConfigError| error.of_policy(name))?;
        if changed.is_tighter() {
            let most = cutting.most_debt(policy.index(), changed.roomiest_after);
            let cut = |state, now| most.cut(state, now);
            self.store.rewrite(policy.index(), &clock, &cut);
        }
        drop(cutting);
        if quota != changed.quota_before {
            if let Some(tally) = self.tallies.get(policy.index()) {
                tally.forget_filled();
            }
            telemetry::quota_changed(name, tier_name, quota);
        }
        Ok(())
    }

    /// Does for one key what a change of quotas did for all of the policy: for who has charged it under what was in force
    /// before. Waits until that change is made and all debts are cut.
    #[cold]
    #[inline(never)]
    pub(super) fn cut_one(&self, policy: PolicyId, key: KeyHash, now: u64) {
        // Before the book, as a change does.
        let cutting = self.lates.cutting();
        let roomiest = self.book.read().roomiest(policy.index());
        if let Some(roomiest) = roomiest {
            let most = cutting.most_debt(policy.index(), roomiest);
            let clock = || now.max(self.nanos(Instant::now()));
            self.store.lower(key, &|state| most.cut(state, clock()));
        }
    }

    /// Frees a key of its debt and its strikes.
    pub(crate) fn reset<K: Hash + ?Sized>(&self, policy: PolicyId, key: &K) -> bool {
        let charge = self.charge(policy, key, 0);
        // While no decision is under way: what it is about to take back would come off what is charged afterwards.
        let held = self.book.alone(|| {
            let held = self.store.reset(charge.key);
            self.revise(policy);
            held
        });
        let struck = self.forget_strikes(&charge);
        self.announce();
        held || struck
    }

    /// Writes down what is told of the quotas of all policies that are enforced.
    pub(super) fn write_line(&self, book: &mut Book) {
        // Beyond the policies, the modes end.
        let policies = (0..=u8::MAX).map(PolicyId).zip(&book.terms);
        let enforced = policies.filter(|(policy, _)| self.mode(*policy) == Mode::Enforce);
        book.line = PolicyLine::of(enforced.map(|(policy, terms)| {
            let name = self.name(policy).unwrap_or_default();
            (policy, name, terms.algorithm)
        }));
    }
}

/// A change after which other instances that share the limit could not read its states.
const fn fixed() -> ConfigError {
    const RULE: &str =
        "must stay a rate, or a sliding window of the same length, where it is shared in Redis";
    ConfigError::new("quota", RULE)
}

/// What a change of quota comes to.
struct Changed {
    quota_before: Quota,
    before: Algorithm,
    after: Algorithm,
    roomiest_before: Algorithm,
    roomiest_after: Algorithm,
}

impl Changed {
    fn is_unreadable(&self) -> bool {
        !self.after.reads(&self.before)
    }

    fn is_tighter(&self) -> bool {
        self.roomiest_after.is_tighter_than(&self.roomiest_before)
    }
}

impl Book {
    /// Whether states of a policy mean the same under another algorithm.
    fn reads(&self, policy: PolicyId, algorithm: &Algorithm) -> bool {
        let mut all = self.all_of(policy.index());
        all.all(|terms| algorithm.reads(&terms.algorithm))
    }

    fn change(
        &mut self,
        policy: PolicyId,
        tier: Option<Tier>,
        quota: Quota,
        algorithm: Algorithm,
    ) -> Result<Changed, ConfigError> {
        let unknown = || ConfigError::new("tier", "must be one of the policy's");
        let index = policy.index();
        let others = self.all_of(index).count().saturating_sub(1);
        let mut all = self.all_of(index);
        if others > 0 && !all.all(|terms| algorithm.reads(&terms.algorithm)) {
            return Err(unlike());
        }
        drop(all);
        let roomiest_before = self.roomiest(index).ok_or_else(unknown)?;
        let place = match tier {
            Some(tier) => self
                .tiers
                .get_mut(index)
                .and_then(|tiers| tiers.get_mut(tier.index())),
            None => self.terms.get_mut(index),
        };
        let terms = place.ok_or_else(unknown)?;
        let before = std::mem::replace(terms, Terms { quota, algorithm });
        Ok(Changed {
            quota_before: before.quota,
            before: before.algorithm,
            after: algorithm,
            roomiest_before,
            roomiest_after: self.roomiest(index).ok_or_else(unknown)?,
        })
    }
}
