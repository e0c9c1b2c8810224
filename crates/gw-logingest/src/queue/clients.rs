//! What each client holds, and how much it may.

use std::collections::{HashMap, HashSet, VecDeque};

use gw_core::ConfigError;

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
}

/// Whose account: a client's own, or the one of all clients for whom there was no room (`None`).
pub(crate) type Owner = Option<ClientId>;

/// One account of the queue.
#[derive(Debug)]
pub(super) struct Account<E> {
    /// Bytes that are promised, waiting or leased.
    pub(super) held: u64,
    /// Batches that are promised, waiting or leased.
    pub(super) batches: u64,
    /// In the order of their tickets.
    pub(super) waiting: VecDeque<E>,
    /// Bytes that it may lease before its turn ends.
    pub(super) deficit: u64,
    /// Whether it stands in the ring of those that have something waiting.
    pub(super) in_ring: bool,
    /// Nothing of it is leased for now.
    pub(super) on_hold: bool,
}

/// The accounts, at most [`Limits::clients`] and one more.
#[derive(Debug)]
pub(super) struct Clients<E> {
    limit: usize,
    accounts: HashMap<Owner, Account<E>>,
    /// Whose batches are in the shared account. They get no account of their own until it is closed: what they send later
    /// would be leased before what they sent first. At most as many as have accounts; once there are more, nobody gets one.
    sharing: HashSet<ClientId>,
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
        }
    }

    /// The most that one client may ever hold.
    pub(super) fn most(&self) -> u64 {
        self.allowance(self.capacity).min(self.capacity)
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

impl<E> Default for Account<E> {
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

impl<E> Clients<E> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            accounts: HashMap::new(),
            sharing: HashSet::new(),
        }
    }

    /// Whose account the next batch of this client goes to.
    pub(super) fn owner(&self, client: &ClientId) -> Owner {
        let own = Some(client.clone());
        if self.accounts.contains_key(&own) {
            return own;
        }
        let shared = usize::from(self.accounts.contains_key(&None));
        own.filter(|_| self.accounts.len() - shared < self.limit && !self.shares(client))
    }

    /// Whether batches of this client, which has no account of its own, may be in the shared one.
    fn shares(&self, client: &ClientId) -> bool {
        self.sharing.contains(client) || self.sharing.len() >= self.limit
    }

    /// The account that the batches of this client are in.
    pub(super) fn find(&mut self, client: &ClientId) -> Option<(Owner, &mut Account<E>)> {
        let owner = self.owner(client);
        let is_there = owner.is_some() || self.shares(client);
        let account = self.accounts.get_mut(&owner).filter(|_| is_there)?;
        Some((owner, account))
    }

    pub(super) fn held(&self, owner: &Owner) -> u64 {
        self.accounts.get(owner).map_or(0, |account| account.held)
    }

    /// The account, opened if need be, for a batch of this client.
    pub(super) fn enter(&mut self, owner: Owner, client: &ClientId) -> &mut Account<E> {
        if owner.is_none() && self.sharing.len() < self.limit {
            self.sharing.insert(client.clone());
        }
        self.open(owner)
    }

    /// The account, opened if need be.
    pub(super) fn open(&mut self, owner: Owner) -> &mut Account<E> {
        self.accounts.entry(owner).or_default()
    }

    pub(super) fn get_mut(&mut self, owner: &Owner) -> Option<&mut Account<E>> {
        self.accounts.get_mut(owner)
    }

    /// Takes one batch off the account, which is closed with the last.
    pub(super) fn release(&mut self, owner: &Owner, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(owner) {
            account.held = account.held.saturating_sub(bytes);
            account.batches = account.batches.saturating_sub(1);
            if account.batches == 0 && !account.in_ring {
                self.close(owner);
            }
        }
    }

    /// An account without waiting batches has left the ring; without any, it is closed.
    pub(super) fn left_ring(&mut self, owner: &Owner) {
        if let Some(account) = self.accounts.get_mut(owner) {
            account.in_ring = false;
            account.deficit = 0;
            if account.batches == 0 {
                self.close(owner);
            }
        }
    }

    fn close(&mut self, owner: &Owner) {
        self.accounts.remove(owner);
        if owner.is_none() {
            self.sharing.clear();
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Owner, &Account<E>)> {
        self.accounts.iter()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.accounts.len()
    }
}
