//! The events in hand, and the batches they came with.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::batch::{ClientId, Event};
use crate::queue::Leased;

/// What an event costs in a request besides its text: its id and an action.
const OVERHEAD: usize = 128;

/// An event that the sink refused so often for now, while it took others, is no reason to keep more waiting. Fewer times in a row
/// are usual for a sink that has too much to do.
const PATIENCE: u32 = 3;

/// The same while it took nothing. That is an outage, which nobody is to blame for and others would wait for as well, or a client
/// that sends nothing else: it must not keep them for ever.
const LONG_PATIENCE: u32 = 30;

/// An event in hand.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) event: Event,
    pub(super) tag: Tag,
}

/// What must be known about an event while it is away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tag {
    /// Its batch, by the order of leasing.
    batch: u64,
    /// How often the sink said "not now" to it alone.
    pub(super) failures: u32,
    /// The number of the request from which on it says something that the sink takes any: it takes others then, and not this one.
    pub(super) others_from: Option<u64>,
    /// How often the sink refused a request with nothing else in it.
    pub(super) refusals: u32,
    /// The number of the first request that was sent after one with this in it had been refused.
    pub(super) refused_before: Option<u64>,
}

/// The events of one request.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) events: Vec<Event>,
    pub(super) tags: Vec<Tag>,
    pub(super) bytes: usize,
    /// The next event did not go with these for its size.
    pub(super) full: bool,
    /// A piece of a request that the sink refused for what is in it.
    pub(super) piece: bool,
}

/// Leased batches until each of their events is settled. Dropping it gives the rest back to the queue.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    open: HashMap<u64, Open>,
    next_batch: u64,
    /// What can be sent, in order.
    ready: VecDeque<Work>,
    ready_bytes: usize,
    /// When `ready` goes out even if it does not fill a request.
    due: Option<Instant>,
    /// What goes out as it is, each on its own. What was cut last, and is smallest, is in front.
    pieces: VecDeque<Vec<Work>>,
    /// The last request was one of these.
    after_piece: bool,
    /// The last one of these was in front.
    after_front: bool,
    /// What waits on its own, by the time when it becomes ready.
    later: BTreeMap<(Instant, u64), Vec<Work>>,
    next_wait: u64,
    open_bytes: usize,
    /// Events of open batches that are not settled. Kept, since each answer asks for it and there may be a batch for each event.
    unsettled: usize,
}

#[derive(Debug)]
struct Open {
    leased: Leased,
    unsettled: usize,
}

impl Work {
    pub(super) fn bytes(&self) -> usize {
        self.event.json().len() + OVERHEAD
    }
}

impl Load {
    pub(super) fn works(&self) -> impl DoubleEndedIterator<Item = Work> {
        let pairs = self.events.iter().zip(&self.tags);
        pairs.map(|(event, tag)| Work {
            event: event.clone(),
            tag: *tag,
        })
    }

    fn push(&mut self, work: Work) {
        self.bytes += work.bytes();
        self.events.push(work.event);
        self.tags.push(work.tag);
    }
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The bytes of the batches in hand.
    pub(super) const fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Takes a leased batch in; returns the number of its events.
    pub(super) fn take_in(&mut self, leased: Leased, now: Instant, linger: Duration) -> usize {
        let count = leased.batch().len();
        if count == 0 {
            leased.acknowledge();
            return 0;
        }
        let batch = self.next_batch;
        self.next_batch += 1;
        for event in leased.batch().events() {
            let work = Work {
                event,
                tag: Tag {
                    batch,
                    failures: 0,
                    others_from: None,
                    refusals: 0,
                    refused_before: None,
                },
            };
            self.ready_bytes += work.bytes();
            self.ready.push_back(work);
        }
        self.open_bytes += leased.batch().encoded().len();
        self.unsettled += count;
        let unsettled = count;
        self.open.insert(batch, Open { leased, unsettled });
        self.due = Some(self.due.unwrap_or(now + linger));
        count
    }

    /// The next request, if there is a piece, or enough for one, or something has waited long enough.
    pub(super) fn cut(
        &mut self,
        max_bytes: usize,
        max_events: usize,
        now: Instant,
    ) -> Option<Load> {
        // In turn: neither waits for the end of the other, and what the sink takes of one tells that it works.
        let load = if self.after_piece {
            self.cut_ready(max_bytes, max_events, now)
                .or_else(|| self.next_piece())
        } else {
            self.next_piece()
                .or_else(|| self.cut_ready(max_bytes, max_events, now))
        }?;
        self.after_piece = load.piece;
        Some(load)
    }

    fn next_piece(&mut self) -> Option<Load> {
        let mut load = Load {
            piece: true,
            ..Load::default()
        };
        // In turn as well: the small ones tell which event is to blame, and the large ones whether the sink works.
        let works = match self.after_front {
            true => self.pieces.pop_back()?,
            false => self.pieces.pop_front()?,
        };
        self.after_front = !self.after_front;
        works.into_iter().for_each(|work| load.push(work));
        Some(load)
    }

    fn cut_ready(&mut self, max_bytes: usize, max_events: usize, now: Instant) -> Option<Load> {
        let full = self.ready_bytes >= max_bytes || self.ready.len() >= max_events;
        let late = self.due.is_some_and(|due| due <= now);
        if self.ready.is_empty() || !(full || late) {
            return None;
        }
        let mut load = Load::default();
        while let Some(work) = self.ready.front() {
            let bytes = work.bytes();
            // One event goes out however large it is: only the sink knows what is too large.
            let (room, place) = (
                load.bytes + bytes <= max_bytes,
                load.events.len() < max_events,
            );
            if !(room && place || load.events.is_empty()) {
                load.full = !room;
                break;
            }
            let Some(work) = self.ready.pop_front() else {
                break;
            };
            load.push(work);
        }
        self.ready_bytes -= load.bytes;
        if self.ready.is_empty() {
            self.due = None;
        }
        Some(load)
    }

    /// Gives these back to the front, in their order, to be sent as soon as the pace allows.
    pub(super) fn put_back(&mut self, works: impl DoubleEndedIterator<Item = Work>, now: Instant) {
        for work in works.rev() {
            self.ready_bytes += work.bytes();
            self.ready.push_front(work);
            self.due = Some(now);
        }
    }

    /// These go out as requests of their own.
    pub(super) fn put_pieces(&mut self, pieces: Vec<Vec<Work>>) {
        for piece in pieces.into_iter().rev() {
            if !piece.is_empty() {
                self.pieces.push_front(piece);
            }
        }
    }

    /// These become ready at that time.
    pub(super) fn put_off(&mut self, works: Vec<Work>, until: Instant) {
        if !works.is_empty() {
            self.later.insert((until, self.next_wait), works);
            self.next_wait += 1;
        }
    }

    /// Makes ready what has waited long enough.
    pub(super) fn wake(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry()
            && first.key().0 <= now
        {
            let works = first.remove();
            self.put_back(works.into_iter(), now);
        }
    }

    /// When [`wake`](Self::wake) or [`cut`](Self::cut) would find something that is not there yet.
    pub(super) fn next_time(&self, now: Instant) -> Option<Instant> {
        let later = self.later.keys().next().map(|(until, _)| *until);
        let due = self.due.filter(|due| *due > now);
        later.into_iter().chain(due).min()
    }

    /// One event needs nothing more; the last one of its batch acknowledges it.
    pub(super) fn settle(&mut self, tag: Tag) {
        let Some(open) = self.open.get_mut(&tag.batch) else {
            return;
        };
        open.unsettled -= 1;
        self.unsettled -= 1;
        if open.unsettled == 0
            && let Some(open) = self.open.remove(&tag.batch)
        {
            self.open_bytes -= open.leased.batch().encoded().len();
            open.leased.acknowledge();
        }
    }

    /// Whether the batch of this event is still in hand.
    pub(super) fn is_open(&self, tag: Tag) -> bool {
        self.open.contains_key(&tag.batch)
    }

    /// Gives all batches of these clients back to the queue, with whatever is left to do for them; returns the number of events
    /// that were not settled. It goes over all that is in hand: once for all of them.
    pub(super) fn give_back(&mut self, clients: &HashSet<ClientId>) -> usize {
        if clients.is_empty() {
            return 0;
        }
        let of_these = |open: &Open| clients.contains(open.leased.batch().client());
        let given: Vec<_> = self.open.extract_if(|_, open| of_these(open)).collect();
        let of_open = |work: &Work| self.open.contains_key(&work.tag.batch);
        self.ready.retain(of_open);
        self.ready_bytes = self.ready.iter().map(Work::bytes).sum();
        if self.ready.is_empty() {
            self.due = None;
        }
        let mut any_of_open = |works: &mut Vec<Work>| {
            works.retain(of_open);
            !works.is_empty()
        };
        self.pieces.retain_mut(&mut any_of_open);
        self.later.retain(|_, works| any_of_open(works));
        let bytes = |open: &Open| open.leased.batch().encoded().len();
        self.open_bytes -= given.iter().map(|(_, open)| bytes(open)).sum::<usize>();
        let unsettled = given.iter().map(|(_, open)| open.unsettled).sum();
        self.unsettled -= unsettled;
        unsettled
    }

    /// A client to blame for it that each event that waits is one that the sink refuses for now, again and again: that of one
    /// which waits while others were taken, if there is one. `has_taken` says whether the sink took any of a request from this
    /// number on.
    pub(super) fn refused_all(&self, has_taken: impl Fn(u64) -> bool) -> Option<&ClientId> {
        let waiting = || {
            let others = self.pieces.iter().chain(self.later.values()).flatten();
            self.ready.iter().chain(others)
        };
        let refused = |times| waiting().all(|work| work.tag.failures >= times);
        if !refused(PATIENCE) {
            return None;
        }
        let alone = |work: &&Work| work.tag.others_from.is_some_and(&has_taken);
        let work = match waiting().find(alone) {
            Some(work) => work,
            None if refused(LONG_PATIENCE) => waiting().next()?,
            None => return None,
        };
        Some(work.event.client())
    }

    /// The events that are not settled.
    pub(super) const fn unsettled(&self) -> usize {
        self.unsettled
    }
}

#[cfg(test)]
mod tests;
