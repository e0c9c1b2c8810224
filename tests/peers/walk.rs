//! Keys in an order that no cache foresees.

use std::fmt::Write as _;

/// A walk over the numbers below a bound, by a linear congruential generator.
#[derive(Debug, Clone)]
pub struct Walk {
    state: u64,
    keys: u64,
}

impl Walk {
    /// Over `keys` numbers; walks with other seeds take another way.
    pub const fn new(keys: u64, seed: u64) -> Self {
        Self { state: seed, keys }
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        // The high half, scaled: the low bits of such a generator repeat soon.
        ((self.state >> 32) * self.keys) >> 32
    }
}

/// A key as a request brings it: text that is in the cache, since it was read a moment ago.
#[derive(Debug, Default)]
pub struct Text(String);

impl Text {
    /// Room for a key, so that writing one does not allocate.
    pub fn new() -> Self {
        Self(String::with_capacity(64))
    }

    /// The key of a number: 24 bytes for most below a million.
    pub fn key(&mut self, number: u64) -> &String {
        self.0.clear();
        self.0.push_str("tenant-eu-west/u-");
        self.0.push_str(itoa::Buffer::new().format(number));
        &self.0
    }
}

/// The key of a number, in a string of its own.
pub fn text(number: u64) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "tenant-eu-west/u-{number}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_comes_everywhere_and_nowhere_else() {
        let mut walk = Walk::new(100, 1);
        let mut met = [0; 100];
        for _ in 0..10_000 {
            met[walk.next() as usize] += 1;
        }
        assert!(met.iter().all(|&times| times > 40), "{met:?}");
    }

    #[test]
    fn both_ways_write_the_same_key() {
        assert_eq!(*Text::new().key(4711), text(4711));
    }
}
