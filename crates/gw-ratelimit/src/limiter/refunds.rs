use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::KeyHash;

/// How much was ever taken back from keys, in nanoseconds of debt: a few sums, each for many keys.
///
/// A charge that is taken back later must not bring its key more than it cost. What it cost depends on the debt that the
/// key had: a charge on top of an hour's debt is still owed after half an hour, and one without has long run off. If debt
/// that was there at the time of a charge is taken back afterwards, the charge has less to stand on, and its receipt does
/// not know. So whoever takes a charge back asks how much was taken back since, of which what the charge stood on is the most
/// that matters. That some of it may have been other keys', or come later, makes the refund smaller at worst.
#[derive(Debug)]
pub(super) struct Refunds(Box<[AtomicU64]>);

/// Something that is being taken back.
#[derive(Debug)]
pub(super) struct Taking<'a> {
    refunds: &'a Refunds,
    key: KeyHash,
    owed: u64,
    /// The sum when it began, and what it added itself since.
    began: u64,
    added: Cell<u64>,
}

impl Refunds {
    const SUMS: usize = 256;

    pub(super) fn new() -> Self {
        Self((0..Self::SUMS).map(|_| AtomicU64::new(0)).collect())
    }

    /// The sum so far. What is charged afterwards is not ordered before: if it was charged before something was taken back,
    /// that is not in the sum.
    pub(super) fn until_now(&self, key: KeyHash) -> u64 {
        self.sum(key).map_or(0, |sum| sum.load(Ordering::Acquire))
    }

    /// Begins to take back so much.
    pub(super) fn take(&self, key: KeyHash, owed: u64) -> Taking<'_> {
        Taking {
            refunds: self,
            key,
            owed,
            began: self.until_now(key),
            added: Cell::new(0),
        }
    }

    /// How much was taken back between two sums, which start anew after 584 years of debt. The earlier one may be ahead by what
    /// its charge is not to be reckoned.
    pub(super) const fn between(then: u64, now: u64) -> u64 {
        let passed = now.wrapping_sub(then).cast_signed();
        if passed > 0 { passed.unsigned_abs() } else { 0 }
    }

    fn sum(&self, key: KeyHash) -> Option<&AtomicU64> {
        // What is counted by one key under several policies, and taken back from all of them, is in a sum for each.
        let index = key.spread().wrapping_add(key.policy());
        self.0.get(index % Self::SUMS)
    }
}

impl Taking<'_> {
    /// The sum when it began.
    pub(super) const fn began(&self) -> u64 {
        self.began
    }

    /// Adds it to the sum, while nothing else can be charged to the key: how much others took back since it began. When a charge
    /// has come in between, it is added once more: that one's mark may have the first, but the key is lowered behind it.
    pub(super) fn add(&self) -> u64 {
        let Some(sum) = self.refunds.sum(self.key) else {
            return 0;
        };
        let before = sum.fetch_add(self.owed, Ordering::AcqRel);
        let added = self.added.get();
        self.added.set(added.wrapping_add(self.owed));
        Refunds::between(self.began.wrapping_add(added), before)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// Story: where a charge came in between, what was being taken back was tried again, and took its own first try for time that
    /// had gone by: nothing came back.
    #[test]
    fn who_tries_again_counts_what_others_took_back_and_not_itself() {
        let (refunds, key) = (Refunds::new(), KeyHash::new(0, 7));
        let (one, other) = (refunds.take(key, 5), refunds.take(key, 3));
        assert_eq!((one.add(), one.add()), (0, 0));
        assert_eq!((other.add(), other.add()), (10, 10));
        assert_eq!(one.add(), 6);
        assert_eq!(refunds.until_now(key), 21);
    }

    #[test]
    fn what_passed_between_two_sums_is_known_when_they_begin_anew() {
        assert_eq!(Refunds::between(3, 10), 7);
        assert_eq!(Refunds::between(u64::MAX - 2, 4), 7);
        // A mark that is ahead, on either side.
        assert_eq!(Refunds::between(10, 3), 0);
        assert_eq!(Refunds::between(4, u64::MAX - 2), 0);
    }
}
