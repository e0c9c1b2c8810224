use crate::algorithm::Algorithm;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// Which policies were ever charged late, so that debts may be above a burst.
///
/// Whoever cuts debts asks once, and then goes over all keys. A first late charge in the middle of that would be cut to
/// what it was not known to exceed, so it waits until the cut is over; later ones find that they are known.
#[derive(Debug)]
pub(super) struct Lates {
    /// By policy.
    policies: Box<[AtomicBool]>,
    cutting: Mutex<()>,
}

/// No policy is charged late for the first time while this is held.
pub(super) struct Cutting<'a> {
    lates: &'a Lates,
    _turn: MutexGuard<'a, ()>,
}

impl Lates {
    pub(super) fn new(policies: usize) -> Self {
        Self {
            policies: (0..policies).map(|_| AtomicBool::new(false)).collect(),
            cutting: Mutex::new(()),
        }
    }

    /// A policy is about to be charged late.
    pub(super) fn note(&self, policy: usize) {
        let Some(known) = self.policies.get(policy) else {
            return;
        };
        // Once it is known to somebody who asked under the lock, it is to all who take it later.
        if !known.load(Ordering::Acquire) {
            let _turn = self.turn();
            known.store(true, Ordering::Release);
        }
    }

    /// Waits for those who note something just now.
    pub(super) fn cutting(&self) -> Cutting<'_> {
        Cutting {
            lates: self,
            _turn: self.turn(),
        }
    }

    // Nothing under it panics.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.cutting
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Cutting<'_> {
    /// The algorithm whose burst is the most that a key may owe, where `roomiest` is what leaves the most room for requests
    /// that are asked for.
    pub(super) fn most_debt(&self, policy: usize, roomiest: Algorithm) -> Algorithm {
        if self.is_late(policy) {
            roomiest.with_double_burst()
        } else {
            roomiest
        }
    }

    /// Whether a policy was ever charged late.
    fn is_late(&self, policy: usize) -> bool {
        let known = self.lates.policies.get(policy);
        known.is_some_and(|known| known.load(Ordering::Acquire))
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::sync::AtomicU64;

    /// Story: a quota was made smaller, and whoever did it had seen that nobody was ever charged late. Then came the first
    /// late charge, of more than a burst, and after it the cut, to a burst.
    #[test]
    fn loom_a_first_late_charge_is_not_cut() {
        const BURST: u64 = 10;
        loom::model(|| {
            let lates = Arc::new(Lates::new(1));
            let debt = Arc::new(AtomicU64::new(0));
            let charging = {
                let (lates, debt) = (Arc::clone(&lates), Arc::clone(&debt));
                thread::spawn(move || {
                    lates.note(0);
                    debt.fetch_add(BURST + 5, Ordering::Relaxed);
                })
            };
            let cutting = lates.cutting();
            let most = if cutting.is_late(0) { 2 * BURST } else { BURST };
            // A look and a replacement, as a table's rewrite makes under a shard's lock.
            let cut = |seen: u64| Some(seen.min(most));
            debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, cut)
                .unwrap();
            drop(cutting);
            charging.join().unwrap();
            assert_eq!(debt.load(Ordering::Relaxed), BURST + 5);
        });
    }
}
