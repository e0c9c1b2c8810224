//! What is in the queue and who holds what: the pure part that both engines share. No clock, no lock, no disk.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::ages::{Ages, Second};
use super::clients::{Account, BATCH, Clients, Limits, MOST, Owner, part, take_first};
use super::drain::DrainRate;
use super::{AppendError, QueueStatus, Want};
use crate::batch::ClientId;

/// Bytes that a client may lease in one turn.
const QUANTUM: u64 = 64 * 1024;

/// The batches of a queue. `T` is where an engine finds one again: the batch itself, or a place on disk.
///
/// At the door, a client may hold a share of what is free; at the exit, clients take turns by bytes (deficit round
/// robin). A batch goes from promised to waiting to leased, and from there away or back to its old place.
#[derive(Debug)]
pub(super) struct Index<T> {
    limits: Limits,
    clients: Clients<T>,
    /// Who has something waiting; the first has its turn.
    ring: VecDeque<Owner>,
    /// Whether the first in the ring was given its quantum for this turn.
    granted: bool,
    leased: HashMap<u64, Entry<T>>,
    /// Bytes of batches that are promised, waiting or leased.
    live: u64,
    /// Batches that are promised.
    promised: u64,
    /// Bytes of batches that are promised.
    promised_bytes: u64,
    /// Bytes of files, where they are more than the batches in them; see [`Index::stored`].
    stored: Option<u64>,
    waiting: u64,
    events: u64,
    /// When the batches that wait or are leased were received.
    ages: Ages,
    drain: DrainRate,
}

/// A batch in the index. There may be very many: it is to stay small, see [`BATCH`].
#[derive(Debug, Clone)]
pub(super) struct Entry<T> {
    /// All batches of a client share one piece of memory for its name.
    pub(super) client: ClientId,
    /// Its place in the order of acceptance; never used twice.
    pub(super) ticket: u64,
    /// The room that it takes.
    pub(super) bytes: u64,
    events: u32,
    received: Second,
    pub(super) item: T,
}

/// Room that is promised to a batch. It ends in [`Index::insert`] or [`Index::cancel`].
#[derive(Debug)]
#[must_use = "promised room stays taken until it is used or cancelled"]
pub(super) struct Promise {
    client: ClientId,
    bytes: u64,
}

/// Finds an entry again, see [`Index::select`].
#[derive(Debug, Clone)]
pub(super) struct Key {
    client: ClientId,
    pub(super) ticket: u64,
}

impl<T> Entry<T> {
    pub(super) fn new(
        client: ClientId,
        ticket: u64,
        bytes: u64,
        events: u64,
        received: SystemTime,
        item: T,
    ) -> Self {
        Self {
            client,
            ticket,
            bytes,
            events: u32::try_from(events).unwrap_or(u32::MAX),
            received: Second::of(received),
            item,
        }
    }
}

impl<T: Clone> Index<T> {
    pub(super) fn new(limits: Limits, now: Instant) -> Self {
        Self {
            clients: Clients::new(limits.clients),
            limits,
            ring: VecDeque::new(),
            granted: false,
            leased: HashMap::new(),
            live: 0,
            promised: 0,
            promised_bytes: 0,
            stored: None,
            waiting: 0,
            events: 0,
            ages: Ages::default(),
            drain: DrainRate::new(now),
        }
    }

    /// Promises room, or says why not and when to come back.
    pub(super) fn admit(
        &mut self,
        client: &ClientId,
        bytes: u64,
        now: Instant,
    ) -> Result<Promise, AppendError> {
        let owner = self.room_for(client, bytes, now)?;
        Ok(self.promise(owner, client, bytes, now))
    }

    /// In whose account there is room, or why there is none and when to come back. The account may be one that is not open yet.
    pub(super) fn room_for(
        &self,
        client: &ClientId,
        bytes: u64,
        now: Instant,
    ) -> Result<Owner, AppendError> {
        let free = self.limits.capacity.saturating_sub(self.filled());
        let room = bytes.max(self.limits.worth(MOST));
        if room > free {
            let retry_after = self.time_to_free(room - free, now);
            return Err(AppendError::Full { retry_after });
        }
        let owner = self.clients.owner(client);
        let memory = self.limits.worth(self.clients.memory_of(&owner));
        let held = self.clients.held(&owner).max(memory);
        let wanted = held.saturating_add(room);
        let allowed = self.limits.allowance(free);
        if wanted > allowed {
            // The others get their turns meanwhile.
            let turns = self.ring.len().max(1) as u64;
            let excess = (wanted - allowed).saturating_mul(turns);
            let retry_after = self.time_to_free(excess, now);
            return Err(AppendError::OverShare { retry_after });
        }
        Ok(owner)
    }

    /// How long it takes until there is so much more room. If memory is short, that is there once its part of the batches is
    /// delivered.
    fn time_to_free(&self, room: u64, now: Instant) -> Duration {
        let memory = self.limits.worth(self.memory());
        let bytes = if memory > self.used() {
            part(room, memory, self.live)
        } else {
            room
        };
        self.drain.time_to_free(bytes, now)
    }

    fn promise(&mut self, owner: Owner, client: &ClientId, bytes: u64, now: Instant) -> Promise {
        let client = self.clients.enter(owner, client, bytes);
        self.drain.filled(now);
        self.live = self.live.saturating_add(bytes);
        self.promised += 1;
        self.promised_bytes = self.promised_bytes.saturating_add(bytes);
        Promise { client, bytes }
    }

    /// The batch is stored: it waits to be leased.
    pub(super) fn insert(
        &mut self,
        promise: Promise,
        ticket: u64,
        events: u64,
        received: SystemTime,
        item: T,
    ) {
        let Promise { client, bytes } = promise;
        self.take_in(Entry::new(client, ticket, bytes, events, received, item));
    }

    fn take_in(&mut self, entry: Entry<T>) {
        self.redeem(entry.bytes);
        self.events = self.events.saturating_add(u64::from(entry.events));
        self.ages.add(entry.received);
        self.enqueue(entry);
    }

    /// A batch that was stored in an earlier life of the queue: it has its room whatever the limits are now.
    pub(super) fn recover(&mut self, mut entry: Entry<T>) {
        let owner = self.clients.owner(&entry.client);
        let promise = self.promise(owner, &entry.client, entry.bytes, Instant::now());
        entry.client = promise.client;
        self.take_in(entry);
    }

    /// The batch was not stored.
    pub(super) fn cancel(&mut self, promise: Promise, now: Instant) {
        let Promise { client, bytes } = promise;
        self.redeem(bytes);
        self.give_room(bytes, now);
        self.clients.leave(&client, bytes);
    }

    /// So many bytes are neither stored nor promised any more.
    fn give_room(&mut self, bytes: u64, now: Instant) {
        self.live = self.live.saturating_sub(bytes);
        if self.live == 0 {
            self.drain.emptied(now);
        }
    }

    /// Nobody is left to keep a promise: nothing waits for one any more, and their room is free.
    pub(super) const fn abandon_promises(&mut self) {
        self.live = self.live.saturating_sub(self.promised_bytes);
        self.promised = 0;
        self.promised_bytes = 0;
    }

    const fn redeem(&mut self, bytes: u64) {
        self.promised = self.promised.saturating_sub(1);
        self.promised_bytes = self.promised_bytes.saturating_sub(bytes);
    }

    fn enqueue(&mut self, entry: Entry<T>) {
        self.waiting += 1;
        self.ring.extend(self.clients.put(entry));
    }

    /// Takes what fits, at least one batch if any is waiting.
    pub(super) fn lease(&mut self, want: Want) -> Vec<(u64, T)> {
        let mut taken = Vec::new();
        let (mut bytes, mut events) = (want.bytes as u64, want.events as u64);
        let mut passed = 0;
        while let Some(owner) = self.ring.front().cloned() {
            if owner.is_none() {
                self.clients.set_aside();
            }
            let Some(account) = self.clients.get_mut(&owner) else {
                self.end_turn(false);
                continue;
            };
            let first = account.waiting.front().filter(|_| !account.on_hold);
            let Some(first) = first else {
                self.clients.left_ring(&owner);
                self.end_turn(false);
                continue;
            };
            if !taken.is_empty() && (first.bytes > bytes || u64::from(first.events) > events) {
                break;
            }
            if !self.granted {
                account.deficit = account.deficit.saturating_add(QUANTUM);
                self.granted = true;
            }
            if first.bytes > account.deficit {
                self.end_turn(true);
                passed += 1;
                if passed >= self.ring.len() {
                    self.skip_empty_rounds();
                    passed = 0;
                }
                continue;
            }
            let Some(entry) = take_first(&mut account.waiting) else {
                continue;
            };
            passed = 0;
            account.deficit -= entry.bytes;
            bytes = bytes.saturating_sub(entry.bytes);
            events = events.saturating_sub(u64::from(entry.events));
            self.waiting = self.waiting.saturating_sub(1);
            taken.push((entry.ticket, entry.item.clone()));
            self.leased.insert(entry.ticket, entry);
        }
        taken
    }

    /// Leases nothing of this client. One without a batch has nothing to hold.
    pub(super) fn hold(&mut self, client: &ClientId) {
        self.clients.hold(client);
    }

    /// Leases of this client again.
    pub(super) fn release(&mut self, client: &ClientId) {
        self.ring.extend(self.clients.release(client));
    }

    /// The turn of the first in the ring is over; it goes to the end, or out.
    fn end_turn(&mut self, stays: bool) {
        self.granted = false;
        let owner = self.ring.pop_front();
        self.ring.extend(owner.filter(|_| stays));
    }

    /// A whole round gave nothing, since each batch is larger than its client's deficit: grants at once all rounds but
    /// the last until the first of them fits.
    fn skip_empty_rounds(&mut self) {
        let missing = |account: &Account<T>| {
            let first = account.waiting.front().filter(|_| account.in_ring)?;
            Some(
                first
                    .bytes
                    .saturating_sub(account.deficit)
                    .div_ceil(QUANTUM),
            )
        };
        let rounds = self.clients.accounts().filter_map(missing).min();
        let rounds = rounds.unwrap_or(1);
        let grant = rounds.saturating_sub(1).saturating_mul(QUANTUM);
        for owner in &self.ring {
            if let Some(account) = self.clients.get_mut(owner) {
                account.deficit = account.deficit.saturating_add(grant);
            }
        }
    }

    /// A leased batch was delivered; it is forgotten. Its room is free at once, unless the engine says otherwise by
    /// [`Index::stored`].
    pub(super) fn acknowledge(&mut self, ticket: u64, now: Instant) -> Option<Entry<T>> {
        let entry = self.forget(ticket, now)?;
        self.drain.delivered(entry.bytes, now);
        Some(entry)
    }

    /// A leased batch is gone without having been delivered.
    pub(super) fn forget(&mut self, ticket: u64, now: Instant) -> Option<Entry<T>> {
        let entry = self.leased.remove(&ticket)?;
        self.give_room(entry.bytes, now);
        self.events = self.events.saturating_sub(u64::from(entry.events));
        self.ages.remove(entry.received);
        self.clients.leave(&entry.client, entry.bytes);
        Some(entry)
    }

    /// A leased batch was not delivered: it waits again, in its old place.
    pub(super) fn give_back(&mut self, ticket: u64) -> bool {
        let Some(entry) = self.leased.remove(&ticket) else {
            return false;
        };
        self.enqueue(entry);
        true
    }

    /// The bytes that all batches but the promised ones take, if the engine knows better: files keep the room of what
    /// was delivered until they go.
    pub(super) const fn stored(&mut self, bytes: u64) {
        self.stored = Some(bytes);
    }

    /// The entries with these tickets, waiting or leased, whose item the filter takes. Those that wait with others are not looked at:
    /// there may be hundreds of thousands.
    pub(super) fn select(
        &self,
        tickets: &RangeInclusive<u64>,
        filter: impl Fn(&T) -> bool,
    ) -> Vec<(Key, T)> {
        let leased = self.leased.values();
        let leased = leased.filter(|entry| tickets.contains(&entry.ticket));
        let entries = self.clients.waiting(tickets).chain(leased);
        let mut selected: Vec<_> = entries
            .filter(|entry| filter(&entry.item))
            .map(|entry| {
                let key = Key {
                    client: entry.client.clone(),
                    ticket: entry.ticket,
                };
                (key, entry.item.clone())
            })
            .collect();
        selected.sort_by_key(|(key, _)| key.ticket);
        selected
    }

    /// The item of an entry, which may be changed; none if the batch is gone.
    pub(super) fn item_mut(&mut self, key: &Key) -> Option<&mut T> {
        let entry = match self.leased.get_mut(&key.ticket) {
            Some(leased) => leased,
            None => self.clients.find_mut(&key.client, key.ticket)?,
        };
        Some(&mut entry.item)
    }

    /// Whether no batch is promised, waiting or leased.
    pub(super) fn is_empty(&self) -> bool {
        self.promised == 0 && self.waiting == 0 && self.leased.is_empty()
    }

    /// Bytes of batches that are promised.
    pub(super) const fn promised_bytes(&self) -> u64 {
        self.promised_bytes
    }

    /// Bytes in use.
    pub(super) const fn used(&self) -> u64 {
        match self.stored {
            None => self.live,
            Some(stored) => stored.saturating_add(self.promised_bytes),
        }
    }

    /// The bytes in use or, if that is more of the capacity, what the memory in use is worth of it.
    fn filled(&self) -> u64 {
        self.used().max(self.limits.worth(self.memory()))
    }

    /// The memory for what is known of batches and clients, rather too much than too little.
    fn memory(&self) -> u64 {
        let batches = self.promised + self.waiting + self.leased.len() as u64;
        batches * BATCH + self.clients.memory()
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How it stands; what the engine knows better is left at its default.
    pub(super) fn status(&self, time: SystemTime, now: Instant) -> QueueStatus {
        let oldest = self.ages.oldest();
        QueueStatus {
            bytes: self.used(),
            capacity: self.limits.capacity,
            memory: self.memory(),
            max_memory: self.limits.max_memory,
            events: self.events,
            batches: self.waiting + self.leased.len() as u64,
            leased: self.leased.len() as u64,
            oldest: oldest.map(|received| time.duration_since(received).unwrap_or_default()),
            drain_rate: self.drain.at(now),
            ..QueueStatus::default()
        }
    }
}

#[cfg(test)]
mod tests;
