//! The log: segments, records, and which of them are done. Used by one thread; each call may block on the disk.

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::ack_log::AckLog;
use super::record::{self, Place, SEGMENT_HEAD, room};
use super::segment::{LAST_SEGMENT, Name, Segment, read_whole};
use crate::fs::{File as _, Fs, read_full, write_all};
use crate::queue::telemetry::QueueMetrics;

/// The segments of a directory, held by a lock.
///
/// Rules that each function keeps:
/// - A batch is confirmed only after a successful sync of its segment, whose head and name were durable before.
/// - After a failed write or sync nothing more is written to that file.
/// - A file goes only when no record in it is wanted, or when a durable copy of each is elsewhere.
#[derive(Debug)]
pub(super) struct Log<F: Fs> {
    pub(super) fs: F,
    pub(super) dir: PathBuf,
    pub(super) segment_bytes: u64,
    pub(super) segments: BTreeMap<u64, Segment<F>>,
    /// Whether segments have come or gone since they were [shown](Log::show).
    pub(super) unshown: bool,
    /// The segment that is written to.
    pub(super) active: Option<u64>,
    pub(super) next_segment: u64,
    /// The next ticket. Tickets are given out in order of acceptance and never twice.
    pub(super) next_ticket: u64,
    pub(super) acks: AckLog<F>,
    /// Whether segments are left for the next start whose records this one has not seen, or not all of them. Any ticket may be among
    /// theirs.
    pub(super) unseen: bool,
    pub(super) metrics: Arc<QueueMetrics>,
    pub(super) buf: Vec<u8>,
    /// Dropped last: the directory is free when nothing of the log is left.
    pub(super) _lock: F::Lock,
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    pub(super) ticket: u64,
    pub(super) payload: &'a [u8],
}

/// How a batch left the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    Delivered,
    Unreadable(Unreadable),
}

/// Why a record could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The device gave an error; it may not give it again, so the next start tries.
    Device,
    /// Reading it panicked. That says nothing of the device, nor that the record is damaged: the next start tries.
    Panicked,
    /// What is there is not what was written.
    Damaged,
}

impl Unreadable {
    /// Whether the next start tries to read it. Until then it counts as wanted, so that its segment stays.
    pub(super) const fn is_tried_again(self) -> bool {
        match self {
            Self::Device | Self::Panicked => true,
            Self::Damaged => false,
        }
    }
}

impl<F: Fs> Log<F> {
    /// The room for records that is left in the segment that is written to, or in a new one.
    pub(super) fn room(&self) -> u64 {
        let written = self.active().map_or(SEGMENT_HEAD, |segment| segment.size);
        self.segment_bytes.saturating_sub(written)
    }

    /// The room for records in a new segment.
    pub(super) const fn whole_room(&self) -> u64 {
        self.segment_bytes - SEGMENT_HEAD
    }

    fn active(&self) -> Option<&Segment<F>> {
        self.segments.get(&self.active?)
    }

    /// The bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        let segments: u64 = self.segments.values().map(|segment| segment.size).sum();
        segments + self.acks.size()
    }

    /// Makes a segment to write to, if there is none. Nothing is stored elsewhere before a segment that failed bears its
    /// mark: who starts next could not tell which of two copies is on the disk.
    pub(super) fn ensure_active(&mut self) -> io::Result<u64> {
        self.mark_failed()?;
        if let Some(active) = self.active {
            return Ok(active);
        }
        let id = self.next_segment;
        if id > LAST_SEGMENT {
            return Err(io::Error::other("no name for a segment is left"));
        }
        // Also if it fails: what became of the name is then unknown.
        self.next_segment += 1;
        let segment = Segment::create(
            &self.fs,
            &self.dir,
            id,
            self.next_ticket,
            self.segment_bytes,
        )?;
        self.segments.insert(id, segment);
        self.unshown = true;
        self.active = Some(id);
        Ok(id)
    }

    /// Gives segments that failed the name that says so. It need not be durable: with the power goes what is in memory,
    /// and reads show again what is on the disk.
    fn mark_failed(&mut self) -> io::Result<()> {
        for (id, segment) in &mut self.segments {
            let mark = Name::Failed(*id);
            if !segment.failed || segment.name == mark {
                continue;
            }
            let (from, to) = (segment.name.path(&self.dir), mark.path(&self.dir));
            match self.fs.rename(&from, &to) {
                // Its name was taken away already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other?,
            }
            segment.name = mark;
        }
        Ok(())
    }

    /// Writes a group and makes it durable; the places are in its order. If the segment fails, a new one is tried
    /// once. The group must fit in [`Log::whole_room`]; if it does not fit in [`Log::room`], a new segment begins.
    pub(super) fn append(&mut self, group: &[Record<'_>]) -> io::Result<Vec<Place>> {
        let bytes: u64 = group.iter().map(|record| room(record.payload.len())).sum();
        if bytes > self.room() {
            self.seal();
        }
        let fresh = self.active.is_none();
        match self.write_group(group, bytes) {
            Err(_) if !fresh => self.write_group(group, bytes),
            other => other,
        }
    }

    fn write_group(&mut self, group: &[Record<'_>], bytes: u64) -> io::Result<Vec<Place>> {
        let id = self.ensure_active()?;
        let Some(segment) = self.segments.get_mut(&id) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let start = segment.size;
        self.buf.clear();
        let mut places = Vec::with_capacity(group.len());
        for record in group {
            places.push(Place {
                segment: id,
                offset: (start + self.buf.len() as u64) as u32,
                len: record.payload.len() as u32,
            });
            record::put(
                &mut self.buf,
                id,
                start as u32,
                record.ticket,
                record.payload,
            );
            segment.first = segment.first.min(record.ticket);
            segment.last = segment.last.max(record.ticket);
        }
        let written = write_all(&*segment.file, &self.buf, start).and_then(|()| {
            let started = Instant::now();
            segment.file.sync()?;
            self.metrics.committed(started.elapsed(), group.len());
            Ok(())
        });
        if let Err(error) = written {
            self.poisoned(id, &error);
            return Err(error);
        }
        segment.size += bytes;
        segment.live += bytes;
        Ok(places)
    }

    /// Nothing more is written to the segment. What it reserved and did not use is given back.
    pub(super) fn seal(&mut self) {
        let Some(segment) = self.active.take().and_then(|id| self.segments.get_mut(&id)) else {
            return;
        };
        if segment.file.set_len(segment.size).is_err() {
            segment.size = segment
                .size
                .max(segment.file.len().unwrap_or(self.segment_bytes));
        }
    }

    /// A write or a sync failed. What was confirmed before is read back once; nothing is written to the file again,
    /// not even to cut it, so that it counts with all that it reserved.
    fn poisoned(&mut self, id: u64, error: &io::Error) {
        self.active = None;
        let Some(segment) = self.segments.get_mut(&id) else {
            return;
        };
        segment.failed = true;
        let confirmed = segment.size;
        segment.size = segment
            .file
            .len()
            .unwrap_or(self.segment_bytes)
            .max(confirmed);
        let intact = match read_whole::<F>(&segment.file, &mut self.buf) {
            Ok(()) => {
                self.buf.truncate(confirmed as usize);
                let scan = record::scan(id, &self.buf);
                scan.torn == 0 && !scan.rotten
            }
            // Where nothing was confirmed, nothing can be missing.
            Err(_) => confirmed == SEGMENT_HEAD,
        };
        segment.broken |= !intact;
        self.metrics.poisoned(id, error, intact);
        // Reading a whole segment must not keep its size in memory for ever.
        self.buf = Vec::new();
    }

    /// These batches left the queue. Nothing is synced: if it is lost, they are delivered again.
    pub(super) fn forget(&mut self, gone: &[(u64, Place, Gone)], now: Instant) {
        for (_, place, how) in gone {
            let Some(segment) = self.segments.get_mut(&place.segment) else {
                continue;
            };
            segment.touched = now;
            if let Gone::Unreadable(why) = how {
                segment.unreadable(*why);
            }
            if !matches!(how, Gone::Unreadable(why) if why.is_tried_again()) {
                segment.live = segment.live.saturating_sub(place.room());
            }
        }
        let delivered = gone.iter().filter(|(_, _, how)| *how == Gone::Delivered);
        self.acks
            .add(&self.fs, &self.dir, delivered.map(|(ticket, ..)| *ticket));
    }

    /// These tickets were given out, but their batches were refused in the end.
    pub(super) fn void(&mut self, tickets: impl Iterator<Item = u64>) {
        self.acks.add(&self.fs, &self.dir, tickets);
    }

    /// What is at this place is of no use: the segment is a step closer to its end.
    pub(super) fn unwanted(&mut self, place: &Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live = segment.live.saturating_sub(place.room());
        }
    }

    /// Removes the segments in which nothing is wanted, and shortens what is known about those that are gone.
    pub(super) fn collect(&mut self) {
        let empty = |(id, segment): (&u64, &Segment<F>)| {
            (segment.live == 0 && Some(*id) != self.active).then_some(*id)
        };
        let empty: Vec<_> = self.segments.iter().filter_map(empty).collect();
        if empty.is_empty() {
            return;
        }
        let mut removed = Vec::new();
        for id in empty {
            if self.discard(id).is_ok() {
                removed.push(id);
            }
        }
        // A name that comes back after a crash brings its records back; their tickets must not be forgotten before.
        if !removed.is_empty() && self.fs.sync_dir(&self.dir).is_ok() {
            for id in removed {
                self.segments.remove(&id);
            }
            self.unshown = true;
            if !self.unseen {
                let first = self.segments.values().map(|segment| segment.first).min();
                self.acks.forget_below(first.unwrap_or(self.next_ticket));
            }
        }
        self.acks.tidy(&self.fs, &self.dir);
    }

    /// Takes the name away; what is already gone is fine, since the sync after it may have failed.
    fn discard(&self, id: u64) -> io::Result<()> {
        let Some(segment) = self.segments.get(&id) else {
            return Ok(());
        };
        let path = segment.name.path(&self.dir);
        let done = if segment.broken {
            let aside = Name::Broken(id).path(&self.dir);
            let renamed = self.fs.rename(&path, &aside);
            renamed.inspect(|()| self.metrics.set_aside(id, "damage was found in it"))
        } else {
            self.fs.remove(&path)
        };
        match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// The sealed segment of which least is wanted, if that is less than so many hundredths of a whole segment. One of
    /// which something was delivered in the last `patience` is likely to be empty soon without help. With it the tickets among which
    /// all of its are.
    pub(super) fn straggler(
        &self,
        percent: u64,
        patience: Duration,
        now: Instant,
    ) -> Option<(u64, RangeInclusive<u64>)> {
        let few = |segment: &Segment<F>| {
            segment.live > 0 && segment.live * 100 < self.segment_bytes * percent
        };
        let quiet =
            |segment: &Segment<F>| now.saturating_duration_since(segment.touched) >= patience;
        let sealed = self
            .segments
            .iter()
            .filter(|(id, _)| Some(**id) != self.active);
        let stragglers = sealed.filter(|(_, segment)| {
            !segment.broken && !segment.stuck && few(segment) && quiet(segment)
        });
        stragglers
            .min_by_key(|(_, segment)| segment.live)
            .map(|(id, segment)| (*id, segment.first..=segment.last))
    }

    /// The payload of a record.
    pub(super) fn read(&self, place: &Place) -> Result<Bytes, Unreadable> {
        let segment = self
            .segments
            .get(&place.segment)
            .ok_or(Unreadable::Damaged)?;
        read_record::<F>(&segment.file, place)
    }

    /// Brings the table of open segments up to date. Mostly it is: whoever appends or leases waits meanwhile, and there may be hundreds.
    pub(super) fn show(&mut self, files: &mut BTreeMap<u64, Arc<F::File>>) {
        if !std::mem::take(&mut self.unshown) {
            return;
        }
        files.retain(|id, _| self.segments.contains_key(id));
        for (id, segment) in &self.segments {
            files
                .entry(*id)
                .or_insert_with(|| Arc::clone(&segment.file));
        }
    }

    /// A record of the segment could not be read: it is left alone.
    pub(super) fn unread(&mut self, id: u64, why: Unreadable) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.unreadable(why);
        }
    }

    /// Makes durable what is done. Without it a loss of power would only repeat deliveries, but many.
    pub(super) fn sync_acks(&mut self) {
        self.acks.sync();
        self.acks.tidy(&self.fs, &self.dir);
    }

    /// The end of orderly use: the reserved space is given back, and what is done is made durable.
    pub(super) fn finish(&mut self) {
        self.seal();
        self.collect();
        self.acks.sync();
    }
}

/// The payload of the record at this place.
pub(super) fn read_record<F: Fs>(file: &F::File, place: &Place) -> Result<Bytes, Unreadable> {
    let mut bytes = vec![0; place.span()];
    let read =
        read_full(file, &mut bytes, u64::from(place.offset)).map_err(|_| Unreadable::Device)?;
    bytes.truncate(read);
    let bytes = Bytes::from(bytes);
    let record = record::read(place.segment, &bytes).ok_or(Unreadable::Damaged)?;
    Ok(bytes.slice_ref(record.payload))
}
