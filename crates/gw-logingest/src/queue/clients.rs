//! What each client holds, and how much it may.

use std::collections::{HashMap, VecDeque};
use std::iter;
use std::ops::RangeInclusive;

use gw_core::ConfigError;

use super::index::Entry;
use crate::batch::ClientId;

/// How clients share a queue, as the builders of both engines take it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shares {
    /// A client may hold at most this times the free bytes.
    pub(super) share: f64,
    /// Bytes that a client may hold however little is free; a sixty-fourth of the capacity if it is not given.
    pub(super) floor: Option<u64>,
    /// The most clients with an account of their own.
    pub(super) clients: usize,
}

/// How many bytes there are, and how they are shared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The bytes of all clients together.
    pub(crate) capacity: u64,
    /// A client may hold so many thousandths of what is free.
    pub(super) share: u64,
    /// A client may hold so many bytes however little is free.
    pub(super) floor: u64,
    /// The most clients with an account of their own.
    pub(crate) clients: usize,
    /// The most bytes of memory for what is known of batches and clients, if the engine has the batches elsewhere.
    pub(super) max_memory: Option<u64>,
}

/// What is known of a batch takes at most so many bytes of memory: its entry, as much room beside it in a line that has grown,
/// and a place in what the engine knows to be delivered. Half of that is usual.
pub(super) const BATCH: u64 = 160;

/// What is known of a client with batches takes so many bytes at most, with the longest name: in an account of its own, or in
/// the shared one.
const OWN: u64 = 512;
const SHARER: u64 = 288;

/// The most memory that one more batch can take.
pub(super) const MOST: u64 = BATCH + OWN;

/// Whose account: a client's own, or the one of all clients for whom there was no room (`None`).
pub(crate) type Owner = Option<ClientId>;

/// One account of the queue.
#[derive(Debug)]
pub(super) struct Account<T> {
    /// Bytes that are promised, waiting or leased.
    held: u64,
    /// Batches that are promised, waiting or leased.
    batches: u64,
    /// In the order of their tickets.
    pub(super) waiting: VecDeque<Entry<T>>,
    /// Bytes that it may lease before its turn ends.
    pub(super) deficit: u64,
    /// Whether it stands in the ring of those that have something waiting.
    pub(super) in_ring: bool,
    /// Nothing of it is leased for now. In the shared account clients are held one by one: see [`Sharer::aside`].
    pub(super) on_hold: bool,
}

/// What a client has in the shared account.
#[derive(Debug)]
struct Sharer<T> {
    /// Batches that are promised, waiting or leased.
    batches: u64,
    /// If the client is on hold: what would have been leased since then, in the order of tickets.
    aside: Option<VecDeque<Entry<T>>>,
}

/// The accounts: at most [`Limits::clients`], and the shared one.
///
/// All batches of a client are in one account, or newer ones could be leased before older ones.
#[derive(Debug)]
pub(super) struct Clients<T> {
    limit: usize,
    own: HashMap<ClientId, Account<T>>,
    shared: Account<T>,
    /// Who has batches in the shared account, and gets no other until they are gone. Its bound is theirs.
    sharing: HashMap<ClientId, Sharer<T>>,
}

impl Shares {
    pub(super) const DEFAULT: Self = Self {
        share: 1.0,
        floor: None,
        clients: 10_000,
    };
    /// The most clients that can be configured.
    const MAX_CLIENTS: usize = 1_000_000;

    /// The limits of a queue of this capacity.
    pub(super) fn limits(self, capacity: u64) -> Result<Limits, ConfigError> {
        if !(0.001..=1_000_000.0).contains(&self.share) {
            return Err(ConfigError::new(
                "client_share",
                "must be a number from 0.001 to 1000000",
            ));
        }
        if !(1..=Self::MAX_CLIENTS).contains(&self.clients) {
            return Err(ConfigError::new("max_clients", "must be 1 to 1000000"));
        }
        let floor = self.floor.unwrap_or(capacity / 64);
        if floor > capacity {
            return Err(ConfigError::new(
                "client_floor",
                "must be at most the room for batches",
            ));
        }
        Ok(Limits {
            capacity,
            share: (self.share * 1000.0) as u64,
            floor,
            clients: self.clients,
            max_memory: None,
        })
    }
}

impl Limits {
    /// Clients share so many bytes as they share a queue unless it is told otherwise.
    pub(crate) const fn usual(capacity: u64) -> Self {
        Self {
            capacity,
            share: 1000,
            floor: capacity / 64,
            clients: Shares::DEFAULT.clients,
            max_memory: None,
        }
    }

    /// The same, with so many bytes of memory at most for what is known of batches.
    pub(super) const fn within(self, memory: u64) -> Self {
        Self {
            max_memory: Some(memory),
            ..self
        }
    }

    /// The part of the capacity that is as much of it as this is of the memory there is.
    pub(super) fn worth(&self, memory: u64) -> u64 {
        let of = |most| part(memory, most, self.capacity);
        self.max_memory.map_or(0, of)
    }

    /// The most that one client may ever hold, if never more than this is free.
    pub(super) fn most(&self, free: u64) -> u64 {
        self.allowance(free).min(free)
    }

    /// What one client may hold when so many bytes are free. The fuller the queue, the less, so that the client that
    /// holds most meets its limit first.
    pub(crate) const fn allowance(&self, free: u64) -> u64 {
        let shared = (free as u128 * self.share as u128) / 1000;
        if shared < self.floor as u128 {
            self.floor
        } else if shared > u64::MAX as u128 {
            u64::MAX
        } else {
            shared as u64
        }
    }
}

impl<T> Default for Account<T> {
    fn default() -> Self {
        Self {
            held: 0,
            batches: 0,
            waiting: VecDeque::new(),
            deficit: 0,
            in_ring: false,
            on_hold: false,
        }
    }
}

impl<T> Account<T> {
    const fn add(&mut self, bytes: u64) {
        self.held = self.held.saturating_add(bytes);
        self.batches += 1;
    }

    const fn take_off(&mut self, bytes: u64) {
        self.held = self.held.saturating_sub(bytes);
        self.batches = self.batches.saturating_sub(1);
    }

    /// Whether it has something to lease and is to enter the ring for that; it is taken to be there from now on.
    fn enters_ring(&mut self) -> bool {
        let enters = !self.in_ring && !self.on_hold && !self.waiting.is_empty();
        self.in_ring |= enters;
        enters
    }

    const fn is_over(&self) -> bool {
        self.batches == 0 && !self.in_ring
    }
}

impl<T> Default for Sharer<T> {
    fn default() -> Self {
        Self {
            batches: 0,
            aside: None,
        }
    }
}

impl<T> Clients<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            own: HashMap::new(),
            shared: Account::default(),
            sharing: HashMap::new(),
        }
    }

    /// Whose account the next batch of this client goes to.
    pub(super) fn owner(&self, client: &ClientId) -> Owner {
        let own = self.own.contains_key(client)
            || self.own.len() < self.limit && !self.sharing.contains_key(client);
        own.then(|| client.clone())
    }

    pub(super) fn held(&self, owner: &Owner) -> u64 {
        self.get(owner).map_or(0, |account| account.held)
    }

    /// The memory for an account and the batches in it.
    pub(super) fn memory_of(&self, owner: &Owner) -> u64 {
        let clients = match owner {
            Some(_) => OWN,
            None => self.sharing.len() as u64 * SHARER,
        };
        let batches = self.get(owner).map_or(0, |account| account.batches);
        clients + batches * BATCH
    }

    /// The memory for all accounts, but not for the batches in them.
    pub(super) fn memory(&self) -> u64 {
        self.own.len() as u64 * OWN + self.sharing.len() as u64 * SHARER
    }

    fn get(&self, owner: &Owner) -> Option<&Account<T>> {
        match owner {
            Some(client) => self.own.get(client),
            None => Some(&self.shared),
        }
    }

    pub(super) fn get_mut(&mut self, owner: &Owner) -> Option<&mut Account<T>> {
        match owner {
            Some(client) => self.own.get_mut(client),
            None => Some(&mut self.shared),
        }
    }

    /// A batch of this client comes to the account of [`Clients::owner`], which is opened if need be. The client by the name that
    /// its batches share.
    pub(super) fn enter(&mut self, owner: Owner, client: &ClientId, bytes: u64) -> ClientId {
        if let Some(client) = owner {
            let account = self.own.entry(client);
            let client = account.key().clone();
            account.or_default().add(bytes);
            client
        } else {
            self.shared.add(bytes);
            let sharer = self.sharing.entry(client.clone());
            let client = sharer.key().clone();
            sharer.or_default().batches += 1;
            client
        }
    }

    /// A batch of this client leaves its account, which is closed with the last.
    pub(super) fn leave(&mut self, client: &ClientId, bytes: u64) {
        if let Some(account) = self.own.get_mut(client) {
            account.take_off(bytes);
            if account.is_over() {
                self.own.remove(client);
            }
        } else if let Some(sharer) = self.sharing.get_mut(client) {
            self.shared.take_off(bytes);
            sharer.batches = sharer.batches.saturating_sub(1);
            if sharer.batches == 0 {
                self.sharing.remove(client);
            }
        }
    }

    /// A batch waits in its account. Whose that is, if it enters the ring.
    pub(super) fn put(&mut self, entry: Entry<T>) -> Option<Owner> {
        let own = self.own.get_mut(&entry.client);
        let client = own.is_some().then(|| entry.client.clone());
        let account = own.unwrap_or(&mut self.shared);
        insert(&mut account.waiting, entry);
        account.enters_ring().then_some(client)
    }

    /// An account without waiting batches has left the ring; without any, it is closed.
    pub(super) fn left_ring(&mut self, owner: &Owner) {
        let Some(account) = self.get_mut(owner) else {
            return;
        };
        account.in_ring = false;
        account.deficit = 0;
        if let Some(client) = owner
            && account.is_over()
        {
            self.own.remove(client);
        }
    }

    /// Leases nothing of this client. One without a batch has nothing to hold.
    pub(super) fn hold(&mut self, client: &ClientId) {
        if let Some(account) = self.own.get_mut(client) {
            // Its place in the ring is taken away when its turn comes.
            account.on_hold = true;
        } else if let Some(sharer) = self.sharing.get_mut(client) {
            sharer.aside.get_or_insert_default();
        }
    }

    /// Leases of this client again. Whose account it is in, if that enters the ring.
    pub(super) fn release(&mut self, client: &ClientId) -> Option<Owner> {
        if let Some(account) = self.own.get_mut(client) {
            account.on_hold = false;
            return account.enters_ring().then(|| Some(client.clone()));
        }
        let aside = self.sharing.get_mut(client)?.aside.take()?;
        // Mostly older than what waits, so that the last goes to the front first.
        for entry in aside.into_iter().rev() {
            insert(&mut self.shared.waiting, entry);
        }
        self.shared.enters_ring().then_some(None)
    }

    /// Takes what belongs to clients on hold from the front of the shared account.
    pub(super) fn set_aside(&mut self) {
        while let Some(first) = self.shared.waiting.front()
            && let Some(sharer) = self.sharing.get_mut(&first.client)
            && let Some(aside) = &mut sharer.aside
        {
            let first = take_first(&mut self.shared.waiting);
            first.into_iter().for_each(|entry| insert(aside, entry));
        }
    }

    /// The batch of this client with this ticket, if it waits.
    pub(super) fn find_mut(&mut self, client: &ClientId, ticket: u64) -> Option<&mut Entry<T>> {
        if let Some(account) = self.own.get_mut(client) {
            return find(&mut account.waiting, ticket);
        }
        let aside = self.sharing.get_mut(client)?.aside.as_mut();
        let lines = iter::once(&mut self.shared.waiting).chain(aside);
        lines.filter_map(|line| find(line, ticket)).next()
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Account<T>> {
        self.own.values().chain(iter::once(&self.shared))
    }

    /// All that waits with these tickets.
    pub(super) fn waiting(&self, tickets: &RangeInclusive<u64>) -> impl Iterator<Item = &Entry<T>> {
        let aside = self.sharing.values().filter_map(|it| it.aside.as_ref());
        let waiting = self.accounts().map(|account| &account.waiting);
        let lines = waiting.chain(aside);
        lines.flat_map(|line| {
            let start = line.partition_point(|entry| entry.ticket < *tickets.start());
            let end = line.partition_point(|entry| entry.ticket <= *tickets.end());
            line.range(start..end.max(start))
        })
    }

    /// How many accounts are open.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.own.len() + usize::from(!self.shared.is_over())
    }

    /// How many clients are in the shared account.
    #[cfg(test)]
    pub(super) fn sharing(&self) -> usize {
        self.sharing.len()
    }
}

/// Takes the first batch of a line. A line that was long gives its room back as it becomes short: its client may never be without
/// a batch.
pub(super) fn take_first<T>(line: &mut VecDeque<Entry<T>>) -> Option<Entry<T>> {
    const KEPT: usize = 64;

    let first = line.pop_front();
    if line.capacity() > KEPT && line.len() < line.capacity() / 4 {
        line.shrink_to(line.capacity() / 2);
    }
    first
}

/// `amount / of` of the whole, rounded up.
pub(super) fn part(amount: u64, of: u64, whole: u64) -> u64 {
    // In 128 bits, since a product of the two may not fit into 64.
    let part = (u128::from(amount) * u128::from(whole)).div_ceil(u128::from(of.max(1)));
    u64::try_from(part).unwrap_or(u64::MAX)
}

/// Puts a batch in its place.
fn insert<T>(line: &mut VecDeque<Entry<T>>, entry: Entry<T>) {
    let place = line.partition_point(|other| other.ticket < entry.ticket);
    line.insert(place, entry);
}

fn find<T>(line: &mut VecDeque<Entry<T>>, ticket: u64) -> Option<&mut Entry<T>> {
    let place = line.binary_search_by_key(&ticket, |entry| entry.ticket);
    line.get_mut(place.ok()?)
}
