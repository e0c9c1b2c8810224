use std::hash::{BuildHasher, Hasher, RandomState};

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

/// SipHash of what it is fed, where lengths and the numbers of variants take a byte and not eight: there is one of each
/// before an IPv4 address, which then fits the last block, and no round is spent on them.
///
/// Keys that feed what is no beginning of what another feeds (as [`Hash`](std::hash::Hash) asks for) still do: each such
/// number is a byte, or an escape and all of it.
pub(crate) struct KeyHasher(SipHasher13);

impl KeyHasher {
    /// What comes before a number that does not fit a byte, and is none itself.
    const ESCAPE: u8 = u8::MAX;
}

impl BuildHasher for Hashing {
    type Hasher = KeyHasher;

    #[inline]
    fn build_hasher(&self) -> KeyHasher {
        let [first, second] = self.key;
        KeyHasher(SipHasher13::new_with_keys(first, second))
    }
}

// Where it is called, all of it: what is asked about lengths is known there, and the state stays out of memory.
impl Hasher for KeyHasher {
    #[inline(always)]
    fn write(&mut self, bytes: &[u8]) {
        // Addresses: as numbers of a size that is known, there is nothing to be asked about them.
        if let Ok(four) = <[u8; 4]>::try_from(bytes) {
            self.write_u32(u32::from_ne_bytes(four));
        } else if let ([first, second], []) = bytes.as_chunks::<8>() {
            self.write_u64(u64::from_ne_bytes(*first));
            self.write_u64(u64::from_ne_bytes(*second));
        } else {
            self.0.write(bytes);
        }
    }

    #[inline(always)]
    fn write_u8(&mut self, number: u8) {
        self.0.write_u8(number);
    }

    #[inline(always)]
    fn write_u16(&mut self, number: u16) {
        self.0.write_u16(number);
    }

    #[inline(always)]
    fn write_u32(&mut self, number: u32) {
        self.0.write_u32(number);
    }

    #[inline(always)]
    fn write_u64(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    #[inline(always)]
    fn write_usize(&mut self, number: usize) {
        match u8::try_from(number) {
            Ok(small) if small != Self::ESCAPE => self.write_u8(small),
            _ => {
                self.write_u8(Self::ESCAPE);
                self.write_u64(number as u64);
            }
        }
    }

    #[inline(always)]
    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::HashSet;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

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

    /// Numbers about the escape, and such as stand for it with the byte that follows.
    #[test]
    fn lengths_differ() {
        let hashing = Hashing::random();
        let mut numbers: Vec<usize> = (0..70_000).collect();
        numbers.extend([1 << 32, usize::MAX - 1, usize::MAX]);
        let hashes: HashSet<_> = numbers.iter().map(|n| hashing.hash_one(n)).collect();
        assert_eq!(hashes.len(), numbers.len());
        let pairs = [
            (255usize, 1usize),
            (1, 255),
            (255, 255),
            (511, 1),
            (255, 257),
        ];
        let hashes: HashSet<_> = pairs.iter().map(|pair| hashing.hash_one(pair)).collect();
        assert_eq!(hashes.len(), pairs.len());
    }

    #[test]
    fn addresses_differ() {
        let hashing = Hashing::random();
        let v4 = (0..=u8::MAX).flat_map(|last| {
            [[last, 0, 2, 1], [192, last, 2, 1], [192, 0, 2, last]].map(Ipv4Addr::from)
        });
        let v6 = (0..128).map(|bit| Ipv6Addr::from(1u128 << bit));
        let mapped = v4.clone().map(|v4| v4.to_ipv6_mapped());
        let keys: HashSet<IpAddr> = v4
            .map(IpAddr::V4)
            .chain(v6.chain(mapped).map(IpAddr::V6))
            .collect();
        let hashes: HashSet<_> = keys.iter().map(|key| hashing.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
    }

    proptest! {
        /// Whatever lies next to what, and however long it is.
        #[test]
        fn parts_are_told_apart(
            one in prop::collection::vec(prop::collection::vec(0..3u8, 0..20), 0..4),
            other in prop::collection::vec(prop::collection::vec(0..3u8, 0..20), 0..4),
        ) {
            let hashing = Hashing::random();
            let same = hashing.hash_one(&one) == hashing.hash_one(&other);
            prop_assert_eq!(same, one == other);
        }

    }

    /// Those of a length that is written as numbers as well.
    #[test]
    fn bytes_are_hashed_as_they_are() {
        let (hashing, bytes) = (Hashing::random(), [1, 2, 3, 4, 5, 6, 7, 8, 9].repeat(4));
        for length in 0..bytes.len() {
            let (mut ours, mut theirs) = (hashing.build_hasher(), hashing.build_hasher().0);
            for hasher in [&mut ours as &mut dyn Hasher, &mut theirs] {
                hasher.write(&bytes[..length]);
                hasher.write_u8(0xff);
                hasher.write(&bytes[..length]);
            }
            assert_eq!(ours.finish(), theirs.finish(), "{length}");
        }
    }
}
