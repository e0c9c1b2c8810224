//! Which tickets are done: a set of ranges, and how it lies on disk. Pure.
//!
//! The file is a hint that may be lost in part or whole: what it does not say is delivered again. It must never say
//! too much, so each entry stands alone and carries a magic number and a sum over the id of its file.

use std::collections::BTreeMap;

use bytes::{Buf as _, BufMut as _};

const MAGIC: u32 = 0xff61_6b67;
/// The length of an entry: magic, sum, first and last ticket.
const ENTRY: usize = 4 + 4 + 8 + 8;

/// A set of tickets. Neighbours are kept as one range, so that what is done in order costs nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Tickets {
    /// First to last, both included; ranges neither overlap nor touch.
    ranges: BTreeMap<u64, u64>,
}

impl Tickets {
    pub(super) fn contains(&self, ticket: u64) -> bool {
        let before = self.ranges.range(..=ticket).next_back();
        before.is_some_and(|(_, last)| *last >= ticket)
    }

    /// Adds a range, both ends included.
    pub(super) fn insert(&mut self, mut first: u64, mut last: u64) {
        if let Some((start, end)) = self.ranges.range(..=first).next_back() {
            if *end >= last {
                return;
            }
            if end.saturating_add(1) >= first {
                first = *start;
            }
        }
        while let Some((start, end)) = self.ranges.range(first..).next() {
            if *start > last.saturating_add(1) {
                break;
            }
            last = last.max(*end);
            let start = *start;
            self.ranges.remove(&start);
        }
        self.ranges.insert(first, last);
    }

    /// Forgets what is below this ticket. A range that contains it stays whole.
    pub(super) fn forget_below(&mut self, ticket: u64) {
        self.ranges.retain(|_, last| *last >= ticket);
    }

    /// The ranges, first and last ticket.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(first, last)| (*first, *last))
    }

    /// The number of ranges.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The greatest ticket.
    pub(super) fn last(&self) -> Option<u64> {
        self.ranges.last_key_value().map(|(_, last)| *last)
    }
}

/// How long so many ranges are in a file.
pub(super) const fn bytes(ranges: usize) -> u64 {
    (ranges * ENTRY) as u64
}

/// The entries of a set, for the file with this id.
pub(super) fn entries(file: u64, tickets: &Tickets) -> Vec<u8> {
    let mut entries = Vec::with_capacity(tickets.len() * ENTRY);
    for (first, last) in tickets.ranges() {
        put(&mut entries, file, first, last);
    }
    entries
}

fn put(buf: &mut Vec<u8>, file: u64, first: u64, last: u64) {
    buf.put_u32_le(MAGIC);
    buf.put_u32_le(sum(file, first, last));
    buf.put_u64_le(first);
    buf.put_u64_le(last);
}

/// Adds all whole entries of a file with this id to the set.
pub(super) fn read(file: u64, bytes: &[u8], tickets: &mut Tickets) {
    for mut entry in bytes.chunks_exact(ENTRY) {
        let magic = entry.get_u32_le();
        let expected = entry.get_u32_le();
        let (first, last) = (entry.get_u64_le(), entry.get_u64_le());
        if magic == MAGIC && first <= last && sum(file, first, last) == expected {
            tickets.insert(first, last);
        }
    }
}

fn sum(file: u64, first: u64, last: u64) -> u32 {
    let mut bytes = [0; 24];
    let mut rest = bytes.as_mut_slice();
    rest.put_u64_le(file);
    rest.put_u64_le(first);
    rest.put_u64_le(last);
    crc32c::crc32c(&bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_set_agrees_with_a_plain_one(ranges in vec((0..60_u64, 0..6_u64), 0..30), below in 0..60_u64) {
            let mut tickets = Tickets::default();
            let mut model = BTreeSet::new();
            let mut file = Vec::new();
            for (first, more) in ranges {
                tickets.insert(first, first + more);
                model.extend(first..=first + more);
                put(&mut file, 5, first, first + more);
            }
            for ticket in 0..70 {
                prop_assert_eq!(tickets.contains(ticket), model.contains(&ticket), "{}", ticket);
            }
            let gaps: Vec<_> = tickets.ranges().collect();
            prop_assert!(gaps.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", gaps);
            prop_assert_eq!(tickets.last(), model.last().copied());

            let mut again = Tickets::default();
            read(5, &file, &mut again);
            prop_assert_eq!(&again, &tickets);
            let mut other = Tickets::default();
            read(6, &file, &mut other);
            prop_assert_eq!(other.len(), 0);

            tickets.forget_below(below);
            for ticket in below..70 {
                prop_assert_eq!(tickets.contains(ticket), model.contains(&ticket));
            }
        }

        #[test]
        fn damage_never_adds_a_ticket(
            count in 1..8_u64,
            at in any::<prop::sample::Index>(),
            garbage in vec(any::<u8>(), 1..50),
        ) {
            let mut file = Vec::new();
            for n in 0..count {
                put(&mut file, 1, n * 10, n * 10 + 3);
            }
            let at = at.index(file.len());
            for (place, byte) in file.iter_mut().skip(at).zip(&garbage) {
                *place = *byte;
            }
            let mut tickets = Tickets::default();
            read(1, &file, &mut tickets);
            for (first, last) in tickets.ranges() {
                prop_assert!(first % 10 == 0 && last == first + 3);
            }
        }
    }

    #[test]
    fn the_greatest_ticket_has_no_neighbour() {
        let mut tickets = Tickets::default();
        tickets.insert(u64::MAX, u64::MAX);
        tickets.insert(u64::MAX - 1, u64::MAX - 1);
        assert_eq!(
            tickets.ranges().collect::<Vec<_>>(),
            [(u64::MAX - 1, u64::MAX)]
        );
    }
}
