use crate::sync::{AtomicU64, Ordering};

/// How many are in flight and how many wait, in one atomic word, so that a change of the one sees the other.
///
/// That is what makes lost wake-ups impossible without a lock on release: who gives a place back learns in the same
/// operation whether anybody waits, and who is about to wait has announced it in the same word before looking for a
/// place the last time. The orderings are acquire and release throughout: both sides meet in one word, and what the
/// first one wrote before (the lane's word is always lowered before the total's) the second one sees.
#[derive(Debug)]
pub(super) struct Counter(AtomicU64);

/// What a [`Counter`] said: 32 bits in flight, 31 bits waiting, and above them whether the lanes drain.
///
/// The parts do not overflow into one another: a request in flight takes far more than the byte of memory at which
/// four billion of them could fit into a machine, and the lanes' queues are 64 million places together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(u64);

const IN_FLIGHT: u64 = 1;
const WAITER: u64 = 1 << 32;
const DRAINING: u64 = 1 << 63;

impl Word {
    pub(super) const fn in_flight(self) -> u32 {
        (self.0 & 0xffff_ffff) as u32
    }

    pub(super) const fn waiting(self) -> u32 {
        ((self.0 & !DRAINING) >> 32) as u32
    }

    pub(super) const fn is_draining(self) -> bool {
        self.0 & DRAINING != 0
    }

    /// Nobody waits for anything: neither a request for a place nor somebody for the end.
    #[inline]
    pub(super) const fn is_quiet(self) -> bool {
        self.0 < WAITER
    }

    /// The lanes drain, and nobody is in flight or waits.
    pub(super) const fn is_drained(self) -> bool {
        self.0 == DRAINING
    }
}

impl Counter {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        Word(self.0.load(Ordering::Acquire))
    }

    /// What it says, so that whoever announces that it waits after this sees what was written before it. A load alone
    /// could miss the one who waits while that one misses what was written.
    pub(super) fn meet(&self) -> Word {
        Word(self.0.fetch_add(0, Ordering::AcqRel))
    }

    /// One more in flight, if nothing has changed since `seen`.
    pub(super) fn try_raise(&self, seen: Word) -> bool {
        let raised = seen.0 + IN_FLIGHT;
        self.0
            .compare_exchange_weak(seen.0, raised, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// One more in flight; what it was before.
    #[inline]
    pub(super) fn raise(&self) -> Word {
        Word(self.0.fetch_add(IN_FLIGHT, Ordering::AcqRel))
    }

    /// One less in flight; what it was before.
    #[inline]
    pub(super) fn lower(&self) -> Word {
        Word(self.0.fetch_sub(IN_FLIGHT, Ordering::AcqRel))
    }

    /// One more waits.
    pub(super) fn join(&self) {
        self.0.fetch_add(WAITER, Ordering::AcqRel);
    }

    /// One less waits.
    pub(super) fn leave(&self) {
        self.0.fetch_sub(WAITER, Ordering::AcqRel);
    }

    pub(super) fn start_draining(&self) {
        self.0.fetch_or(DRAINING, Ordering::AcqRel);
    }
}
