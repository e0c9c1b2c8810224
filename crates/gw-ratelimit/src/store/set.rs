use std::sync::PoisonError;

use crate::gcra::Gcra;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use crate::verdict::Verdict;

/// Eight keys with their TATs in one cache line: a fingerprint of 16 bits and 48 bits of microseconds to a word.
///
/// A key that is in none of the slots takes the one with the least TAT, and begins with that TAT. Since nothing ever
/// lowers the *least* TAT of a set, it is never below that of a key which had to go; so nobody's debt is forgiven.
///
/// Two rules make this hold between threads:
///
/// - Who finds its key charges it with one compare-and-swap, which fails if the slot has changed in any way.
/// - Fingerprints are changed, and TATs lowered, only by the one who holds the set's lock (which is shared by many sets,
///   and lies elsewhere). So one who holds it and does not find a key knows that it is not there: no key is in two
///   slots, where what is charged to one of them would be missed in the other.
///
/// A word stands for itself, and the lock orders what must be seen; so slots are looked at relaxed. What changes them
/// acquires and releases: who charges a slot that was rewritten for a change of quotas finds out about the change.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Set([AtomicU64; Self::SLOTS]);

/// What a key finds: its own slot, or that with the least TAT.
#[derive(Debug, Clone, Copy)]
struct Found<'a> {
    own: bool,
    slot: &'a AtomicU64,
    word: u64,
}

/// Where a charge was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seat {
    /// In the key's own slot.
    Own,
    /// In one that nobody had.
    Free,
    /// In one whose key had to go, for want of others; it had no debt.
    Idle,
    /// The same, with that key's debt.
    Indebted,
}

/// In nanoseconds: what a TAT is counted in.
pub(super) const TICK: u64 = 1_000;
const TAT_BITS: u32 = 48;
const TAT: u64 = (1 << TAT_BITS) - 1;

impl<'a> Found<'a> {
    fn see(slot: &'a AtomicU64, fingerprint: u16) -> Self {
        let word = slot.load(Ordering::Relaxed);
        let own = word >> TAT_BITS == u64::from(fingerprint);
        Self { own, slot, word }
    }

    const fn tat(&self) -> u64 {
        tat(self.word)
    }

    /// Changes the slot, unless somebody else has.
    fn replace(&self, word: u64) -> bool {
        replace(self.slot, self.word, word)
    }

    /// Where a charge at `now` was made that found this.
    const fn seat(&self, now: u64) -> Seat {
        match (self.own, self.word) {
            (true, _) => Seat::Own,
            (false, 0) => Seat::Free,
            (false, word) if tat(word) <= now => Seat::Idle,
            (false, _) => Seat::Indebted,
        }
    }
}

impl Set {
    /// A cache line's; in models of all interleavings as few as show what there is to see.
    pub(super) const SLOTS: usize = if cfg!(all(test, loom)) { 3 } else { 8 };

    pub(super) fn new() -> Self {
        Self([(); Self::SLOTS].map(|()| AtomicU64::new(0)))
    }

    /// The TAT that a charge would find.
    pub(super) fn peek(&self, fingerprint: u16) -> u64 {
        self.look(fingerprint).tat()
    }

    /// The TAT of a key's own slot.
    pub(super) fn peek_own(&self, fingerprint: u16) -> u64 {
        let found = self.look(fingerprint);
        if found.own { found.tat() } else { 0 }
    }

    /// Decides and, if allowed, charges a key that has a slot of its own; `None` if it has none.
    ///
    /// All slots are looked at without asking which it is: a processor foresees that, and not where a key is.
    #[inline]
    pub(super) fn charge_own(
        &self,
        fingerprint: u16,
        gcra: &Gcra,
        cost: u32,
        now: u64,
    ) -> Option<Verdict> {
        let now = now - now % TICK;
        let fingerprint_bits = u64::from(fingerprint) << TAT_BITS;
        let slots = self.0.iter().enumerate();
        let own = slots.fold(0u32, |own, (index, slot)| {
            let word = slot.load(Ordering::Relaxed);
            own | u32::from(word & !TAT == fingerprint_bits) << index
        });
        let slot = self.0.get(own.trailing_zeros() as usize)?;
        let mut seen = slot.load(Ordering::Relaxed);
        // Ends: each time it goes on, another thread got through.
        while seen & !TAT == fingerprint_bits {
            let verdict = gcra.decide(tat(seen), now, cost);
            let Verdict::Allow { state } = verdict else {
                return Some(verdict);
            };
            let word = word(fingerprint, state)?;
            match exchange(slot, seen, word) {
                Ok(_) => return Some(Verdict::Allow { state }),
                Err(actual) => seen = actual,
            }
        }
        None
    }

    /// Decides and, if allowed, charges, as one step.
    pub(super) fn charge(
        &self,
        fingerprint: u16,
        gcra: &Gcra,
        cost: u32,
        now: u64,
        lock: &Mutex<()>,
    ) -> (Verdict, Option<Seat>) {
        let now = now - now % TICK;
        let mut guard = None;
        // Ends: each time it goes on, another thread got through, or this one got the lock.
        loop {
            let found = self.look(fingerprint);
            let verdict = gcra.decide(found.tat(), now, cost);
            let Verdict::Allow { state } = verdict else {
                return (verdict, None);
            };
            if !found.own && guard.is_none() {
                guard = Some(hold(lock));
                continue;
            }
            let Some(word) = word(fingerprint, state) else {
                // The end of time: what cannot be written down cannot be allowed.
                let (state, wait) = (found.tat(), gcra.interval());
                return (Verdict::Deny { state, wait }, None);
            };
            if found.replace(word) {
                return (verdict, Some(found.seat(now)));
            }
        }
    }

    /// Lowers the TAT of a key to what `change` makes of it, or as far as the set allows: not below the least of the
    /// others, which may be what remains of a key that had to go. `false` if the key has no slot.
    pub(super) fn lower(
        &self,
        fingerprint: u16,
        lock: &Mutex<()>,
        change: impl Fn(u64) -> u64,
    ) -> bool {
        let _guard = hold(lock);
        loop {
            let found = self.look(fingerprint);
            if !found.own {
                return false;
            }
            // After the look: what is charged meanwhile makes the replacement fail.
            let lowered = change(found.tat()).max(self.least_but(found.slot));
            let word = word(fingerprint, lowered).unwrap_or(found.word);
            if lowered >= found.tat() || found.replace(word) {
                return true;
            }
        }
    }

    /// Takes a key out, as far as the set allows. `None` if it was not there; otherwise whether its slot is free now.
    pub(super) fn remove(&self, fingerprint: u16, lock: &Mutex<()>) -> Option<bool> {
        let _guard = hold(lock);
        loop {
            let found = self.look(fingerprint);
            if !found.own {
                return None;
            }
            let least = self.least_but(found.slot).min(found.tat());
            // Free slots are no key's.
            let left = match least {
                0 => 0,
                debt => word(fingerprint, debt).unwrap_or(found.word),
            };
            if found.replace(left) {
                return Some(left == 0);
            }
        }
    }

    /// Lowers all TATs, those of keys that had to go included.
    pub(super) fn rewrite(
        &self,
        lock: &Mutex<()>,
        clock: &dyn Fn() -> u64,
        change: &dyn Fn(u64, u64) -> u64,
    ) {
        let _guard = hold(lock);
        loop {
            let seen = self.0.each_ref().map(|slot| slot.load(Ordering::Relaxed));
            if seen == [0; Self::SLOTS] {
                return;
            }
            // After the look: what is charged meanwhile makes the replacement fail.
            let now = clock();
            let changed = self.0.iter().zip(seen).all(|(slot, seen)| {
                let changed = change(tat(seen), now).div_ceil(TICK);
                let word = seen & !TAT | changed.min(seen & TAT);
                // Those that stay as they are as well: who charges them later must find out.
                replace(slot, seen, word)
            });
            if changed {
                return;
            }
        }
    }

    fn look(&self, fingerprint: u16) -> Found<'_> {
        let [first, rest @ ..] = &self.0;
        let mut least = Found::see(first, fingerprint);
        for slot in rest {
            if least.own {
                break;
            }
            let found = Found::see(slot, fingerprint);
            if found.own || found.word & TAT < least.word & TAT {
                least = found;
            }
        }
        least
    }

    /// The least TAT but for one slot's.
    fn least_but(&self, but: &AtomicU64) -> u64 {
        let others = self.0.iter().filter(|slot| !std::ptr::eq(*slot, but));
        let tats = others.map(|slot| tat(slot.load(Ordering::Relaxed)));
        tats.min().unwrap_or(u64::MAX)
    }
}

const fn tat(word: u64) -> u64 {
    (word & TAT) * TICK
}

/// A slot's word, if the time can be written down: it can for 8.9 years.
fn word(fingerprint: u16, tat: u64) -> Option<u64> {
    let ticks = tat.div_ceil(TICK);
    (ticks <= TAT).then_some(u64::from(fingerprint) << TAT_BITS | ticks)
}

fn replace(slot: &AtomicU64, seen: u64, word: u64) -> bool {
    exchange(slot, seen, word).is_ok()
}

fn exchange(slot: &AtomicU64, seen: u64, word: u64) -> Result<u64, u64> {
    slot.compare_exchange(seen, word, Ordering::AcqRel, Ordering::Relaxed)
}

// Nothing under it panics, and a limiter that is poisoned would take the gateway down: go on.
fn hold(lock: &Mutex<()>) -> MutexGuard<'_, ()> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::gcra::take_back;
    use crate::quota::Quota;

    const SECOND: u64 = 1_000_000_000;
    const NOW: u64 = 7 * TICK;

    #[derive(Clone)]
    struct Shared(Arc<(Set, Mutex<()>)>);

    impl Shared {
        fn new() -> Self {
            Self(Arc::new((Set::new(), Mutex::new(()))))
        }

        fn set(&self) -> &Set {
            &self.0.0
        }

        /// The TAT that the charge led to, if it was allowed.
        fn charge(&self, fingerprint: u16, burst: u32) -> Option<u64> {
            let gcra = gcra(burst);
            match self.set().charge(fingerprint, &gcra, 1, NOW, &self.0.1).0 {
                Verdict::Allow { state } => Some(state),
                _ => None,
            }
        }

        fn take_back(&self, fingerprint: u16, after: u64) {
            let change = |tat| take_back(tat, after, SECOND, NOW);
            self.set().lower(fingerprint, &self.0.1, change);
        }

        /// No key is in two slots: the fingerprints, in order.
        fn keys(&self) -> Vec<u64> {
            let words = self.set().0.iter();
            let mut keys: Vec<u64> = words
                .map(|slot| slot.load(Ordering::Relaxed) >> TAT_BITS)
                .filter(|fingerprint| *fingerprint != 0)
                .collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
            keys
        }
    }

    fn gcra(burst: u32) -> Gcra {
        Gcra::new(Quota::per_second(1).burst(burst)).unwrap()
    }

    fn spawn<T: 'static>(
        shared: &Shared,
        act: impl FnOnce(Shared) -> T + 'static,
    ) -> thread::JoinHandle<T> {
        let shared = shared.clone();
        thread::spawn(move || act(shared))
    }

    /// The same newcomer from three threads: one slot, and one burst.
    #[test]
    fn loom_a_newcomer_gets_one_slot() {
        loom::model(|| {
            let shared = Shared::new();
            let others = [(); 2].map(|()| spawn(&shared, |set| set.charge(1, 2)));
            let mine = shared.charge(1, 2);
            let theirs = others.map(|other| other.join().unwrap());
            let passed = theirs.into_iter().chain([mine]).flatten().count();
            assert_eq!(passed, 2);
            assert_eq!(shared.keys(), [1]);
            assert_eq!(shared.set().peek(1), NOW + 2 * SECOND);
        });
    }

    /// Two newcomers want the same free slot, and each gets one; or the last one that is left, and the second begins with
    /// the debt of the first.
    #[test]
    fn loom_newcomers_do_not_overwrite_each_other() {
        loom::model(|| {
            let shared = Shared::new();
            let other = spawn(&shared, |set| set.charge(1, 1));
            assert!(shared.charge(2, 1).is_some());
            assert!(other.join().unwrap().is_some());
            assert_eq!(shared.keys(), [1, 2]);
        });
        loom::model(|| {
            let shared = Shared::new();
            for key in [3, 3, 4, 4] {
                assert!(shared.charge(key, 9).is_some());
            }
            let other = spawn(&shared, |set| set.charge(1, 1));
            let mine = shared.charge(2, 1);
            let theirs = other.join().unwrap();
            // A burst of one has no room for another's debt.
            assert_eq!(mine.is_some() as u32 + theirs.is_some() as u32, 1);
            assert_eq!(shared.keys().len(), 3);
        });
    }

    /// A key is charged while another takes its slot: the charge is in the slot, or made anew from what the set owes.
    #[test]
    fn loom_no_charge_is_lost_to_a_newcomer() {
        loom::model(|| {
            let shared = Shared::new();
            for key in [1, 2, 2, 4, 4] {
                assert!(shared.charge(key, 4).is_some());
            }
            let newcomer = spawn(&shared, |set| set.charge(3, 4));
            assert!(shared.charge(1, 4).is_some());
            assert!(newcomer.join().unwrap().is_some());
            shared.keys();
            // Whatever came first, two cells of the first key were charged, and it owes no less.
            assert!(shared.set().peek(1) >= NOW + 2 * SECOND);
        });
    }

    /// The same, where the key is charged as one that is known: if it has gone, nothing is charged.
    #[test]
    fn loom_no_known_key_is_charged_in_anothers_slot() {
        loom::model(|| {
            let shared = Shared::new();
            for key in [1, 2, 2, 4, 4] {
                assert!(shared.charge(key, 4).is_some());
            }
            let newcomer = spawn(&shared, |set| set.charge(3, 4));
            let known = shared.set().charge_own(1, &gcra(4), 1, NOW);
            let others = newcomer.join().unwrap().unwrap();
            shared.keys();
            // The newcomer began with what the other had just been charged as well, took another's place, or found that the
            // charge had not been made.
            let owed = if known.is_some() { 2 } else { 1 };
            assert!(shared.set().peek(1) >= NOW + owed * SECOND);
            assert_eq!(others, NOW + (owed + 1) * SECOND);
        });
    }

    /// What is taken back does not let a key that had to go come back with less than it owed.
    #[test]
    fn loom_taking_back_forgives_nobody() {
        loom::model(|| {
            let shared = Shared::new();
            for key in [1, 1, 4, 4, 4] {
                assert!(shared.charge(key, 9).is_some());
            }
            let after = [(); 3].map(|()| shared.charge(2, 9).unwrap());
            // The first key has to go, with a debt of two.
            let newcomer = spawn(&shared, |set| set.charge(3, 9));
            shared.take_back(2, after[2]);
            shared.take_back(2, after[1]);
            assert!(newcomer.join().unwrap().is_some());
            let keys = shared.keys();
            assert!(shared.set().peek(1) >= NOW + 2 * SECOND, "{keys:?}");
        });
    }

    /// Story: a thread that takes back saw the least debt of the others, which then grew; and a newcomer took that slot for
    /// the least, and kept its debt for the set. What was taken back led below it.
    #[test]
    fn loom_taking_back_is_not_overtaken() {
        loom::model(|| {
            let shared = Shared::new();
            for key in [1, 2, 2, 2, 4, 4, 4, 4] {
                assert!(shared.charge(key, 9).is_some());
            }
            let again = spawn(&shared, |set| set.charge(1, 9));
            let newcomer = spawn(&shared, |set| set.charge(3, 9));
            let lock = &shared.0.1;
            shared.set().lower(2, lock, |tat| tat - 2 * SECOND);
            assert!(again.join().unwrap().is_some());
            assert!(newcomer.join().unwrap().is_some());
            shared.keys();
            assert!(shared.set().peek(1) >= NOW + 2 * SECOND);
        });
    }

    /// A charge that is taken back while the key is charged again: one of the two is left.
    #[test]
    fn loom_taking_back_leaves_the_others() {
        loom::model(|| {
            let shared = Shared::new();
            let after = shared.charge(1, 9).unwrap();
            let other = spawn(&shared, |set| set.charge(1, 9));
            shared.take_back(1, after);
            assert!(other.join().unwrap().is_some());
            assert_eq!(shared.set().peek(1), NOW + SECOND);
        });
    }

    /// Story: a thread has looked at the set and is about to put its key into the slot that it found; until it does, the
    /// slot is charged, which sends another newcomer elsewhere, and the charge is taken back. So the slot looks untouched,
    /// and the key would be in two.
    #[test]
    fn loom_a_slot_that_looks_untouched_is_not_taken_twice() {
        loom::model(|| {
            let shared = Shared::new();
            for key in [1, 2, 4] {
                assert!(shared.charge(key, 9).is_some());
            }
            let newcomer = spawn(&shared, |set| set.charge(3, 9));
            let after = shared.charge(1, 9);
            assert!(shared.charge(3, 9).is_some());
            if let Some(after) = after {
                shared.take_back(1, after);
            }
            assert!(newcomer.join().unwrap().is_some());
            shared.keys();
            assert!(shared.set().peek(3) >= NOW + 3 * SECOND);
        });
    }
}
