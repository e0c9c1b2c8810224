//! What a policy decides by, for decisions on one key alone.

use crate::algorithm::Algorithm;
use crate::sync::{AtomicU64, Ordering};

/// A policy's algorithm where it can be read without a lock: a version, and the two words that it is made of.
///
/// The version is odd while nobody may decide by it. It changes with the algorithm, and never comes back. So who finds it
/// unchanged has read two words that belong together; and who finds it unchanged *after* charging knows that whoever cuts
/// debts afterwards sees that charge.
#[derive(Debug)]
pub(super) struct Brief {
    version: AtomicU64,
    words: [AtomicU64; 2],
}

/// What was read of a [`Brief`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) version: Version<'a>,
    pub(super) algorithm: Algorithm,
}

/// Which version of a [`Brief`] was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Version<'a> {
    brief: &'a Brief,
    number: u64,
}

impl Brief {
    const WITHHELD: u64 = 1;

    pub(super) fn new(algorithm: Algorithm) -> Self {
        Self {
            version: AtomicU64::new(0),
            words: algorithm.words().map(AtomicU64::new),
        }
    }

    /// Of a policy that takes more than an algorithm to decide: nobody ever decides by it.
    pub(super) fn withheld(algorithm: Algorithm) -> Self {
        Self {
            version: AtomicU64::new(Self::WITHHELD),
            ..Self::new(algorithm)
        }
    }

    /// The algorithm, unless it is withheld or being changed.
    pub(super) fn read(&self) -> Option<Seen<'_>> {
        // Acquire each: who reads a new word finds the version odd, or newer yet, when it looks again.
        let version = self.version.load(Ordering::Acquire);
        let words = self
            .words
            .each_ref()
            .map(|word| word.load(Ordering::Acquire));
        let seen = Seen {
            version: Version {
                brief: self,
                number: version,
            },
            algorithm: Algorithm::of_words(words),
        };
        (version & Self::WITHHELD == 0 && seen.holds()).then_some(seen)
    }

    /// Changes the algorithm; `prepare` runs when nobody can begin to decide by the old one any more, and nobody can by the
    /// new one yet. One change at a time, which is the caller's business.
    pub(super) fn change(&self, algorithm: Algorithm, prepare: impl FnOnce()) {
        let version = self.version.load(Ordering::Relaxed);
        if version & Self::WITHHELD != 0 {
            return prepare();
        }
        self.version.store(version + 1, Ordering::Relaxed);
        prepare();
        for (word, new) in self.words.iter().zip(algorithm.words()) {
            word.store(new, Ordering::Release);
        }
        self.version.store(version + 2, Ordering::Release);
    }
}

impl Seen<'_> {
    /// Whether it is still in force.
    pub(super) fn holds(&self) -> bool {
        self.version.holds()
    }
}

impl Version<'_> {
    /// Whether it is still in force. Ordered by what comes before: a lock, or a charge that acquires.
    pub(super) fn holds(self) -> bool {
        self.brief.version.load(Ordering::Relaxed) == self.number
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::quota::Quota;

    fn algorithm() -> impl Strategy<Value = Algorithm> {
        let rate = (1..1u64 << 40, 1..1u32 << 20)
            .prop_map(|(nanos, burst)| Quota::per(Duration::from_nanos(nanos), 1).burst(burst));
        let window = (1..60u64, 1..60_000u32)
            .prop_map(|(secs, limit)| Quota::sliding_window(limit, Duration::from_secs(secs)));
        prop_oneof![rate, window].prop_filter_map("not a quota", |quota| Algorithm::new(quota).ok())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(before in algorithm(), after in algorithm()) {
            let brief = Brief::new(before);
            let seen = brief.read().unwrap();
            prop_assert_eq!(seen.algorithm, before);
            brief.change(after, || assert!(brief.read().is_none() && !seen.holds()));
            prop_assert!(!seen.holds());
            prop_assert_eq!(brief.read().map(|seen| seen.algorithm), Some(after));
        }
    }

    #[test]
    fn what_is_withheld_stays_so() {
        let algorithm = Algorithm::new(Quota::per_second(1)).unwrap();
        let brief = Brief::withheld(algorithm);
        let mut prepared = false;
        brief.change(algorithm, || prepared = true);
        assert!(prepared && brief.read().is_none());
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::quota::Quota;
    use crate::store::{Compact, KeyHash};
    use crate::tally::Tally;
    use crate::verdict::Verdict;

    const NOW: u64 = 7_000;
    const SECOND: u64 = 1_000_000_000;

    fn rate(cells: u32) -> Algorithm {
        Algorithm::new(Quota::per_second(cells).burst(cells)).unwrap()
    }

    fn second_each(burst: u32) -> Algorithm {
        Algorithm::new(Quota::per_second(1).burst(burst)).unwrap()
    }

    /// A key of compact memory, which is charged under no lock.
    struct Kept {
        brief: Brief,
        store: Compact,
    }

    impl Kept {
        const KEY: KeyHash = KeyHash::new(0x100, 0);

        fn with_debt(seconds: u32) -> Arc<Self> {
            let tallies = [Tally::new("p".into())].into_iter().collect();
            let kept = Self {
                brief: Brief::new(second_each(10)),
                store: Compact::new(1, tallies),
            };
            kept.store.charge(Self::KEY, &second_each(10), seconds, NOW);
            Arc::new(kept)
        }

        /// As the limiter does for one known key: whether it was charged.
        fn pay(&self) -> bool {
            let Some(terms) = self.brief.read() else {
                return false;
            };
            let holds = || terms.holds();
            let paid = self
                .store
                .charge_known(Self::KEY, terms.algorithm, 1, NOW, holds);
            if paid.is_some() && !terms.holds() {
                self.store
                    .lower(Self::KEY, &|tat| second_each(2).cut(tat, NOW));
            }
            matches!(paid, Some(Verdict::Allow { .. }))
        }

        /// As the limiter does: a smaller burst, then all debts cut to it.
        fn shrink(&self) {
            self.brief.change(second_each(2), || {});
            let cut = |tat, now| second_each(2).cut(tat, now);
            self.store.rewrite(0, &|| NOW, &cut);
        }

        fn debt(&self) -> u64 {
            self.store.peek_own(Self::KEY) - NOW
        }
    }

    /// The debt that is left, in each interleaving of a few pieces, by whether the key was charged.
    fn model(debt: u32, expected: fn(bool) -> u64) {
        let mut model = loom::model::Builder::new();
        // There are too many otherwise, where both the charge and the cut go through.
        model.preemption_bound = Some(3);
        model.check(move || {
            let kept = Kept::with_debt(debt);
            let paying = {
                let kept = Arc::clone(&kept);
                thread::spawn(move || kept.pay())
            };
            kept.shrink();
            let charged = paying.join().unwrap();
            assert_eq!(kept.debt(), expected(charged) * SECOND);
        });
    }

    /// Whether the charge comes before the cut or after it: the client is locked out for no longer than the new quota can
    /// mean, and nothing of what it owes is forgiven.
    #[test]
    fn loom_no_charge_under_old_terms_outlasts_the_cut() {
        model(5, |_| 2);
        // So much that the charge after the change is refused, and that before is cut off.
        model(2, |_| 2);
    }

    /// A change that cuts nothing of what there is loses no charge.
    #[test]
    fn loom_no_charge_is_lost_to_a_change() {
        model(1, |charged| 1 + u64::from(charged));
    }

    /// Never one word of each.
    #[test]
    fn loom_no_half_of_an_algorithm_is_read() {
        loom::model(|| {
            let brief = Arc::new(Brief::new(rate(1)));
            let changing = {
                let brief = Arc::clone(&brief);
                thread::spawn(move || brief.change(rate(2), || {}))
            };
            if let Some(seen) = brief.read() {
                assert!(seen.algorithm == rate(1) || seen.algorithm == rate(2));
            }
            changing.join().unwrap();
            assert_eq!(brief.read().unwrap().algorithm, rate(2));
        });
    }
}
