use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::num::{NonZeroU32, NonZeroU64};

use crate::sync::{Mutex, Padded, lock};

/// What a lane counts a request under: the hash of a key. Made by [`Lanes::key`](crate::Lanes::key).
///
/// Hashed with a seed that nobody outside knows. Two keys share a count if their 64 bits are the same, which happens to
/// one pair of keys in 10^19.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneKey(NonZeroU64);

impl LaneKey {
    pub(crate) fn finish(hasher: &impl Hasher) -> Self {
        // Not zero, so that it is no larger where there may be none.
        Self(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// How many requests of each key a lane has, in flight and waiting.
///
/// A key is in here only while it has some, so there are never more keys than the lane admits and queues. A lock each for
/// a few keys, and held for a few instructions: exact counts of keys that come and go need one.
#[derive(Debug)]
pub(super) struct Keys {
    max: NonZeroU32,
    shards: [Padded<Mutex<Shard>>; SHARDS],
}

type Shard = HashMap<u64, u32, BuildHasherDefault<Hashed>>;

const SHARDS: usize = 16;

impl Keys {
    pub(super) fn new(max: NonZeroU32) -> Self {
        Self {
            max,
            shards: std::array::from_fn(|_| Padded(Mutex::new(Shard::default()))),
        }
    }

    /// One more of `key`; `false` if there are as many as there may be.
    pub(super) fn claim(&self, key: LaneKey) -> bool {
        self.change(key, |shard| {
            let count = shard.entry(key.0.get()).or_default();
            let fits = *count < self.max.get();
            *count += u32::from(fits);
            fits
        })
    }

    /// One more of `key`, in any case; whether there are no more than there may be.
    pub(super) fn force(&self, key: LaneKey) -> bool {
        self.change(key, |shard| {
            let count = shard.entry(key.0.get()).or_default();
            *count = count.saturating_add(1);
            *count <= self.max.get()
        })
    }

    /// One less of `key`.
    pub(super) fn release(&self, key: LaneKey) {
        self.change(key, |shard| {
            if let Some(count) = shard.get_mut(&key.0.get()) {
                *count -= 1;
                if *count == 0 {
                    shard.remove(&key.0.get());
                }
            }
        });
    }

    pub(super) const fn max(&self) -> NonZeroU32 {
        self.max
    }

    /// How many keys there are, and how many requests the busiest one has.
    pub(super) fn usage(&self) -> (usize, u32) {
        self.shards.iter().fold((0, 0), |(keys, busiest), shard| {
            let shard = lock(shard);
            let most = shard.values().copied().max().unwrap_or(0);
            (keys + shard.len(), busiest.max(most))
        })
    }

    fn change<T: Default>(&self, key: LaneKey, change: impl FnOnce(&mut Shard) -> T) -> T {
        // The low bits choose the shard; the table inside uses the high ones as well.
        let shard = self.shards.get(key.0.get() as usize % SHARDS);
        shard
            .map(|shard| change(&mut lock(shard)))
            .unwrap_or_default()
    }
}

/// For keys that are hashes already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        // The shard has taken the low bits, which are the same in all its keys.
        self.0.rotate_right(SHARDS.ilog2())
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Keys are a u64 each; this is for completeness.
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
}

/// Makes keys.
#[derive(Debug)]
pub(super) struct KeySeed(RandomState);

impl KeySeed {
    pub(super) fn new() -> Self {
        Self(RandomState::new())
    }

    pub(super) fn hasher(&self) -> std::hash::DefaultHasher {
        self.0.build_hasher()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::hash::Hash;

    use proptest::prelude::*;

    use super::*;

    fn keys(max: u32) -> Keys {
        Keys::new(NonZeroU32::new(max).unwrap())
    }

    fn key(seed: &KeySeed, key: impl Hash) -> LaneKey {
        LaneKey::finish(&{
            let mut hasher = seed.hasher();
            key.hash(&mut hasher);
            hasher
        })
    }

    #[test]
    fn nothing_is_left_of_a_key_without_requests() {
        let (keys, seed) = (keys(2), KeySeed::new());
        for n in 0..10_000 {
            assert!(keys.claim(key(&seed, n)));
            keys.release(key(&seed, n));
        }
        assert_eq!(keys.usage(), (0, 0));
        let capacity: usize = keys.shards.iter().map(|shard| lock(shard).capacity()).sum();
        assert!(capacity <= SHARDS * 4, "{capacity}");
    }

    proptest! {
        #[test]
        fn agrees_with_a_list(max in 1..4u32, steps in prop::collection::vec((0..6u8, 0..4u8), 0..300)) {
            let (keys, seed) = (keys(max), KeySeed::new());
            let mut list: Vec<u8> = Vec::new();
            for (what, step) in steps {
                let of = |list: &[u8]| list.iter().filter(|other| **other == what).count();
                match step {
                    0 | 1 => {
                        let fits = of(&list) < max as usize;
                        prop_assert_eq!(keys.claim(key(&seed, what)), fits);
                        if fits {
                            list.push(what);
                        }
                    }
                    2 => {
                        list.push(what);
                        prop_assert_eq!(keys.force(key(&seed, what)), of(&list) <= max as usize);
                    }
                    _ => {
                        if let Some(at) = list.iter().position(|other| *other == what) {
                            list.swap_remove(at);
                            keys.release(key(&seed, what));
                        }
                    }
                }
                let mut distinct = list.clone();
                distinct.sort_unstable();
                distinct.dedup();
                let busiest = distinct.iter().map(|what| list.iter().filter(|other| *other == what).count());
                let expected = (distinct.len(), busiest.max().unwrap_or(0) as u32);
                prop_assert_eq!(keys.usage(), expected);
            }
        }
    }
}
