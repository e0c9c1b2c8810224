use crate::algorithm::Algorithm;
use crate::sync::{AtomicU64, Ordering};
use crate::verdict::Verdict;

/// The state of one key, shared by all threads that charge it.
///
/// Relaxed everywhere: the number stands for itself and publishes nothing else, and a compare-and-swap always sees
/// the latest value of the one atomic it works on.
#[derive(Debug)]
pub(super) struct Word(AtomicU64);

impl Word {
    /// How often a charge is tried against other threads. A failed try means that another thread got through, so on
    /// real machines the first few succeed; the bound keeps an unlucky thread from spinning.
    const TRIES: u32 = 16;

    pub(super) fn new(state: u64) -> Self {
        Self(AtomicU64::new(state))
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Decides and charges in one step. `None` if other threads got in between each time: then the caller takes the
    /// lock that keeps them out, and uses [`Word::charge_alone`].
    #[inline(always)]
    pub(super) fn charge(&self, algorithm: &Algorithm, cost: u32, now: u64) -> Option<Verdict> {
        let mut seen = self.get();
        for _ in 0..Self::TRIES {
            let state = match algorithm.decide(seen, now, cost) {
                Verdict::Allow { state } => state,
                denied => return Some(denied),
            };
            match self
                .0
                .compare_exchange_weak(seen, state, Ordering::Relaxed, Ordering::Relaxed)
            {
                // Made anew: handing on what was decided would take it through memory, and that stalls.
                Ok(_) => return Some(Verdict::Allow { state }),
                Err(actual) => seen = actual,
            }
        }
        None
    }

    /// Decides and charges, with nobody else about.
    pub(super) fn charge_alone(&mut self, algorithm: &Algorithm, cost: u32, now: u64) -> Verdict {
        let verdict = algorithm.decide(self.get(), now, cost);
        if let Verdict::Allow { state } = verdict {
            self.set(state);
        }
        verdict
    }

    pub(super) fn set(&mut self, state: u64) {
        self.0.store(state, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::quota::Quota;

    const SECOND: u64 = 1_000_000_000;

    fn rate(burst: u32) -> Algorithm {
        Algorithm::new(Quota::per_second(1).burst(burst)).unwrap()
    }

    fn allowed(word: &Word, algorithm: &Algorithm, now: u64) -> u32 {
        u32::from(matches!(
            word.charge(algorithm, 1, now),
            Some(Verdict::Allow { .. })
        ))
    }

    /// In each interleaving exactly the burst passes, and the state says so.
    #[test]
    fn loom_threads_share_one_burst() {
        loom::model(|| {
            let (word, rate) = (Arc::new(Word::new(0)), rate(2));
            let others = [(); 2].map(|()| {
                let word = Arc::clone(&word);
                thread::spawn(move || allowed(&word, &rate, 7))
            });
            let mine = allowed(&word, &rate, 7);
            let theirs: u32 = others.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(mine + theirs, 2);
            assert_eq!(word.get(), 7 + 2 * SECOND);
        });
    }

    /// The same for what is counted in a window, at the turn of one: what has been spent in it counts in full.
    #[test]
    fn loom_threads_share_one_window() {
        loom::model(|| {
            let window = std::time::Duration::from_nanos(SECOND);
            let window = Algorithm::new(Quota::sliding_window(2, window)).unwrap();
            let word = Arc::new(Word::new(0));
            let others = [SECOND - 1, SECOND].map(|now| {
                let word = Arc::clone(&word);
                thread::spawn(move || allowed(&word, &window, now))
            });
            let mine = allowed(&word, &window, SECOND - 1);
            let theirs: u32 = others.into_iter().map(|t| t.join().unwrap()).sum();
            assert_eq!(mine + theirs, 2);
            assert_eq!(window.balance(word.get(), SECOND).remaining, 0);
        });
    }

    /// Threads whose clocks differ: the debt never shrinks, and the late one is not let in early.
    #[test]
    fn loom_a_late_clock_forgives_nothing() {
        loom::model(|| {
            let (word, rate) = (Arc::new(Word::new(0)), rate(1));
            let late = {
                let word = Arc::clone(&word);
                thread::spawn(move || allowed(&word, &rate, 100))
            };
            let early = allowed(&word, &rate, 99);
            assert_eq!(late.join().unwrap() + early, 1);
            assert!(word.get() >= 99 + SECOND);
        });
    }
}
