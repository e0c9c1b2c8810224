use crate::sync::{AtomicU64, Ordering};
use crate::word::LATEST;

/// A count that belongs to a tag: a generation, or the beginning of a part of a time window. What is added under a newer
/// tag begins at zero; what comes late, under an older one, is dropped. So forgetting needs no sweep.
///
/// 40 bits of tag, and a signed count of 24: it may be below zero for a moment where two threads take out and put in.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

const COUNT_BITS: u32 = 24;
/// The most that is counted; then it stays.
const MOST: i32 = (1 << (COUNT_BITS - 1)) - 1;
const _: () = assert!(LATEST >> (64 - COUNT_BITS) == 0, "a tag fits above a count");

impl Cell {
    /// Adds `change`, and says what it has come to; nothing if the tag is older than what is counted by now.
    #[inline]
    pub(crate) fn add(&self, tag: u64, change: i32) -> Option<u32> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let count = match tag_of(seen).cmp(&tag) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => count_of(seen),
                std::cmp::Ordering::Greater => return None,
            };
            let count = (count + change).min(MOST);
            // Release: who reads a count of failures must find the calls that were counted before it.
            match self.0.compare_exchange_weak(
                seen,
                packed(tag, count),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(count.max(0).unsigned_abs()),
                Err(changed) => seen = changed,
            }
        }
    }

    /// What is counted under `tag`.
    pub(crate) fn get(&self, tag: u64) -> u32 {
        let seen = self.0.load(Ordering::Acquire);
        if tag_of(seen) != tag {
            return 0;
        }
        count_of(seen).max(0).unsigned_abs()
    }

    /// Back to zero, if something is counted under `tag`.
    #[inline]
    pub(crate) fn clear(&self, tag: u64) {
        let seen = self.0.load(Ordering::Relaxed);
        // Nothing is written where there is nothing to clear: that is each success of a healthy upstream.
        if tag_of(seen) == tag && count_of(seen) != 0 {
            self.clear_what_was(seen, tag);
        }
    }

    #[cold]
    fn clear_what_was(&self, mut seen: u64, tag: u64) {
        while tag_of(seen) == tag && count_of(seen) != 0 {
            match self.0.compare_exchange_weak(
                seen,
                packed(tag, 0),
                Ordering::Release,
                Ordering::Relaxed,
            ) {
                Ok(_) => return,
                Err(changed) => seen = changed,
            }
        }
    }
}

const fn tag_of(cell: u64) -> u64 {
    cell >> COUNT_BITS
}

/// With its sign.
const fn count_of(cell: u64) -> i32 {
    ((cell << (64 - COUNT_BITS)) as i64 >> (64 - COUNT_BITS)) as i32
}

const fn packed(tag: u64, count: i32) -> u64 {
    tag << COUNT_BITS | count as u64 & ((1 << COUNT_BITS) - 1)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_newer_tag_begins_anew_and_an_older_one_is_dropped() {
        let cell = Cell::default();
        assert_eq!(cell.add(7, 1), Some(1));
        assert_eq!(cell.add(7, 1), Some(2));
        assert_eq!(cell.get(8), 0);
        assert_eq!(cell.add(8, 1), Some(1));
        assert_eq!(cell.add(7, 1), None);
        assert_eq!((cell.get(7), cell.get(8)), (0, 1));
        cell.clear(7);
        assert_eq!(cell.get(8), 1);
        cell.clear(8);
        assert_eq!(cell.get(8), 0);
        assert_eq!(cell.add(LATEST, 5), Some(5));
    }

    #[test]
    fn a_count_may_be_below_zero_for_a_moment_and_never_overflows() {
        let cell = Cell::default();
        assert_eq!(cell.add(1, -1), Some(0));
        assert_eq!(cell.add(1, 2), Some(1));
        assert_eq!(cell.add(1, MOST), Some(MOST as u32));
        assert_eq!(cell.add(1, 1), Some(MOST as u32));
    }
}
