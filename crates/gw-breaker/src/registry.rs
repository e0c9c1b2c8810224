//! Breakers by key: as many as there is room for.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gw_core::context::UpstreamName;
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::config::{BreakerConfig, ConfigError, Mode};
use crate::rules::Rules;
use crate::sync::{Ordering, RwLock, read, write};
use crate::telemetry::{self, BreakerMetrics};

/// The breakers of a keyed layer.
///
/// Keys are kept as hashes of 64 bits under a secret. When there is no room for a newcomer, a breaker is forgotten that is
/// closed, one that was not asked for lately if there is one. If there is none among those looked at, the newcomer shares
/// one breaker with all others that found no room: a breaker that keeps calls from a broken upstream is never forgotten for
/// one that does not.
#[derive(Debug)]
pub(crate) struct Registry {
    pub(crate) shared: Breaker,
    random: RandomState,
    capacity: usize,
    idle: Duration,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    rules: Rules,
    mode: Mode,
    places: HashMap<u64, usize, BuildHasherDefault<Same>>,
    entries: Vec<Entry>,
    /// Which entry is looked at next when room is made.
    hand: usize,
}

#[derive(Debug)]
struct Entry {
    key: u64,
    breaker: Breaker,
    /// Asked for since it was last looked at.
    asked_for: AtomicBool,
    /// When it was last found to have been asked for.
    seen: Instant,
}

/// How many entries are looked at for each newcomer, so that the cost of one is bounded.
const LOOKS: usize = 8;

impl Registry {
    pub(crate) fn new(
        shared: Breaker,
        rules: Rules,
        mode: Mode,
        capacity: NonZeroU32,
        idle: Duration,
    ) -> Self {
        Self {
            shared,
            random: RandomState::new(),
            capacity: capacity.get() as usize,
            idle,
            table: RwLock::new(Table {
                rules,
                mode,
                places: HashMap::default(),
                entries: Vec::new(),
                hand: 0,
            }),
        }
    }

    /// What a key is hashed with. [`Hasher::finish`] is the key.
    pub(crate) fn hasher(&self) -> impl Hasher + use<> {
        self.random.build_hasher()
    }

    pub(crate) fn find(&self, key: u64) -> Option<Breaker> {
        let table = read(&self.table);
        let entry = table.entries.get(*table.places.get(&key)?)?;
        // Read first: all threads write to the same place otherwise.
        if !entry.asked_for.load(Ordering::Relaxed) {
            entry.asked_for.store(true, Ordering::Relaxed);
        }
        Some(entry.breaker.clone())
    }

    /// The breaker of `key`, made if there is none; `upstream` is its name, if it has one of its own.
    #[cold]
    pub(crate) fn make(&self, key: u64, upstream: Option<UpstreamName>) -> Breaker {
        let now = Instant::now();
        let alone = upstream.is_some();
        let upstream = upstream.unwrap_or_else(|| self.shared.upstream().clone());
        let mut table = write(&self.table);
        // Another thread may have been faster.
        let found = table
            .places
            .get(&key)
            .and_then(|place| table.entries.get(*place));
        if let Some(found) = found {
            return found.breaker.clone();
        }
        table.make_room(now, self.idle, self.capacity);
        if table.entries.len() >= self.capacity {
            return self.shared.clone();
        }
        let metrics = BreakerMetrics::new(upstream.clone(), alone);
        // In its mode before anybody finds it, so that no change of mode misses it.
        let breaker = Breaker::of(upstream, metrics, table.rules.clone(), table.mode);
        let place = table.entries.len();
        table.places.insert(key, place);
        table.entries.push(Entry {
            key,
            breaker: breaker.clone(),
            asked_for: AtomicBool::new(true),
            seen: now,
        });
        let count = table.entries.len();
        drop(table);
        telemetry::breakers(self.shared.upstream().as_str(), count);
        breaker
    }

    pub(crate) fn all(&self) -> Vec<Breaker> {
        let table = read(&self.table);
        let known = table.entries.iter().map(|entry| entry.breaker.clone());
        known.chain([self.shared.clone()]).collect()
    }

    pub(crate) fn mode(&self) -> Mode {
        read(&self.table).mode
    }

    pub(crate) fn set_mode(&self, mode: Mode, now: Instant) {
        write(&self.table).mode = mode;
        for breaker in self.all() {
            breaker.set_mode(mode, now);
        }
    }

    pub(crate) fn reconfigure(
        &self,
        config: &BreakerConfig,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let rules = Rules::new(config)?;
        write(&self.table).rules = rules;
        for breaker in self.all() {
            breaker.reconfigure(config, now)?;
        }
        Ok(())
    }
}

impl Table {
    /// Forgets who has been idle among a few, and if that makes no room, one of them that is closed.
    fn make_room(&mut self, now: Instant, idle: Duration, capacity: usize) {
        let mut closed = None;
        for _ in 0..LOOKS.min(self.entries.len()) {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else {
                return;
            };
            let asked_for = std::mem::take(entry.asked_for.get_mut());
            if asked_for {
                entry.seen = now;
            }
            if !entry.breaker.is_forgettable(now) {
                self.hand += 1;
                continue;
            }
            if now.saturating_duration_since(entry.seen) >= idle {
                // The last one takes its place, and is looked at next.
                self.forget(self.hand);
                continue;
            }
            // One that was asked for is the second choice.
            match closed {
                Some((_, false)) => {}
                _ if !asked_for => closed = Some((entry.key, false)),
                None => closed = Some((entry.key, true)),
                Some(_) => {}
            }
            self.hand += 1;
        }
        if self.entries.len() >= capacity
            && let Some((key, _)) = closed
            && let Some(place) = self.places.get(&key)
        {
            self.forget(*place);
        }
    }

    fn forget(&mut self, place: usize) {
        let gone = self.entries.swap_remove(place);
        self.places.remove(&gone.key);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key, place);
        }
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// Shared by layers, services and handles.
pub(crate) type SharedRegistry = Arc<Registry>;
