use crate::sync::{AtomicU64, Ordering, spin_loop};

/// What the lanes have in common: how many wait in all of them, whether they drain, and who is about to borrow.
///
/// Requests within their lane's guarantee do not write to it. One that wants to borrow counts itself in here, and then what is in
/// flight in each lane: all who counted themselves in before it are either still here, or by then in their lane's word. So of two
/// that want the same place the first one gets it. Just before it counts itself out again it counts twice.
#[derive(Debug)]
pub(super) struct Lending(AtomicU64);

/// What [`Lending`] said: 16 bits for borrowers, 47 bits waiting, and one for whether the lanes drain.
///
/// The parts do not overflow: a borrower is a thread between two steps, and the lanes' queues are 64 million places together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LendingWord(u64);

const BORROWER: u64 = 1;
const WAITER: u64 = 1 << 16;
const DRAINING: u64 = 1 << 63;

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

    /// Counts one more who is about to borrow; what it was before, by which is seen whether there is a place. To be followed by
    /// [`Lending::settled`].
    pub(super) fn reserve(&self) -> LendingWord {
        LendingWord(self.0.fetch_add(BORROWER, Ordering::AcqRel))
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

    /// The lanes drain from now on; what it was before.
    pub(super) fn start_draining(&self) -> LendingWord {
        LendingWord(self.0.fetch_or(DRAINING, Ordering::AcqRel))
    }
}
