use crate::sync::{AtomicU64, Ordering, spin_loop};

/// What the lanes have in common: how many wait in all of them, whether they drain, and who is about to borrow.
///
/// Requests within their lane's guarantee do not write to it. One that wants to borrow reads it, then counts what is in
/// flight in each lane, and reserves a place by one compare-and-swap if there is one to lend. Whoever reserves changes the turn, so of
/// two that counted the same one counts again (unless it slept through a multiple of a million reservations). It is a borrower until its
/// place is in its lane's word, where the next one finds it. Just before the end of that it counts twice.
#[derive(Debug)]
pub(super) struct Lending(AtomicU64);

/// What [`Lending`] said: 16 bits for borrowers, 27 bits waiting, one for whether the lanes drain, and 20 bits for the turn,
/// which overflows off the word's upper end.
///
/// The other parts do not overflow: a borrower is a thread between two steps, and the lanes' queues are 64 million places together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LendingWord(u64);

const BORROWER: u64 = 1;
const WAITER: u64 = 1 << 16;
const DRAINING: u64 = 1 << 43;
const TURN: u64 = 1 << 44;

impl LendingWord {
    /// How many have reserved a place that may not be counted in their lane yet.
    pub(super) const fn borrowers(self) -> u64 {
        self.0 % WAITER
    }

    pub(super) const fn waiting(self) -> u64 {
        self.0 % DRAINING / WAITER
    }

    pub(super) const fn is_draining(self) -> bool {
        self.0 & DRAINING != 0
    }
}

impl Lending {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn load(&self) -> LendingWord {
        LendingWord(self.0.load(Ordering::Acquire))
    }

    /// Reserves a place, unless something has changed since `seen`; now and then it does not though nothing has. To be followed by
    /// [`Lending::settled`].
    pub(super) fn try_reserve(&self, seen: LendingWord) -> bool {
        let reserved = seen.0.wrapping_add(BORROWER + TURN);
        self.0
            .compare_exchange_weak(seen.0, reserved, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Whether it is another word than `seen` within a moment, in which a borrower that is not stopped is done.
    pub(super) fn changes(&self, seen: LendingWord) -> bool {
        /// Of some 10 to 50 ns each.
        const LOOKS: usize = if cfg!(loom) { 1 } else { 20 };
        (0..LOOKS).any(|_| {
            spin_loop();
            self.load() != seen
        })
    }

    /// What was reserved is counted in its lane, or not wanted any more; what it was before.
    pub(super) fn settled(&self) -> LendingWord {
        LendingWord(self.0.fetch_sub(BORROWER, Ordering::AcqRel))
    }

    /// One more waits; what it was before.
    pub(super) fn join(&self) -> LendingWord {
        LendingWord(self.0.fetch_add(WAITER, Ordering::AcqRel))
    }

    /// One less waits; what it was before.
    pub(super) fn leave(&self) -> LendingWord {
        LendingWord(self.0.fetch_sub(WAITER, Ordering::AcqRel))
    }

    pub(super) fn start_draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_turn_leaves_the_other_parts_alone() {
        let lending = Lending::new();
        lending.join();
        for _ in 0..1 << 20 {
            while !lending.try_reserve(lending.load()) {}
            assert_eq!(lending.settled().borrowers(), 1);
        }
        let word = lending.load();
        assert_eq!((word.borrowers(), word.waiting()), (0, 1));
        assert!(!word.is_draining());
    }

    #[test]
    fn full_queues_leave_the_other_parts_alone() {
        let most = u64::from(crate::LaneConfig::MAX_QUEUE) * 64;
        let lending = Lending(AtomicU64::new((most - 1) * WAITER));
        lending.join();
        let word = lending.load();
        assert_eq!((word.borrowers(), word.waiting()), (0, most));
        assert!(!word.is_draining());
    }

    #[test]
    fn who_counted_before_another_one_reserved_counts_again() {
        let lending = Lending::new();
        let seen = lending.load();
        while !lending.try_reserve(lending.load()) {}
        lending.settled();
        assert!(!lending.try_reserve(seen));
    }
}
