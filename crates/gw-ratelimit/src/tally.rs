use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use gw_core::key::MissingKey;

use crate::config::OnMissingKey;
use crate::striped;
use crate::telemetry::{self, PolicyMetrics};
use crate::tier::Tier;

/// What happened under one policy since the limiter was built; feeds the handle's snapshot, metrics and logs.
///
/// Relaxed everywhere: these are counts for people, and nothing is decided by them.
#[derive(Debug)]
pub(crate) struct Tally {
    name: Arc<str>,
    decisions: [Decisions; Self::STRIPES],
    skipped: AtomicU64,
    overflowed: AtomicU64,
    late: AtomicU64,
    refunded: AtomicU64,
    /// For each tier what `filled` is for the policy's own quota.
    tiers_filled: Box<[AtomicU64]>,
    /// Below 0 for an instant, if one thread counts a key out before another has counted it in.
    keys: AtomicI64,
    /// What became of `keys` since it was announced last.
    unannounced: AtomicI64,
    /// Whether requests lack the key: logged once, when it begins.
    key_missing: AtomicBool,
    /// Whether it was logged that there is no room.
    full_logged: AtomicBool,
    metrics: PolicyMetrics,
}

/// Threads count on different cache lines, or counting would cost them more than deciding (a single line was measured to
/// double the time of a check, with two threads only).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Decisions {
    /// By the thread whose number it is, which is alone in counting here: what it counts it reads and writes, without a locked
    /// operation.
    own: Rulings,
    /// By all threads with higher numbers whose place is the same.
    shared: Rulings,
    /// The latest time up to which the busiest key has filled its burst.
    filled: AtomicU64,
}

#[derive(Debug, Default)]
struct Rulings {
    allowed: AtomicU64,
    limited: AtomicU64,
    would_limit: AtomicU64,
}

/// The numbers of a [`Tally`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) allowed: u64,
    pub(crate) limited: u64,
    pub(crate) would_limit: u64,
    pub(crate) skipped: u64,
    pub(crate) overflowed: u64,
    /// Cells charged after the decision.
    pub(crate) late: u64,
    /// Cells given back.
    pub(crate) refunded: u64,
    pub(crate) keys: u64,
}

impl Tally {
    const STRIPES: usize = 16;

    pub(crate) fn new(name: Arc<str>) -> Self {
        Self {
            metrics: PolicyMetrics::new(Arc::clone(&name)),
            name,
            decisions: Default::default(),
            skipped: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
            late: AtomicU64::new(0),
            refunded: AtomicU64::new(0),
            tiers_filled: Box::default(),
            keys: AtomicI64::new(0),
            unannounced: AtomicI64::new(0),
            key_missing: AtomicBool::new(false),
            full_logged: AtomicBool::new(false),
        }
    }

    /// That of a policy with so many tiers.
    pub(crate) fn with_tiers(mut self, tiers: usize) -> Self {
        self.tiers_filled = (0..tiers).map(|_| AtomicU64::new(0)).collect();
        self
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts a request that was charged, and notes up to when its key has filled its burst (see
    /// [`Standing::filled_until`](crate::Standing)), if none has for longer.
    ///
    /// Two threads that share a place may come in between each other; then the smaller one is noted, until the next.
    #[inline]
    pub(crate) fn allowed(&self, tier: Option<Tier>, filled_until: u64) {
        if let Some(decisions) = self.count(|rulings| &rulings.allowed) {
            let filled = match tier {
                None => Some(&decisions.filled),
                Some(tier) => self.tiers_filled.get(tier.index()),
            };
            if let Some(filled) = filled
                && filled.load(Ordering::Relaxed) < filled_until
            {
                filled.store(filled_until, Ordering::Relaxed);
            }
        }
        self.metrics.allowed();
    }

    pub(crate) fn limited(&self) {
        self.count(|rulings| &rulings.limited);
        self.metrics.limited();
    }

    pub(crate) fn would_limit(&self) {
        self.count(|rulings| &rulings.would_limit);
        self.metrics.would_limit();
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
        self.metrics.skipped();
    }

    /// Up to when the busiest key has filled its burst.
    pub(crate) fn filled_until(&self, tier: Option<Tier>) -> u64 {
        let load = |place: &AtomicU64| place.load(Ordering::Relaxed);
        match tier {
            None => self.decisions.iter().map(|d| load(&d.filled)).max(),
            Some(tier) => self.tiers_filled.get(tier.index()).map(load),
        }
        .unwrap_or(0)
    }

    /// After a change of quotas: what was noted was measured by others.
    pub(crate) fn forget_filled(&self) {
        let own = self.decisions.iter().map(|decisions| &decisions.filled);
        for place in own.chain(&self.tiers_filled) {
            place.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn charged_late(&self, cells: u32) {
        self.late.fetch_add(cells.into(), Ordering::Relaxed);
        self.metrics.charged_late(cells);
    }

    pub(crate) fn refunded(&self, cells: u32) {
        self.refunded.fetch_add(cells.into(), Ordering::Relaxed);
        self.metrics.refunded(cells);
    }

    pub(crate) fn record_fill(&self, ratio: f64) {
        self.metrics.fill(ratio);
    }

    /// A request without the key: whatever the policy does about it, the operator is told once what is missing.
    pub(crate) fn key_missing(&self, missing: &MissingKey, rule: OnMissingKey) {
        if !self.key_missing.swap(true, Ordering::Relaxed) {
            telemetry::key_missing(&self.name, missing, rule);
        }
    }

    /// A key was forgotten in debt, for want of room. Says whether that is still to be announced.
    pub(crate) fn overflowed(&self) -> bool {
        self.overflowed.fetch_add(1, Ordering::Relaxed);
        !self.full_logged.load(Ordering::Relaxed)
    }

    pub(crate) fn key_added(&self) {
        self.keys.fetch_add(1, Ordering::Relaxed);
        self.unannounced.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn key_removed(&self) {
        self.keys.fetch_sub(1, Ordering::Relaxed);
        self.unannounced.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells recorder and log what happened to the keys. Apart from noting it, which is done under the store's locks:
    /// this runs foreign code.
    ///
    /// What is told is the change and not the number: two threads may come here in another order than that in which they
    /// changed it, and changes add up in any.
    pub(crate) fn announce(&self) {
        let change = self.unannounced.swap(0, Ordering::Relaxed);
        if change != 0 {
            self.metrics.keys_changed(change);
        }
        let full = self.overflowed.load(Ordering::Relaxed) > 0;
        if full && !self.full_logged.swap(true, Ordering::Relaxed) {
            telemetry::full(&self.name);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts {
            allowed: self.sum(|rulings| &rulings.allowed),
            limited: self.sum(|rulings| &rulings.limited),
            would_limit: self.sum(|rulings| &rulings.would_limit),
            skipped: self.skipped.load(Ordering::Relaxed),
            overflowed: self.overflowed.load(Ordering::Relaxed),
            late: self.late.load(Ordering::Relaxed),
            refunded: self.refunded.load(Ordering::Relaxed),
            keys: self.keys.load(Ordering::Relaxed).max(0).unsigned_abs(),
        }
    }

    /// Counts one, and says where.
    #[inline]
    fn count(&self, counter: impl Fn(&Rulings) -> &AtomicU64) -> Option<&Decisions> {
        let thread = striped::of_thread();
        if let Some(decisions) = self.decisions.get(thread) {
            let counter = counter(&decisions.own);
            let count = counter.load(Ordering::Relaxed);
            counter.store(count + 1, Ordering::Relaxed);
            return Some(decisions);
        }
        let decisions = self.decisions.get(thread % Self::STRIPES)?;
        counter(&decisions.shared).fetch_add(1, Ordering::Relaxed);
        Some(decisions)
    }

    fn sum(&self, counter: impl Fn(&Rulings) -> &AtomicU64) -> u64 {
        let rulings = self.decisions.iter().flat_map(|d| [&d.own, &d.shared]);
        rulings.map(|r| counter(r).load(Ordering::Relaxed)).sum()
    }
}

/// The keys go with the store, which nobody counts out. Those of another limiter that are told under the same name stay.
impl Drop for Tally {
    fn drop(&mut self) {
        let announced = *self.keys.get_mut() - *self.unannounced.get_mut();
        if announced != 0 {
            self.metrics.keys_changed(-announced);
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// Story: where a key was counted out before it was counted in, by two threads, there were 2^64 - 1 for an instant.
    #[test]
    fn there_are_never_fewer_keys_than_none() {
        let tally = Tally::new("p".into());
        tally.key_removed();
        assert_eq!(tally.counts().keys, 0);
        tally.key_added();
        tally.key_added();
        assert_eq!(tally.counts().keys, 1);
    }
}
