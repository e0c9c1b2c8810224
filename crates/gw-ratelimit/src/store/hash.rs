use std::hash::{BuildHasher, RandomState};

use siphasher::sip::SipHasher13;

/// SipHash-1-3 under a key that is drawn at random.
///
/// The standard library's is the same function, but takes half as long again for keys of a few bytes. A function that is
/// faster yet would have to be one that keys cannot be found for which collide: in compact memory who finds them shares
/// another's state.
// Not shown: who knows the key can find keys that collide.
pub(crate) struct Hashing {
    key: [u64; 2],
}

impl Hashing {
    /// Each has a key of its own.
    pub(crate) fn random() -> Self {
        let random = RandomState::new();
        Self {
            key: [0u8, 1].map(|half| random.hash_one(half)),
        }
    }
}

impl BuildHasher for Hashing {
    type Hasher = SipHasher13;

    #[inline]
    fn build_hasher(&self) -> SipHasher13 {
        let [first, second] = self.key;
        SipHasher13::new_with_keys(first, second)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn keys_differ() {
        let hashings = [Hashing::random(), Hashing::random()];
        let [one, other] = hashings.map(|hashing| hashing.hash_one("a key"));
        assert_ne!(one, other);
        let hashing = Hashing::random();
        assert_ne!(hashing.key[0], hashing.key[1]);
        assert_eq!(hashing.hash_one(7u64), hashing.hash_one(7u64));
        assert_ne!(hashing.hash_one(7u64), hashing.hash_one(8u64));
    }
}
