use crate::gcra::{Gcra, Verdict};
use crate::sync::{AtomicU64, Ordering};

/// The TAT of one key, shared by all threads that charge it.
///
/// Relaxed everywhere: the number stands for itself and publishes nothing else, and a compare-and-swap always sees
/// the latest value of the one atomic it works on.
#[derive(Debug)]
pub(super) struct Tat(AtomicU64);

impl Tat {
    /// How often a charge is tried against other threads. A failed try means that another thread got through, so on
    /// real machines the first few succeed; the bound keeps an unlucky thread from spinning.
    const TRIES: u32 = 16;

    pub(super) fn new(tat: u64) -> Self {
        Self(AtomicU64::new(tat))
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Decides and charges in one step. `None` if other threads got in between each time: then the caller takes the
    /// lock that keeps them out, and uses [`Tat::charge_alone`].
    pub(super) fn charge(&self, gcra: &Gcra, cost: u32, now: u64) -> Option<Verdict> {
        let mut seen = self.get();
        for _ in 0..Self::TRIES {
            let verdict = gcra.decide(seen, now, cost);
            let Verdict::Allow { tat } = verdict else {
                return Some(verdict);
            };
            match self
                .0
                .compare_exchange_weak(seen, tat, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Some(verdict),
                Err(actual) => seen = actual,
            }
        }
        None
    }

    /// Decides and charges, with nobody else about.
    pub(super) fn charge_alone(&mut self, gcra: &Gcra, cost: u32, now: u64) -> Verdict {
        let verdict = gcra.decide(self.get(), now, cost);
        if let Verdict::Allow { tat } = verdict {
            self.set(tat);
        }
        verdict
    }

    pub(super) fn set(&mut self, tat: u64) {
        self.0.store(tat, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::quota::Quota;

    fn gcra(burst: u32) -> Gcra {
        Gcra::new(Quota::per_second(1).burst(burst)).unwrap()
    }

    fn allowed(tat: &Tat, gcra: &Gcra, now: u64) -> u32 {
        u32::from(matches!(
            tat.charge(gcra, 1, now),
            Some(Verdict::Allow { .. })
        ))
    }

    /// In each interleaving exactly the burst passes, and the state says so.
    #[test]
    fn loom_threads_share_one_burst() {
        loom::model(|| {
            let (tat, gcra) = (Arc::new(Tat::new(0)), gcra(2));
            let others = [(); 2].map(|()| {
                let tat = Arc::clone(&tat);
                thread::spawn(move || allowed(&tat, &gcra, 7))
            });
            let mine = allowed(&tat, &gcra, 7);
            let theirs: u32 = others.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(mine + theirs, 2);
            assert_eq!(tat.get(), 7 + gcra.tolerance());
        });
    }

    /// Threads whose clocks differ: the debt never shrinks, and the late one is not let in early.
    #[test]
    fn loom_a_late_clock_forgives_nothing() {
        loom::model(|| {
            let (tat, gcra) = (Arc::new(Tat::new(0)), gcra(1));
            let late = {
                let tat = Arc::clone(&tat);
                thread::spawn(move || allowed(&tat, &gcra, 100))
            };
            let early = allowed(&tat, &gcra, 99);
            assert_eq!(late.join().unwrap() + early, 1);
            assert!(tat.get() >= 99 + gcra.interval());
        });
    }
}
