use super::KeyHash;
use super::word::Word;

/// Keys with their states: open addressing, linear probing, two words a place.
///
/// A map from a library would do but for two things: a sweep must be able to go on where it left off, and taking keys
/// out for ever must not leave marks behind that force a rehash in the middle of a request. Here a hit is one cache
/// line, a sweep is a walk through memory, and removal closes the gap. Keys are hashes already, so nobody can choose
/// where they land.
#[derive(Debug, Default)]
pub(super) struct Table {
    places: Box<[Place]>,
    len: usize,
    /// Where the sweep goes on.
    cursor: usize,
    /// From which cache line it goes to which: so many further, see [`Table::swept_next`].
    stride: usize,
}

#[derive(Debug)]
struct Place {
    /// The bits of a key, or [`EMPTY`].
    key: u64,
    word: Word,
}

const EMPTY: u64 = 0;

impl Place {
    fn empty() -> Self {
        Self {
            key: EMPTY,
            word: Word::new(0),
        }
    }
}

impl Table {
    /// Places to a cache line.
    const LINE: usize = 4;

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: KeyHash) -> Option<&Word> {
        let (before, from) = self.places.split_at_checked(self.home(key.bits()))?;
        for place in from.iter().chain(before) {
            if place.key == key.bits() {
                return Some(&place.word);
            }
            if place.key == EMPTY {
                return None;
            }
        }
        None
    }

    pub(super) fn get_mut(&mut self, key: KeyHash) -> Option<&mut Word> {
        let at = self.find(key)?;
        self.places.get_mut(at).map(|place| &mut place.word)
    }

    /// Takes in a key that is not there yet. `most` is how many there will ever be; it bounds how far the table
    /// grows.
    pub(super) fn insert(&mut self, key: KeyHash, state: u64, most: usize) {
        if (self.len + 1) * 4 > self.places.len() * 3 {
            self.grow(most);
        }
        self.put(key.bits(), Word::new(state));
    }

    pub(super) fn remove(&mut self, key: KeyHash) -> bool {
        let found = self.find(key);
        if let Some(at) = found {
            self.remove_at(at);
        }
        found.is_some()
    }

    /// Looks at one place further on, and takes its key out if that `may_go`: the key, and its state.
    pub(super) fn sweep_one(
        &mut self,
        may_go: impl FnOnce(KeyHash, u64) -> bool,
    ) -> Option<(KeyHash, u64)> {
        let at = self.cursor;
        let Some(place) = self.places.get(at) else {
            self.cursor = 0;
            return None;
        };
        let key = KeyHash(place.key);
        let state = place.word.get();
        if place.key != EMPTY && may_go(key, state) {
            // Another key may have moved into the gap, so the cursor stays.
            self.remove_at(at);
            return Some((key, state));
        }
        self.cursor = self.swept_next(at);
        None
    }

    /// All states of one policy.
    pub(super) fn of_policy(&mut self, policy: usize) -> impl Iterator<Item = &mut Word> {
        let taken =
            move |place: &&mut Place| place.key != EMPTY && KeyHash(place.key).policy() == policy;
        self.places
            .iter_mut()
            .filter(taken)
            .map(|place| &mut place.word)
    }

    /// Where a key would like to be: its high bits, scaled to the number of places.
    fn home(&self, key: u64) -> usize {
        let scaled = (u128::from(key) * self.places.len() as u128) >> 64;
        scaled as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 < self.places.len() {
            at + 1
        } else {
            0
        }
    }

    /// The place that is swept after another. By whole cache lines, which lie far apart and are all gone through: where one
    /// key goes for each that comes, a sweep along the table would leave the part just behind it empty and that just
    /// ahead full, and nothing would be found there in a few steps.
    fn swept_next(&self, at: usize) -> usize {
        let next = at + 1;
        if !next.is_multiple_of(Self::LINE) && next < self.places.len() {
            return next;
        }
        let lines = self.places.len().div_ceil(Self::LINE);
        let line = (at / Self::LINE + self.stride).checked_rem(lines);
        line.unwrap_or(0) * Self::LINE
    }

    /// How many steps lead from one place forward to another.
    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.places.len() - from
        }
    }

    fn key_at(&self, at: usize) -> u64 {
        self.places.get(at).map_or(EMPTY, |place| place.key)
    }

    fn find(&self, key: KeyHash) -> Option<usize> {
        let mut at = self.home(key.bits());
        for _ in 0..self.places.len() {
            match self.key_at(at) {
                found if found == key.bits() => return Some(at),
                EMPTY => return None,
                _ => at = self.next(at),
            }
        }
        None
    }

    fn put(&mut self, key: u64, word: Word) {
        let mut at = self.home(key);
        // Ends: the table is never more than three quarters full.
        while self.key_at(at) != EMPTY {
            at = self.next(at);
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Place { key, word };
            self.len += 1;
        }
    }

    /// Empties a place, and moves those after it back that would not be found any more.
    fn remove_at(&mut self, at: usize) {
        let mut gap = at;
        let mut at = self.next(gap);
        loop {
            let key = self.key_at(at);
            if key == EMPTY {
                break;
            }
            if self.steps(self.home(key), at) >= self.steps(gap, at) {
                self.places.swap(gap, at);
                gap = at;
            }
            at = self.next(at);
        }
        if let Some(place) = self.places.get_mut(gap) {
            *place = Place::empty();
            self.len -= 1;
        }
    }

    /// Doubles, but not beyond what `most` keys need.
    fn grow(&mut self, most: usize) {
        let enough = (most * 4).div_ceil(3) + 1;
        let places = (self.places.len() * 2).clamp(16, enough.max(16));
        let grown = (0..places).map(|_| Place::empty()).collect();
        let old = std::mem::replace(&mut self.places, grown);
        self.len = 0;
        self.cursor = 0;
        // Near the golden section, and such that all lines are gone through.
        let lines = places.div_ceil(Self::LINE);
        self.stride = ((lines * 382 / 1_000).max(1)..lines)
            .find(|stride| gcd(*stride, lines) == 1)
            .unwrap_or(1);
        for place in old {
            if place.key != EMPTY {
                self.put(place.key, place.word);
            }
        }
    }
}

const fn gcd(mut one: usize, mut other: usize) -> usize {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Remove(u64),
        Sweep(u64),
    }

    /// Few distinct keys, in clusters at both ends of the table, so that probes collide and wrap around.
    fn key() -> impl Strategy<Value = u64> {
        (
            0..24u64,
            prop_oneof![Just(0u64), Just(0xff << 56), Just(0x7 << 60)],
        )
            .prop_map(|(low, high)| high | (low + 1) << 8)
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (key(), 0..100u64).prop_map(|(k, t)| Step::Insert(k, t)),
            2 => key().prop_map(Step::Remove),
            2 => (0..100u64).prop_map(Step::Sweep),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec(step(), 0..400)) {
            let mut table = Table::default();
            let mut model: HashMap<u64, u64> = HashMap::new();
            for step in steps {
                match step {
                    Step::Insert(key, word) => {
                        if let std::collections::hash_map::Entry::Vacant(place) = model.entry(key) {
                            place.insert(word);
                            table.insert(KeyHash(key), word, 72);
                        }
                    }
                    Step::Remove(key) => {
                        prop_assert_eq!(table.remove(KeyHash(key)), model.remove(&key).is_some());
                    }
                    Step::Sweep(now) => {
                        if let Some((key, word)) = table.sweep_one(|_, word| word <= now) {
                            prop_assert!(word <= now);
                            prop_assert_eq!(model.remove(&key.bits()), Some(word));
                        }
                    }
                }
                prop_assert_eq!(table.len(), model.len());
                for (key, word) in &model {
                    prop_assert_eq!(table.get(KeyHash(*key)).map(Word::get), Some(*word));
                }
            }
            prop_assert!(table.places.len() <= 72 * 4 / 3 + 1);
        }
    }

    #[test]
    fn a_sweep_comes_by_every_place() {
        let mut table = Table::default();
        for n in 1..=50u64 {
            table.insert(KeyHash(n << 56), n % 2, 50);
        }
        // Twice, since a key may move to where the sweep has been.
        let swept = (0..table.places.len() * 2 + 25)
            .filter(|_| table.sweep_one(|_, word| word == 0).is_some())
            .count();
        assert_eq!((swept, table.len()), (25, 25));
    }

    /// Story: a full table was swept in order, a key out for a key in. What came in lay evenly, what went out did not, so
    /// half of the table was as good as full, and each look-up there took thousands of steps.
    #[test]
    fn keys_that_come_and_go_stay_where_they_are_found() {
        const MOST: u64 = 4_096;
        let key = |n: u64| KeyHash(n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x100);
        let mut table = Table::default();
        for n in 0..MOST * 20 {
            if n >= MOST {
                while table.sweep_one(|_, _| true).is_none() {}
            }
            table.insert(key(n), n, MOST as usize);
        }
        let away = |at: usize| table.steps(table.home(table.key_at(at)), at);
        let taken = (0..table.places.len()).filter(|at| table.key_at(*at) != EMPTY);
        let steps: usize = taken.map(away).sum();
        assert_eq!(table.len(), MOST as usize);
        assert!(steps < table.len() * 4, "{steps}");
    }

    #[test]
    fn a_place_is_two_words() {
        assert_eq!(size_of::<Place>(), 16);
    }
}
