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

    /// Adds to the sum what is being taken back, while nothing else can be charged to the key: the sum before.
    pub(super) fn add(&self, key: KeyHash, owed: u64) -> u64 {
        self.sum(key)
            .map_or(0, |sum| sum.fetch_add(owed, Ordering::AcqRel))
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_passed_between_two_sums_is_known_when_they_begin_anew() {
        assert_eq!(Refunds::between(3, 10), 7);
        assert_eq!(Refunds::between(u64::MAX - 2, 4), 7);
        // A mark that is ahead, on either side.
        assert_eq!(Refunds::between(10, 3), 0);
        assert_eq!(Refunds::between(4, u64::MAX - 2), 0);
    }
}
