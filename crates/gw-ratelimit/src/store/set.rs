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
mod loom_tests;
