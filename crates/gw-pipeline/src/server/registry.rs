//! Who is connected, who may connect, and who has to go for it.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gw_core::context::ClientAddr;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::closed::{CloseReason, Counters};
use super::config::ServerConfig;
use super::link::{Eviction, InFlight, Link, Order};

/// How many connections one newcomer may look at in search of one to evict.
///
/// Each look puts a connection that is not idle behind all others, so that the next search starts elsewhere.
const MAX_LOOKS: usize = 128;

/// For how long one that is not idle is not looked at again, for each connection that there may be: so where all have a request, as
/// many newcomers as may come have 100,000 looked at in a second, and not 128 each under the lock that all who leave need.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How often a search is made in a row for want of descriptors, when nothing is accepted meanwhile.
const SEARCHES: usize = 8;

/// The connections of a server, and its listeners.
#[derive(Debug)]
pub(super) struct Registry {
    pub(super) config: ServerConfig,
    pub(super) counters: Counters,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    /// How long one that was found busy is left alone.
    pause: Duration,
    next_id: u64,
    entries: HashMap<u64, Entry>,
    /// All connections that are not evicted, by when they may be looked at in search of one to evict: an instant that is not later
    /// than when they last went quiet, but by the pause where one was found busy.
    ///
    /// It is corrected only when a connection comes up for eviction, so that requests do not touch this table.
    by_quiet: BTreeSet<(Instant, u64)>,
    per_network: HashMap<IpAddr, usize>,
    listeners: Vec<Arc<Listener>>,
    /// Connections are to close after their next answer, new ones too.
    announces_close: bool,
}

#[derive(Debug)]
struct Entry {
    link: Arc<Link>,
    listener: Arc<Listener>,
    network: IpAddr,
    /// Its key in `by_quiet`; `None` once it is evicted.
    quiet: Option<Instant>,
}

/// One call of `serve`.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) local_addr: Option<SocketAddr>,
    pub(super) active: AtomicUsize,
    pub(super) accepted: AtomicU64,
    /// The last connection has gone.
    pub(super) deserted: Notify,
}

/// A connection's place in the server. Dropping it gives the place back.
#[derive(Debug)]
pub(super) struct Slot {
    registry: Arc<Registry>,
    link: Arc<Link>,
    id: u64,
}

impl Registry {
    pub(super) fn new(config: ServerConfig) -> Self {
        let table = Table {
            pause: pause(config.max_connections),
            ..Table::default()
        };
        Self {
            config,
            counters: Counters::default(),
            table: Mutex::new(table),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Nothing under the lock can panic half-way, so a poisoned table is a sound one.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn listen(&self, local_addr: Option<SocketAddr>) -> Arc<Listener> {
        let listener = Arc::new(Listener {
            local_addr,
            active: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            deserted: Notify::new(),
        });
        self.lock().listeners.push(Arc::clone(&listener));
        listener
    }

    pub(super) fn forget(&self, listener: &Arc<Listener>) {
        self.lock()
            .listeners
            .retain(|other| !Arc::ptr_eq(other, listener));
    }

    pub(super) fn listeners(&self) -> Vec<Arc<Listener>> {
        self.lock().listeners.clone()
    }

    /// How many connections are open.
    pub(super) fn active(&self) -> usize {
        self.lock().entries.len()
    }

    /// Gives a new connection its place, if there is one; see
    /// [`max_connections`](super::ServerConfigBuilder::max_connections).
    pub(super) fn admit(
        self: &Arc<Self>,
        listener: &Arc<Listener>,
        peer: SocketAddr,
        now: Instant,
    ) -> Result<Slot, CloseReason> {
        Counters::count(&self.counters.accepted);
        Counters::count(&listener.accepted);
        let mut evicted = None;
        let admitted = self
            .lock()
            .admit(&self.config, listener, peer, now, &mut evicted);
        if let Some(link) = evicted {
            link.wake();
        }
        match admitted {
            Ok((id, link)) => Ok(Slot {
                registry: Arc::clone(self),
                link,
                id,
            }),
            Err(reason) => {
                self.counters.closed(reason);
                Err(reason)
            }
        }
    }

    /// Counts a connection that was closed before there was a place for it.
    pub(super) fn refuse(&self, listener: &Listener, reason: CloseReason) {
        Counters::count(&self.counters.accepted);
        Counters::count(&listener.accepted);
        self.counters.closed(reason);
    }

    /// Closes the connection that has been without a request for longest, for want of descriptors that began at `since`. `false` if
    /// there is none: each has a request, or had one since.
    pub(super) fn makes_room(&self, since: Instant, now: Instant) -> bool {
        for _ in 0..SEARCHES {
            let mut table = self.lock();
            let evicted = table.evict_longest_quiet(now);
            let left = table.has_quiet_since(since);
            drop(table);
            if let Some(link) = evicted {
                link.wake();
                return true;
            }
            if !left {
                return false;
            }
        }
        // It is not known yet: the next time it goes on from here.
        true
    }

    /// Gives an order to all connections of `listener`.
    pub(super) fn order(&self, listener: &Arc<Listener>, order: Order) {
        // Outside the lock, since waking runs foreign code.
        self.links(listener)
            .iter()
            .for_each(|link| link.order(order));
    }

    /// Has each connection close after its next answer, those included that come later.
    pub(super) fn announce_close(&self) {
        let mut table = self.lock();
        table.announces_close = true;
        for entry in table.entries.values() {
            entry.link.announce_close();
        }
    }

    /// What each connection of `listener` has under way.
    pub(super) fn in_flight(&self, listener: &Arc<Listener>) -> Vec<InFlight> {
        self.links(listener)
            .iter()
            .map(|link| link.in_flight())
            .collect()
    }

    fn links(&self, listener: &Arc<Listener>) -> Vec<Arc<Link>> {
        let table = self.lock();
        let own = |entry: &&Entry| Arc::ptr_eq(&entry.listener, listener);
        table
            .entries
            .values()
            .filter(own)
            .map(|entry| Arc::clone(&entry.link))
            .collect()
    }
}

impl Table {
    fn admit(
        &mut self,
        config: &ServerConfig,
        listener: &Arc<Listener>,
        peer: SocketAddr,
        now: Instant,
        evicted: &mut Option<Arc<Link>>,
    ) -> Result<(u64, Arc<Link>), CloseReason> {
        let network = ClientAddr::new(peer.ip()).network(64);
        if self
            .per_network
            .get(&network)
            .is_some_and(|count| *count >= config.max_connections_per_ip)
        {
            return Err(CloseReason::PerIpLimit);
        }
        // Evicted connections are on their way out and no longer count.
        let near = config.max_connections - config.max_connections / 64;
        if self.by_quiet.len() >= near {
            *evicted = self.evict_longest_quiet(now);
        }
        if self.by_quiet.len() >= config.max_connections {
            return Err(CloseReason::Full);
        }
        let id = self.next_id;
        self.next_id += 1;
        let link = Arc::new(Link::new(now));
        if self.announces_close {
            link.announce_close();
        }
        *self.per_network.entry(network).or_default() += 1;
        self.by_quiet.insert((now, id));
        listener.active.fetch_add(1, Ordering::Relaxed);
        self.entries.insert(
            id,
            Entry {
                link: Arc::clone(&link),
                listener: Arc::clone(listener),
                network,
                quiet: Some(now),
            },
        );
        Ok((id, link))
    }

    /// Orders the connection that has been quiet for longest to leave. It must be woken.
    fn evict_longest_quiet(&mut self, now: Instant) -> Option<Arc<Link>> {
        for _ in 0..MAX_LOOKS {
            let first = self.by_quiet.first()?;
            if first.0 > now {
                return None;
            }
            let (quiet, id) = self.by_quiet.pop_first()?;
            let entry = self.entries.get_mut(&id)?;
            // The keys are not too late, but by a pause: whoever comes first and has the right one has been quiet for longest.
            let later = match entry.link.evict_if_quiet_since(quiet) {
                Eviction::Ordered => {
                    entry.quiet = None;
                    return Some(Arc::clone(&entry.link));
                }
                Eviction::QuietSince(later) => later,
                Eviction::Busy => now + self.pause,
            };
            entry.quiet = Some(later);
            self.by_quiet.insert((later, id));
        }
        None
    }

    /// Whether a connection may have been quiet since before `since`, and was not looked at after that.
    fn has_quiet_since(&self, since: Instant) -> bool {
        let looked_at_since = since + self.pause;
        self.by_quiet
            .first()
            .is_some_and(|(quiet, _)| *quiet < looked_at_since)
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(quiet) = entry.quiet {
            self.by_quiet.remove(&(quiet, id));
        }
        if let Some(count) = self.per_network.get_mut(&entry.network) {
            *count -= 1;
            if *count == 0 {
                self.per_network.remove(&entry.network);
            }
        }
        Some(entry)
    }
}

impl Slot {
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let reason = self.link.closed();
        let entry = self.registry.lock().remove(self.id);
        self.registry.counters.closed(reason);
        if let Some(entry) = entry {
            // AcqRel: who sees zero sees all that the connections did.
            if entry.listener.active.fetch_sub(1, Ordering::AcqRel) == 1 {
                entry.listener.deserted.notify_waiters();
            }
        }
    }
}

fn pause(max_connections: usize) -> Duration {
    let each = u32::try_from(max_connections).unwrap_or(u32::MAX);
    (PAUSE_FOR_EACH * each).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests;
