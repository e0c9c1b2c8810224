//! What an earlier life of the queue left in the directory. It may have ended at any point, and the disk may be
//! damaged; whatever is found, the queue opens, and each confirmed batch that was not acknowledged is in it, but for those
//! that cannot be read: if it was a panic or the device that kept them from it, they stay for the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::ack_log::AckLog;
use super::acks::{self, Tickets};
use super::config::{Config, OpenError};
use super::log::{Log, Unreadable};
use super::reader::in_any_case;
use super::record::{self, Found, Head, Place};
use super::segment::{Name, Segment, read_given, read_whole};
use crate::batch::{Batch, Corrupt};
use crate::fs::{File as _, Fs};
use crate::queue::telemetry::QueueMetrics;

/// Each start begins with the ticket `id of the next segment << TICKET_SHIFT`. A segment holds fewer tickets than that,
/// so no ticket in a segment that is there, readable or not, is ever given out again: what is done under a ticket is
/// never mistaken for something else under the same ticket.
const TICKET_SHIFT: u32 = 32;

/// A batch that is to be delivered.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) ticket: u64,
    pub(super) place: Place,
    /// Its payload is dropped once it is in the index.
    pub(super) batch: Batch,
}

/// [`Batch::decode`], but in tests.
pub(super) type Decode = fn(Bytes) -> Result<Batch, Corrupt>;

/// What is known while the segments are read.
struct Survey<'a, F: Fs> {
    log: &'a mut Log<F>,
    decode: Decode,
    seen: BTreeSet<u64>,
    /// Whether a segment that failed has records of which a copy counts that is elsewhere.
    replaced: bool,
    torn: u64,
}

/// Opens the directory. Each batch is given to `found`, not in order.
pub(super) fn open<F: Fs>(
    fs: F,
    config: &Config,
    metrics: Arc<QueueMetrics>,
    decode: Decode,
    mut found: impl FnMut(Recovered),
) -> Result<Log<F>, OpenError> {
    let started = Instant::now();
    let dir = config.dir.clone();
    let unusable = |source| OpenError::Directory {
        dir: dir.clone(),
        source,
    };
    fs.create_dir(&dir).map_err(unusable)?;
    let lock = fs.lock(&dir).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { dir: dir.clone() },
        _ => unusable(error),
    })?;
    let names: Vec<_> = fs.list(&dir).map_err(unusable)?;
    let names: Vec<_> = names.iter().filter_map(|name| Name::parse(name)).collect();

    let mut buf = Vec::new();
    let (done, ack_files) = read_acks(&fs, config, &names, &metrics, &mut buf).map_err(unusable)?;
    let id_of = |name: &Name| match name {
        Name::Segment(id) | Name::Failed(id) | Name::Broken(id) => Some(*id),
        Name::Acks(_) => None,
    };
    let last_segment = names.iter().filter_map(id_of).max().unwrap_or(0);
    let last_ticket = done.last().unwrap_or(0);
    let next_acks = ack_files.last().copied().unwrap_or(0) + 1;
    let mut log = Log {
        fs,
        dir: config.dir.clone(),
        segment_bytes: config.segment_bytes,
        segments: BTreeMap::new(),
        unshown: true,
        active: None,
        next_segment: last_segment + 1,
        next_ticket: last_ticket,
        acks: AckLog::new(done, next_acks, config.ack_slack()),
        unseen: false,
        metrics,
        buf: Vec::new(),
        _lock: lock,
    };
    // Of two copies the first found counts. One in a segment that failed may be in memory alone, so these come last; among the
    // others, the earlier one was durable before the later one was begun.
    let mut segments: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            Name::Segment(id) => Some((false, *id, *name)),
            Name::Failed(id) => Some((true, *id, *name)),
            Name::Acks(_) | Name::Broken(_) => None,
        })
        .collect();
    segments.sort_unstable_by_key(|(failed, id, _)| (*failed, *id));
    let mut survey = Survey {
        log: &mut log,
        decode,
        seen: BTreeSet::new(),
        replaced: false,
        torn: 0,
    };
    for (_, id, name) in &segments {
        survey.segment(*id, *name, &mut buf, &mut found);
    }
    let (replaced, torn) = (survey.replaced, survey.torn);
    if replaced {
        make_copies_durable(&mut log);
    }
    log.next_segment = log.next_segment.max((log.next_ticket >> TICKET_SHIFT) + 1);
    log.next_ticket = log.next_segment << TICKET_SHIFT;
    log.collect();
    // Old files are removed only once their content is in a new one; a full disk leaves them as they are.
    if log.acks.rewrite(&log.fs, &log.dir).is_ok() {
        for id in ack_files {
            drop(log.fs.remove(&Name::Acks(id).path(&log.dir)));
        }
    }
    log.metrics
        .recovered(started.elapsed(), segments.len(), torn);
    Ok(log)
}

/// What counts in place of records in segments that failed may be in memory alone, if the process was killed between writing a copy
/// and its sync. Where it cannot be made durable, these segments stay until the next start.
fn make_copies_durable<F: Fs>(log: &mut Log<F>) {
    let mut sound = log.segments.values().filter(|segment| !segment.failed);
    if sound.all(|segment| segment.file.sync().is_ok()) {
        return;
    }
    for segment in log.segments.values_mut().filter(|segment| segment.failed) {
        segment.stuck = true;
        segment.live += 1;
    }
}

/// What the ack files say, and their ids in order. One that cannot be read says nothing, neither now nor at a later start: tickets
/// that it says are done may be given out by then. So it gets a name that is not read. That is durable with the first segment,
/// before anything is confirmed.
fn read_acks<F: Fs>(
    fs: &F,
    config: &Config,
    names: &[Name],
    metrics: &QueueMetrics,
    buf: &mut Vec<u8>,
) -> io::Result<(Tickets, Vec<u64>)> {
    let mut done = Tickets::default();
    let mut ids = Vec::new();
    for name in names {
        if let Name::Acks(id) = name {
            // Also of one that is not read: no other is to have it.
            ids.push(*id);
            let path = name.path(&config.dir);
            let read = fs.open(&path).and_then(|file| read_whole::<F>(&file, buf));
            match read {
                Ok(()) => acks::read(*id, buf, &mut done),
                Err(error) => {
                    fs.rename(&path, &path.with_extension("log.broken"))?;
                    metrics.done_is_unknown(&error);
                }
            }
        }
    }
    ids.sort_unstable();
    Ok((done, ids))
}

impl<F: Fs> Survey<'_, F> {
    /// Reads one segment.
    fn segment(
        &mut self,
        id: u64,
        name: Name,
        buf: &mut Vec<u8>,
        found: &mut impl FnMut(Recovered),
    ) {
        let path = name.path(&self.log.dir);
        let opened = self.log.fs.open(&path).and_then(|file| {
            let whole = read_given::<F>(&file, buf)?;
            Ok((file, whole))
        });
        let (file, whole) = match opened {
            Ok(opened) => opened,
            // The next start tries again.
            Err(_) => return self.leave(id, "it cannot be read"),
        };
        let (base, damaged) = match record::read_head(buf) {
            // What was not given may be there.
            Head::Blank | Head::Damaged if !whole => (None, false),
            // Its making was cut short; nothing in it was ever confirmed.
            Head::Blank => return drop(self.log.fs.remove(&path)),
            // The later version finds it again.
            Head::Unknown => return self.leave(id, "a later version wrote it"),
            Head::Segment { id: own, .. } if own != id => {
                return self.set_aside(id, name, "it has the name of another");
            }
            Head::Segment { base, .. } => (Some(base), false),
            // The records have sums of their own.
            Head::Damaged => (None, true),
        };
        let scan = record::scan(id, buf);
        if damaged && scan.found.is_empty() {
            return self.set_aside(id, name, "it is not a segment");
        }
        let tickets = || scan.found.iter().map(|found| found.ticket);
        let mut segment = Segment {
            name,
            file: Arc::new(file),
            size: buf.len() as u64,
            live: 0,
            first: tickets().chain(base).min().unwrap_or(0),
            last: tickets().max().unwrap_or(0),
            broken: damaged || scan.rotten,
            failed: name == Name::Failed(id),
            stuck: false,
            touched: Instant::now(),
        };
        for record in &scan.found {
            self.record(record, buf, &mut segment, found);
        }
        if whole {
            self.torn += scan.torn;
            // Only the zeros at the end go: they are space that was reserved.
            let unused = scan.end < segment.size && segment.live > 0;
            if unused && segment.file.set_len(scan.end).is_ok() {
                segment.size = scan.end;
            }
        } else {
            // There may be more in it: it is delivered as far as it goes, and stays as it is.
            segment.stuck = true;
            segment.live += 1;
            self.leave(id, "not all of it can be read");
        }
        self.log.segments.insert(id, segment);
    }

    /// Takes a record in, unless it is done or a copy of it was taken in before.
    fn record(
        &mut self,
        record: &Found,
        file: &[u8],
        segment: &mut Segment<F>,
        found: &mut impl FnMut(Recovered),
    ) {
        let Found { ticket, place } = *record;
        if self.log.acks.done().contains(ticket) {
            return;
        }
        if self.seen.contains(&ticket) {
            self.replaced |= segment.failed;
            return;
        }
        let decoded = in_any_case(&self.log.metrics, || {
            let payload = Bytes::copy_from_slice(place.payload(file));
            (self.decode)(payload).map_err(|_| Unreadable::Damaged)
        });
        match decoded {
            Ok(batch) => {
                self.seen.insert(ticket);
                segment.live += place.room();
                found(Recovered {
                    ticket,
                    place,
                    batch,
                });
            }
            // The sum is right and the content is not: another version, or something else that needs looking at.
            Err(why) => {
                segment.unreadable(why);
                if why.is_tried_again() {
                    segment.live += place.room();
                    self.log.metrics.unreadable(place.segment, ticket);
                }
            }
        }
    }

    /// It keeps its name, for the next start.
    fn leave(&mut self, id: u64, why: &'static str) {
        self.log.unseen = true;
        self.log.metrics.set_aside(id, why);
    }

    fn set_aside(&self, id: u64, name: Name, why: &'static str) {
        self.log.metrics.set_aside(id, why);
        let dir = &self.log.dir;
        // If it cannot be renamed, it is found again at the next start.
        drop(
            self.log
                .fs
                .rename(&name.path(dir), &Name::Broken(id).path(dir)),
        );
    }
}
