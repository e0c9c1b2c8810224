use std::sync::atomic::AtomicU64 as Tally;

use crate::sync::{AtomicU64, Ordering};

/// How many of one lane are in flight, how many wait, whether anybody watches what becomes free, whether the lane is closed, and how
/// many were ever admitted.
///
/// That all but the last are in one word is what makes lost wake-ups impossible without a lock on release: who gives a place
/// back learns in the same operation whether anybody watches, in whichever lane, and who is about to wait has announced it in
/// the words of all lanes before looking for a place the last time. The orderings are acquire and release throughout:
/// both sides meet in one word, and what the first one wrote before the second one sees.
///
/// How many were admitted has its low bits in there too, since a locked operation of its own would cost each request as much
/// as taking the place does. They overflow off the word's upper end, and once in so many requests one of them counts a block.
#[derive(Debug)]
pub(super) struct LaneCounter {
    word: AtomicU64,
    /// How many times so many were admitted.
    blocks: Tally,
}

/// What a [`LaneCounter`] said: 30 bits in flight, one for whether anybody watches and one for whether it is closed, 20 bits
/// waiting, 12 bits of how many were admitted.
///
/// The parts do not overflow into one another: a billion requests in flight take more memory than a machine has, and a
/// queue has no more than a million places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneWord(u64);

const IN_FLIGHT: u64 = 1;
const WATCHED: u64 = 1 << 30;
const CLOSED: u64 = 1 << 31;
const WAITER: u64 = 1 << 32;
const ADMITTED: u64 = 1 << 52;

/// Half of what the bits in the word count to. So who reads can tell which block they belong to, even while somebody is
/// still about to count the one that ended.
const BLOCK: u64 = 1 << 11;

impl LaneWord {
    #[inline]
    pub(super) const fn in_flight(self) -> u32 {
        (self.0 % WATCHED) as u32
    }

    /// Nobody is admitted any more who does not wait already.
    #[inline]
    pub(super) const fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Nobody waits for anything, in any lane: neither a request for a place nor somebody for the end.
    #[inline]
    pub(super) const fn is_quiet(self) -> bool {
        self.0 & (WATCHED | CLOSED) == 0
    }

    #[inline]
    pub(super) const fn waiting(self) -> u32 {
        ((self.0 % ADMITTED) >> 32) as u32
    }

    /// The low bits.
    const fn admitted(self) -> u64 {
        self.0 / ADMITTED
    }

    /// Whether the next one ends a block.
    #[inline]
    const fn ends_block(self) -> bool {
        self.admitted() % BLOCK == BLOCK - 1
    }
}

impl LaneCounter {
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            blocks: Tally::new(0),
        }
    }

    #[inline]
    pub(super) fn load(&self) -> LaneWord {
        LaneWord(self.word.load(Ordering::Acquire))
    }

    /// What it says, so that whoever announces that it waits after this sees what was written before it. A load alone
    /// could miss the one who waits while that one misses what was written.
    pub(super) fn meet(&self) -> LaneWord {
        LaneWord(self.word.fetch_add(0, Ordering::AcqRel))
    }

    /// One more is admitted and in flight, if nothing has changed since `seen`.
    #[inline]
    pub(super) fn try_raise(&self, seen: LaneWord) -> bool {
        let raised = seen.0.wrapping_add(IN_FLIGHT + ADMITTED);
        let done = self
            .word
            .compare_exchange_weak(seen.0, raised, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if done && seen.ends_block() {
            self.count_block();
        }
        done
    }

    /// One more is admitted and in flight; what it was before.
    pub(super) fn raise(&self) -> LaneWord {
        let before = LaneWord(self.word.fetch_add(IN_FLIGHT + ADMITTED, Ordering::AcqRel));
        if before.ends_block() {
            self.count_block();
        }
        before
    }

    /// One less in flight; what it was before.
    #[inline]
    pub(super) fn lower(&self) -> LaneWord {
        LaneWord(self.word.fetch_sub(IN_FLIGHT, Ordering::AcqRel))
    }

    /// One less in flight, that was not to be admitted after all; what it was before.
    #[cold]
    pub(super) fn take_back(&self) -> LaneWord {
        let before = LaneWord(self.word.fetch_sub(IN_FLIGHT + ADMITTED, Ordering::AcqRel));
        if before.admitted().is_multiple_of(BLOCK) {
            // A count that nothing else is read by, as where it is added to.
            self.blocks
                .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        }
        before
    }

    /// From now on whoever gives a place back learns that somebody watches.
    pub(super) fn watch(&self) {
        self.word.fetch_or(WATCHED, Ordering::AcqRel);
    }

    pub(super) fn unwatch(&self) {
        self.word.fetch_and(!WATCHED, Ordering::AcqRel);
    }

    /// From now on nobody is admitted who has not waited yet, and whoever gives a place back learns it.
    pub(super) fn close(&self) {
        self.word.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// One more waits.
    pub(super) fn join(&self) {
        self.word.fetch_add(WAITER, Ordering::AcqRel);
    }

    /// One less waits.
    pub(super) fn leave(&self) {
        self.word.fetch_sub(WAITER, Ordering::AcqRel);
    }

    /// How many were ever admitted.
    pub(super) fn admitted(&self) -> u64 {
        let counted = self.blocks.load(std::sync::atomic::Ordering::Relaxed);
        let base = counted.wrapping_mul(BLOCK);
        // What the word says beyond the blocks that were counted: less than two of them, one of which somebody may be about
        // to count.
        let beyond = self.load().admitted().wrapping_sub(base) % (2 * BLOCK);
        base.wrapping_add(beyond)
    }

    #[cold]
    fn count_block(&self) {
        // A count that nothing else is read by.
        self.blocks
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_count_of_all_goes_on_beyond_its_bits() {
        let counter = LaneCounter::new();
        for expected in 1..=5 * BLOCK {
            counter.raise();
            assert_eq!(counter.admitted(), expected);
            assert_eq!(counter.load().in_flight(), 1);
            counter.lower();
            assert_eq!(counter.admitted(), expected);
        }
        for expected in (5 * BLOCK + 1..).take(2 * BLOCK as usize) {
            assert!(counter.try_raise(counter.load()));
            assert_eq!(counter.admitted(), expected);
        }
        assert_eq!(u64::from(counter.load().in_flight()), 2 * BLOCK);
    }

    #[test]
    fn what_is_taken_back_was_not_admitted() {
        let counter = LaneCounter::new();
        for expected in 0..3 * BLOCK {
            counter.raise();
            counter.take_back();
            assert_eq!(counter.admitted(), expected);
            counter.raise();
            counter.lower();
        }
        assert_eq!(counter.load().in_flight(), 0);
    }

    #[test]
    fn a_block_that_is_not_counted_yet_is_none_the_less_told() {
        let counter = LaneCounter::new();
        for expected in 1..=2 * BLOCK - 1 {
            counter
                .word
                .fetch_add(IN_FLIGHT + ADMITTED, Ordering::AcqRel);
            assert_eq!(counter.admitted(), expected);
        }
    }

    #[test]
    fn a_full_queue_leaves_the_other_counts_alone() {
        let counter = LaneCounter::new();
        counter.raise();
        for waiting in 1..=crate::LaneConfig::MAX_QUEUE {
            counter.join();
            assert_eq!(counter.load().waiting(), waiting);
        }
        assert_eq!((counter.admitted(), counter.load().in_flight()), (1, 1));
        for _ in 0..crate::LaneConfig::MAX_QUEUE {
            counter.leave();
        }
        assert_eq!((counter.admitted(), counter.load().waiting()), (1, 0));
    }
}
