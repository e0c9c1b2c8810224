use super::KeyHash;
use super::word::Word;

/// Keys with their states: open addressing by cache lines of four places, two words a place.
///
/// A map from a library would do but for two things: a sweep must be able to go on where it left off, and taking keys
/// out for ever must not leave marks behind that force a rehash in the middle of a request. Here a hit is one cache
/// line mostly, a sweep is a walk through memory, and removal closes the gap. Keys are hashes already, so nobody can choose
/// where they land.
///
/// A key is in its home line, or if that was full in the next one that was not: all lines from its home to just before its
/// own are full.
#[derive(Debug, Default)]
pub(super) struct Table {
    lines: Box<[Line]>,
    len: usize,
    /// The place where the sweep goes on.
    cursor: usize,
    /// From which cache line it goes to which: so many further, see [`Table::swept_next`].
    stride: usize,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([Place; Line::PLACES]);

#[derive(Debug)]
struct Place {
    /// The bits of a key, or [`EMPTY`].
    key: u64,
    word: Word,
}

const EMPTY: u64 = 0;

impl Default for Place {
    fn default() -> Self {
        Self {
            key: EMPTY,
            word: Word::new(0),
        }
    }
}

impl Line {
    const PLACES: usize = 4;

    /// The first place with this key, or the first empty one. All are looked at without asking which it is: a processor
    /// foresees that, and not where a key is.
    #[inline(always)]
    fn position(&self, key: u64) -> Option<usize> {
        let places = self.0.iter().enumerate();
        let found = places.fold(0u32, |found, (at, place)| {
            found | u32::from(place.key == key) << at
        });
        (found != 0).then_some(found.trailing_zeros() as usize)
    }

    fn is_full(&self) -> bool {
        self.position(EMPTY).is_none()
    }
}

impl Table {
    /// As few as are ever allocated.
    const MIN_LINES: usize = 4;

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(super) fn get(&self, key: KeyHash) -> Option<&Word> {
        let mut at = self.home(key.bits());
        // Ends: the table is never more than three quarters full.
        loop {
            let line = self.lines.get(at)?;
            if let Some(place) = line.position(key.bits()) {
                return line.0.get(place).map(|place| &place.word);
            }
            if !line.is_full() {
                return None;
            }
            at = self.next(at);
        }
    }

    pub(super) fn get_mut(&mut self, key: KeyHash) -> Option<&mut Word> {
        let at = self.find(key)?;
        self.place_mut(at).map(|place| &mut place.word)
    }

    /// Takes in a key that is not there yet. `most` is how many there will ever be; it bounds how far the table
    /// grows.
    pub(super) fn insert(&mut self, key: KeyHash, state: u64, most: usize) {
        if (self.len + 1) * 4 > self.places() * 3 {
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
        let Some(place) = self.place(at) else {
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
        let places = self.lines.iter_mut().flat_map(|line| &mut line.0);
        places.filter(taken).map(|place| &mut place.word)
    }

    const fn places(&self) -> usize {
        self.lines.len() * Line::PLACES
    }

    fn place(&self, at: usize) -> Option<&Place> {
        let line = self.lines.get(at / Line::PLACES)?;
        line.0.get(at % Line::PLACES)
    }

    fn place_mut(&mut self, at: usize) -> Option<&mut Place> {
        let line = self.lines.get_mut(at / Line::PLACES)?;
        line.0.get_mut(at % Line::PLACES)
    }

    /// The line where a key would like to be: its high bits, scaled to the number of lines.
    #[inline]
    fn home(&self, key: u64) -> usize {
        let scaled = (u128::from(key) * self.lines.len() as u128) >> 64;
        scaled as usize
    }

    #[inline]
    const fn next(&self, line: usize) -> usize {
        if line + 1 < self.lines.len() {
            line + 1
        } else {
            0
        }
    }

    /// The place that is swept after another. By whole cache lines, which lie far apart and are all gone through: where one
    /// key goes for each that comes, a sweep along the table would leave the part just behind it empty and that just
    /// ahead full, and nothing would be found there in a few steps.
    fn swept_next(&self, at: usize) -> usize {
        let next = at + 1;
        if !next.is_multiple_of(Line::PLACES) {
            return next;
        }
        let line = (at / Line::PLACES + self.stride).checked_rem(self.lines.len());
        line.unwrap_or(0) * Line::PLACES
    }

    /// How many steps lead from one line forward to another.
    const fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from {
            to - from
        } else {
            to + self.lines.len() - from
        }
    }

    /// The place of a key.
    fn find(&self, key: KeyHash) -> Option<usize> {
        let mut at = self.home(key.bits());
        loop {
            let line = self.lines.get(at)?;
            if let Some(place) = line.position(key.bits()) {
                return Some(at * Line::PLACES + place);
            }
            if !line.is_full() {
                return None;
            }
            at = self.next(at);
        }
    }

    fn put(&mut self, key: u64, word: Word) {
        let mut at = self.home(key);
        // Ends: the table is never more than three quarters full.
        while let Some(line) = self.lines.get_mut(at) {
            let gap = line.position(EMPTY);
            if let Some(place) = gap.and_then(|gap| line.0.get_mut(gap)) {
                *place = Place { key, word };
                self.len += 1;
                return;
            }
            at = self.next(at);
        }
    }

    /// Empties a place. If its line was full, a key that came by it moves back to it, whose place is then emptied in turn.
    fn remove_at(&mut self, at: usize) {
        let mut gap = at;
        loop {
            let was_full = self
                .lines
                .get(gap / Line::PLACES)
                .is_some_and(Line::is_full);
            let mover = if was_full { self.mover(gap) } else { None };
            let moved = mover.and_then(|from| self.place_mut(from));
            // What it leaves behind is emptied in the next turn.
            let moved = moved.map(|place| Place {
                key: place.key,
                word: Word::new(place.word.get()),
            });
            let filled = moved.is_some();
            if let Some(place) = self.place_mut(gap) {
                *place = moved.unwrap_or_default();
            }
            match mover {
                Some(from) if filled => gap = from,
                _ => break,
            }
        }
        self.len -= 1;
    }

    /// The first key behind a place in a full line that would rather be in that line.
    fn mover(&self, gap: usize) -> Option<usize> {
        let home = gap / Line::PLACES;
        let mut at = self.next(home);
        while at != home {
            let line = self.lines.get(at)?;
            let came_by = |place: &Place| {
                place.key != EMPTY && self.steps(self.home(place.key), at) >= self.steps(home, at)
            };
            if let Some(place) = line.0.iter().position(came_by) {
                return Some(at * Line::PLACES + place);
            }
            if !line.is_full() {
                return None;
            }
            at = self.next(at);
        }
        None
    }

    /// Doubles, but not beyond what `most` keys need.
    fn grow(&mut self, most: usize) {
        let enough = ((most * 4).div_ceil(3) + 1).div_ceil(Line::PLACES);
        let lines = (self.lines.len() * 2).clamp(Self::MIN_LINES, enough.max(Self::MIN_LINES));
        let grown = (0..lines).map(|_| Line::default()).collect();
        let old = std::mem::replace(&mut self.lines, grown);
        self.len = 0;
        self.cursor = 0;
        // Near the golden section, and such that all lines are gone through.
        self.stride = ((lines * 382 / 1_000).max(1)..lines)
            .find(|stride| gcd(*stride, lines) == 1)
            .unwrap_or(1);
        for place in old.into_iter().flat_map(|line| line.0) {
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
            prop_assert!(table.places() <= 72 * 4 / 3 + Line::PLACES);
        }
    }

    #[test]
    fn a_sweep_comes_by_every_place() {
        let mut table = Table::default();
        for n in 1..=50u64 {
            table.insert(KeyHash(n << 56), n % 2, 50);
        }
        // Twice, since a key may move to where the sweep has been.
        let swept = (0..table.places() * 2 + 25)
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
        let places = (0..table.places()).map(|at| (at / Line::PLACES, table.place(at).unwrap()));
        let taken = places.filter(|(_, place)| place.key != EMPTY);
        let away = taken.map(|(line, place)| table.steps(table.home(place.key), line));
        assert_eq!(table.len(), MOST as usize);
        // In lines: as good as all are at home.
        let steps: usize = away.sum();
        assert!(steps < table.len() / 3, "{steps}");
    }

    #[test]
    fn a_line_is_a_cache_line() {
        assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
    }
}
