//! How a segment lies on disk: its head, its records, and what a scan finds in one that may be damaged. Pure.
//!
//! A segment begins with a head of one sector. Records follow, each at a multiple of eight bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | [`MAGIC`], which no UTF-8 text contains, so that nothing a client sends looks like a record |
//! | 4 | CRC-32C over the id of the segment and all that follows |
//! | 4 | length of the payload |
//! | 4 | where the group begins in which the record was written |
//! | 8 | ticket |
//!
//! then the payload and zeros. Since the id of the segment is part of the sum, no record of an older file is ever taken
//! for one of this file.

use bytes::{Buf as _, BufMut as _};

/// The length of the head; records begin here.
pub(super) const SEGMENT_HEAD: u64 = 512;
/// The longest segment, in bytes.
pub(super) const LONGEST_SEGMENT: u64 = 1 << 30;

const SEGMENT_MAGIC: &[u8; 8] = b"gw-log\xf7\xff";
const VERSION: u32 = 1;
/// The bytes of the head that mean something.
const SEGMENT_FIELDS: usize = 8 + 4 + 8 + 8 + 4;

const MAGIC: [u8; 4] = [0xf7, b'g', b'w', 0xff];
const RECORD_HEAD: usize = 4 + 4 + 4 + 4 + 8;
const ALIGN: usize = 8;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u32,
    /// Of the payload.
    pub(super) len: u32,
}

/// What the first sector of a file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Nothing: the making of the segment was cut short, so that no batch in it was ever confirmed.
    Blank,
    /// A segment with this id; its records have tickets that were not given out before `base`, or are copies.
    Segment {
        id: u64,
        base: u64,
    },
    /// A segment that a later version of this crate wrote.
    Unknown,
    Damaged,
}

/// A record that a scan found, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) ticket: u64,
    pub(super) place: Place,
}

/// What there is in a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) found: Vec<Found>,
    /// Behind the last byte that is not zero, or behind the last record.
    pub(super) end: u64,
    /// Bytes that are neither records nor the zeros at the end: writes that a crash cut short, or damage.
    pub(super) torn: u64,
    /// Whether there is damage in what was once confirmed.
    pub(super) rotten: bool,
}

/// The room that a payload takes in a segment.
pub(super) const fn room(payload: usize) -> u64 {
    ((RECORD_HEAD + payload).next_multiple_of(ALIGN)) as u64
}

/// The longest payload that takes at most so much room.
pub(super) const fn longest_payload(room: u64) -> usize {
    (room as usize / ALIGN * ALIGN).saturating_sub(RECORD_HEAD)
}

impl Place {
    /// The bytes that the record takes.
    pub(super) const fn room(&self) -> u64 {
        room(self.len as usize)
    }

    /// The bytes from the beginning of the record to the end of its payload.
    pub(super) const fn span(&self) -> usize {
        RECORD_HEAD + self.len as usize
    }

    /// The payload, in a segment in which a scan found the record whole.
    pub(super) fn payload<'a>(&self, file: &'a [u8]) -> &'a [u8] {
        let record = file.get(self.offset as usize..).unwrap_or_default();
        record.get(RECORD_HEAD..self.span()).unwrap_or_default()
    }
}

/// The first sector of a segment.
pub(super) fn put_head(buf: &mut Vec<u8>, id: u64, base: u64) {
    let start = buf.len();
    buf.put_slice(SEGMENT_MAGIC);
    buf.put_u32_le(VERSION);
    buf.put_u64_le(id);
    buf.put_u64_le(base);
    let sum = crc32c::crc32c(buf.get(start..).unwrap_or_default());
    buf.put_u32_le(sum);
    buf.resize(start + SEGMENT_HEAD as usize, 0);
}

pub(super) fn read_head(file: &[u8]) -> Head {
    let fields = file.split_at_checked(SEGMENT_FIELDS - 4);
    let whole = fields.filter(|(fields, sum)| {
        fields.starts_with(SEGMENT_MAGIC) && sum.starts_with(&crc32c::crc32c(fields).to_le_bytes())
    });
    let Some((mut fields, _)) = whole else {
        // The head is durable before the first record is written.
        let records = file.get(SEGMENT_HEAD as usize..).unwrap_or_default();
        return if records.iter().all(|b| *b == 0) {
            Head::Blank
        } else {
            Head::Damaged
        };
    };
    fields.advance(SEGMENT_MAGIC.len());
    if fields.get_u32_le() != VERSION {
        return Head::Unknown;
    }
    Head::Segment {
        id: fields.get_u64_le(),
        base: fields.get_u64_le(),
    }
}

/// Appends a record to `buf`. `group` is where in the segment the group begins; [`read`] is the other half.
pub(super) fn put(buf: &mut Vec<u8>, segment: u64, group: u32, ticket: u64, payload: &[u8]) {
    let start = buf.len();
    // The caller checked that the record fits in a segment.
    let len = payload.len() as u32;
    buf.put_slice(&MAGIC);
    buf.put_u32_le(sum(segment, len, group, ticket, payload));
    buf.put_u32_le(len);
    buf.put_u32_le(group);
    buf.put_u64_le(ticket);
    buf.put_slice(payload);
    buf.resize(start + room(payload.len()) as usize, 0);
}

fn sum(segment: u64, len: u32, group: u32, ticket: u64, payload: &[u8]) -> u32 {
    let mut head = [0; 24];
    let mut rest = head.as_mut_slice();
    rest.put_u64_le(segment);
    rest.put_u32_le(len);
    rest.put_u32_le(group);
    rest.put_u64_le(ticket);
    crc32c::crc32c_append(crc32c::crc32c(&head), payload)
}

/// A record at the front of some bytes.
pub(super) struct Record<'a> {
    pub(super) ticket: u64,
    group: u32,
    pub(super) payload: &'a [u8],
}

/// The record that begins with the first byte, if it is whole and belongs to this segment.
pub(super) fn read(segment: u64, bytes: &[u8]) -> Option<Record<'_>> {
    let (mut head, rest) = bytes.split_at_checked(RECORD_HEAD)?;
    if !head.starts_with(&MAGIC) {
        return None;
    }
    head.advance(MAGIC.len());
    let expected = head.get_u32_le();
    let len = head.get_u32_le();
    let group = head.get_u32_le();
    let ticket = head.get_u64_le();
    let payload = rest.get(..len as usize)?;
    (sum(segment, len, group, ticket, payload) == expected).then_some(Record {
        ticket,
        group,
        payload,
    })
}

/// Finds all whole records, also behind damaged ones.
///
/// Of a group that was not confirmed when the power went, any part may be missing, so a gap as such is no damage. But
/// a group is written only after the one before it was confirmed: a gap *before* the beginning of a later group is in
/// what was confirmed, and is damage.
pub(super) fn scan(segment: u64, file: &[u8]) -> Scan {
    let mut scan = Scan {
        end: SEGMENT_HEAD,
        ..Scan::default()
    };
    let mut offset = SEGMENT_HEAD as usize;
    let mut gap = None;
    let mut first_gap = usize::MAX;
    while let Some(rest) = file.get(offset..).filter(|rest| !rest.is_empty()) {
        let Some(record) = read(segment, rest) else {
            gap = gap.or(Some(offset));
            offset += ALIGN + next_magic(rest.get(ALIGN..).unwrap_or_default());
            continue;
        };
        if let Some(start) = gap.take() {
            scan.torn += (offset - start) as u64;
            first_gap = first_gap.min(start);
        }
        scan.rotten |= record.group as usize > first_gap;
        let place = Place {
            segment,
            offset: offset as u32,
            len: record.payload.len() as u32,
        };
        scan.found.push(Found {
            ticket: record.ticket,
            place,
        });
        offset += place.room() as usize;
        scan.end = offset as u64;
    }
    let rest = file.get(scan.end as usize..).unwrap_or_default();
    let garbage = rest.len() - rest.iter().rev().take_while(|b| **b == 0).count();
    scan.torn += garbage as u64;
    scan.end += garbage as u64;
    scan
}

/// How far it is to the next place where a record may begin, or to the end.
fn next_magic(bytes: &[u8]) -> usize {
    let steps = bytes
        .chunks(ALIGN)
        .take_while(|chunk| !chunk.starts_with(&MAGIC));
    (steps.count() * ALIGN).min(bytes.len())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// A segment of these groups of payloads; tickets count from 0.
    fn segment(id: u64, groups: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut file = Vec::new();
        put_head(&mut file, id, 0);
        let mut ticket = 0;
        for group in groups {
            let start = file.len() as u32;
            for payload in group {
                put(&mut file, id, start, ticket, payload);
                ticket += 1;
            }
        }
        file
    }

    fn tickets(scan: &Scan) -> Vec<u64> {
        scan.found.iter().map(|found| found.ticket).collect()
    }

    fn groups() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
        vec(vec(vec(any::<u8>(), 0..60), 1..4), 1..5)
    }

    #[test]
    fn heads_are_told_apart() {
        let file = segment(3, &[]);
        assert_eq!(read_head(&file), Head::Segment { id: 3, base: 0 });
        assert_eq!(read_head(&[]), Head::Blank);
        assert_eq!(read_head(&[0; 5000]), Head::Blank);
        assert_eq!(read_head(b"text"), Head::Blank);
        let mut late = vec![0; 5000];
        late[4000] = 1;
        assert_eq!(read_head(&late), Head::Damaged);
        let mut newer = file;
        newer[8] = 2;
        assert_eq!(read_head(&newer), Head::Blank);
        let sum = crc32c::crc32c(&newer[..28]).to_le_bytes();
        newer[28..32].copy_from_slice(&sum);
        assert_eq!(read_head(&newer), Head::Unknown);
    }

    #[test]
    fn records_of_another_segment_are_not_taken() {
        let file = segment(3, &[vec![b"one".to_vec(), b"two".to_vec()]]);
        assert_eq!(tickets(&scan(3, &file)), [0, 1]);
        assert!(scan(4, &file).found.is_empty());
    }

    #[test]
    fn a_gap_is_damage_only_before_a_later_group() {
        let payload = || vec![b'x'; 40];
        let mut file = segment(1, &[vec![payload(), payload(), payload()], vec![payload()]]);
        let second = (SEGMENT_HEAD + room(40)) as usize;
        let fourth = (SEGMENT_HEAD + 3 * room(40)) as usize;
        let whole = scan(1, &file);
        assert_eq!(
            (tickets(&whole).len(), whole.torn, whole.rotten),
            (4, 0, false)
        );
        // The last group lost: a torn tail.
        let torn = scan(1, &[&file[..fourth], &[0; 300]].concat());
        assert_eq!(
            (tickets(&torn), torn.torn, torn.rotten),
            (vec![0, 1, 2], 0, false)
        );
        assert_eq!(torn.end, fourth as u64);
        // The middle of the last group lost, its end kept.
        file[second + 30] ^= 1;
        let partly = scan(1, &file[..fourth]);
        assert_eq!((tickets(&partly), partly.rotten), (vec![0, 2], false));
        assert_eq!(partly.torn, room(40));
        // The same place, but a later group was written: the first had been confirmed.
        let rotten = scan(1, &file);
        assert_eq!((tickets(&rotten), rotten.rotten), (vec![0, 2, 3], true));
    }

    proptest! {
        #[test]
        fn what_is_written_is_found(id in any::<u64>(), groups in groups(), zeros in 0..100_usize) {
            let mut file = segment(id, &groups);
            let end = file.len() as u64;
            file.resize(file.len() + zeros, 0);
            let scan = scan(id, &file);
            let payloads: Vec<_> = groups.concat();
            prop_assert_eq!(scan.found.len(), payloads.len());
            prop_assert_eq!((scan.end, scan.torn, scan.rotten), (end, 0, false));
            for (found, payload) in scan.found.iter().zip(payloads) {
                let at = found.place.offset as usize;
                let record = read(id, &file[at..at + found.place.span()]).unwrap();
                prop_assert_eq!((record.ticket, record.payload), (found.ticket, &payload[..]));
            }
        }

        /// Whatever is cut off or overwritten, the records before it are found and nothing is found that was not
        /// written.
        #[test]
        fn damage_costs_only_what_it_hits(
            groups in groups(),
            at in any::<prop::sample::Index>(),
            garbage in vec(any::<u8>(), 0..80),
            cut in any::<bool>(),
        ) {
            let mut file = segment(1, &groups);
            let before = scan(1, &file);
            let at = at.index(file.len());
            if cut {
                file.truncate(at);
            }
            for (place, byte) in file.iter_mut().skip(at).zip(&garbage) {
                *place = *byte;
            }
            let hit = at..if cut { usize::MAX } else { at + garbage.len() };
            let after = scan(1, &file);
            for found in &after.found {
                prop_assert!(before.found.contains(found));
            }
            for found in &before.found {
                let (start, end) = (found.place.offset as usize, found.place.offset as usize + found.place.span());
                if end <= hit.start || start >= hit.end {
                    prop_assert!(after.found.contains(found), "{:?} {:?}", found, hit);
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_scanned_to_their_end(file in vec(any::<u8>(), 0..2000)) {
            let scan = scan(1, &file);
            prop_assert!(scan.found.is_empty());
            read_head(&file);
        }
    }
}
