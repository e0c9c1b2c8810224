//! Who is refused most, in bounded memory.

use std::fmt;
use std::sync::Arc;

use crate::store::KeyHash;

/// A key as operators see it: a hash that nobody can turn back into the key, different in each process.
///
/// To find out whether a known client is meant, compare with [`RateLimitHandle::key_id`](crate::RateLimitHandle::key_id).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(u64);

impl KeyId {
    pub(crate) const fn of(key: KeyHash) -> Self {
        Self(key.bits())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// A key that was refused often of late.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Offender {
    /// The policy that refused it, or would have in shadow mode.
    pub policy: Arc<str>,
    /// The key.
    pub key: KeyId,
    /// How often at the most. What lies back counts less: half after each five minutes.
    pub refusals: f64,
    /// How often at the least.
    pub at_least: f64,
}

/// The keys that were noted most often of late: Space-Saving, with all counts halved in equal steps of time.
///
/// A key that makes up more than one part in [`Sketch::SIZE`] of what is noted is always in here, and its count is too
/// high by no more than its `excess`. A newcomer takes the place of the one with the least, and its count as well.
#[derive(Debug)]
pub(crate) struct Sketch {
    /// Apart from the counts, since this is what is searched: eight cache lines.
    keys: Vec<u64>,
    counts: Vec<Count>,
    /// Where the last one was found: those who are refused come in rows.
    last: usize,
    /// Until when, in nanoseconds, counts stay as they are.
    halve_at: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Count {
    /// Whole when noted; halving is exact in this type.
    pub(crate) most: f64,
    pub(crate) excess: f64,
}

impl Sketch {
    pub(crate) const SIZE: usize = 64;
    /// Five minutes.
    pub(crate) const HALF_LIFE: u64 = 5 * 60 * 1_000_000_000;

    pub(crate) fn new(now: u64) -> Self {
        Self {
            keys: Vec::with_capacity(Self::SIZE),
            counts: Vec::with_capacity(Self::SIZE),
            last: 0,
            halve_at: now.saturating_add(Self::HALF_LIFE),
        }
    }

    /// Notes a key once. Does not allocate.
    pub(crate) fn note(&mut self, key: u64, now: u64) {
        self.age(now);
        if self.keys.get(self.last) != Some(&key) {
            self.last = self.place_of(key);
        }
        if let Some(count) = self.counts.get_mut(self.last) {
            count.most += 1.0;
        }
    }

    /// All that are held, in no order.
    pub(crate) fn held(&mut self, now: u64) -> impl Iterator<Item = (u64, Count)> {
        self.age(now);
        self.keys.iter().copied().zip(self.counts.iter().copied())
    }

    fn place_of(&mut self, key: u64) -> usize {
        if let Some(found) = self.keys.iter().position(|known| *known == key) {
            return found;
        }
        if self.keys.len() < Self::SIZE {
            self.keys.push(key);
            self.counts.push(Count::default());
            return self.keys.len() - 1;
        }
        let by_count = |a: &(usize, &Count), b: &(usize, &Count)| a.1.most.total_cmp(&b.1.most);
        let least = self.counts.iter().enumerate().min_by(by_count);
        let least = least.map_or(0, |(place, _)| place);
        if let (Some(known), Some(count)) = (self.keys.get_mut(least), self.counts.get_mut(least)) {
            *known = key;
            count.excess = count.most;
        }
        least
    }

    fn age(&mut self, now: u64) {
        if now < self.halve_at {
            return;
        }
        let halvings = (now - self.halve_at) / Self::HALF_LIFE + 1;
        self.halve_at = self
            .halve_at
            .saturating_add(halvings.saturating_mul(Self::HALF_LIFE));
        let factor = 0.5f64.powi(i32::try_from(halvings).unwrap_or(i32::MAX));
        for count in &mut self.counts {
            count.most *= factor;
            count.excess *= factor;
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn held(sketch: &mut Sketch, now: u64) -> HashMap<u64, Count> {
        sketch.held(now).collect()
    }

    #[test]
    fn what_lies_back_counts_less() {
        let mut sketch = Sketch::new(100);
        for _ in 0..8 {
            sketch.note(1, 100);
        }
        sketch.note(2, 100 + Sketch::HALF_LIFE);
        let counts = held(&mut sketch, 100 + Sketch::HALF_LIFE);
        assert_eq!((counts[&1].most, counts[&2].most), (4.0, 1.0));
        let counts = held(&mut sketch, 100 + 4 * Sketch::HALF_LIFE - 1);
        assert_eq!((counts[&1].most, counts[&2].most), (1.0, 0.25));
        // A clock that steps back, or stood still for an age.
        sketch.note(2, 0);
        assert_eq!(held(&mut sketch, u64::MAX)[&1].most, 0.0);
    }

    proptest! {
        /// Counts are never too low, never too high by more than is said, and who is noted often is in there.
        #[test]
        fn nobody_who_matters_is_missed(
            keys in prop::collection::vec(prop_oneof![3 => 0..40u64, 1 => 0..10_000u64], 0..3_000),
        ) {
            let mut sketch = Sketch::new(0);
            let mut real: HashMap<u64, u32> = HashMap::new();
            for key in &keys {
                sketch.note(*key, 1);
                *real.entry(*key).or_default() += 1;
            }
            let counts = held(&mut sketch, 1);
            prop_assert!(counts.len() <= Sketch::SIZE);
            for (key, count) in &counts {
                let real = f64::from(real[key]);
                prop_assert!(count.most >= real && count.most - count.excess <= real);
            }
            for (key, real) in real {
                let part = keys.len() / Sketch::SIZE;
                prop_assert!(real as usize <= part || counts.contains_key(&key));
            }
        }
    }
}
