//! Breakers by key: as many as there is room for.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use gw_core::context::UpstreamName;
use gw_core::key::MissingKey;
use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use crate::breaker::{Breaker, Knowledge};
use crate::config::BreakerConfig;
use crate::core::References;
use crate::rules::Rules;
use crate::sync::{Mutex, Ordering, RwLock, lock, read, write};
use crate::telemetry::{self, BreakerMetrics, CountGauge};
use crate::told::Switched;

/// The breakers of a keyed layer.
///
/// Keys are kept as hashes of 64 bits under a secret. Who was idle for long is forgotten if it keeps no calls away. When there
/// is no room for a newcomer one that is closed goes, or off where all are: if it can be, one that is clean, since it would be
/// made anew as it is. Else one with something against its upstream, if nobody has asked for it for as long as a breaker is open
/// at the longest, and as its step is kept. Had that opened it, the next call would pass as a probe, unless the upstream had
/// asked for more time. One with calls under way goes only when it is idle. If there is none among those looked at, the
/// newcomer shares one breaker with all others that found no room; once all were looked at in vain, newcomers do so for a moment
/// without a look. So who invents keys cannot have it forgotten that an upstream is broken, nor that one begins to fail that is asked
/// for more often than that. Of one that is not, each such pause may have the count begin anew, and calls pass on that fail: before
/// each, fewer than would open it.
#[derive(Debug)]
pub(crate) struct Registry {
    /// The name of the shared breaker, and of those that have none of their own.
    name: UpstreamName,
    random: RandomState,
    capacity: usize,
    idle: Duration,
    count: CountGauge,
    /// Whether somebody was told that a request had no key.
    complained: AtomicBool,
    /// Held while a mode or a configuration is written down and brought to all that are there, one change after the other. Else
    /// of two at once, one would be what newcomers begin with, and the other what is left with those that are there, for good.
    changing: Mutex<()>,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    /// Of requests without a key, and of newcomers without room.
    shared: Breaker,
    beginning: Beginning,
    places: HashMap<u64, usize, BuildHasherDefault<Same>>,
    entries: Vec<Entry>,
    /// Which entry is looked at next when room is made.
    hand: usize,
    /// How many have been looked at in a row of whom none may go.
    in_vain: usize,
    /// Until then newcomers share one without a look: all were looked at in vain.
    full_until: Option<Instant>,
}

/// What newcomers begin with.
#[derive(Debug, Clone)]
struct Beginning {
    rules: Rules,
    mode: Mode,
    /// How often it was changed.
    changes: u64,
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

/// What it costs to forget a breaker that may be forgotten for a newcomer, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Missed {
    /// It is clean, and was not asked for lately.
    Hardly,
    /// It is clean, and will be asked for soon.
    Soon,
    /// Failures are forgotten, or the step; had they opened it, a probe would pass by now.
    AsAProbe,
}

/// How many entries are looked at for each newcomer, so that the cost of one is bounded.
const LOOKS: usize = 8;

/// For how long newcomers look at nobody once all were looked at in vain, for each place that there is. Else, where more keys are in use
/// than there is room for, each request of the others would lock out all requests to find that out again.
const PAUSE_FOR_EACH: Duration = Duration::from_micros(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

impl Registry {
    pub(crate) fn new(
        shared: Breaker,
        rules: Rules,
        mode: Mode,
        capacity: NonZeroU32,
        idle: Duration,
    ) -> Self {
        let name = shared.upstream().clone();
        Self {
            count: CountGauge::new(name.clone()),
            name,
            random: RandomState::new(),
            capacity: capacity.get() as usize,
            idle,
            complained: AtomicBool::new(false),
            changing: Mutex::new(()),
            table: RwLock::new(Table {
                shared,
                beginning: Beginning {
                    rules,
                    mode,
                    changes: 0,
                },
                places: HashMap::default(),
                entries: Vec::new(),
                hand: 0,
                in_vain: 0,
                full_until: None,
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
        if !entry.breaker.is_replaced() {
            return Some(entry.breaker.clone());
        }
        drop(table);
        self.caught_up(|table| {
            let place = *table.places.get(&key)?;
            Some(&mut table.entries.get_mut(place)?.breaker)
        })
    }

    /// The breaker of requests without a key. The first time it is said why there is none.
    pub(crate) fn without_key(&self, missing: &MissingKey) -> Breaker {
        // Read first, as in `find`.
        if !self.complained.load(Ordering::Relaxed)
            && !self.complained.swap(true, Ordering::Relaxed)
        {
            telemetry::key_missing(self.name.as_str(), missing);
        }
        self.shared()
    }

    fn shared(&self) -> Breaker {
        let shared = read(&self.table).shared.clone();
        if !shared.is_replaced() {
            return shared;
        }
        self.caught_up(|table| Some(&mut table.shared))
            .unwrap_or(shared)
    }

    /// Has what is kept catch up with a new configuration, so that the next ones find it so.
    #[cold]
    fn caught_up(&self, kept: impl FnOnce(&mut Table) -> Option<&mut Breaker>) -> Option<Breaker> {
        let mut table = write(&self.table);
        let kept = kept(&mut table)?;
        kept.refresh();
        Some(kept.clone())
    }

    /// The breaker of `key`, made if there is none; `upstream` is its name, if it has one of its own.
    #[cold]
    pub(crate) fn make(&self, key: u64, upstream: Option<UpstreamName>) -> Breaker {
        let now = Instant::now();
        match self.beginning(now) {
            Some(beginning) => self.begin(key, upstream, &beginning, now),
            None => self.shared(),
        }
    }

    /// What a newcomer begins with; nothing while there is no room for sure.
    fn beginning(&self, now: Instant) -> Option<Beginning> {
        let table = read(&self.table);
        let may_have_room = table.full_until.is_none_or(|until| until <= now);
        may_have_room.then(|| table.beginning.clone())
    }

    fn begin(
        &self,
        key: u64,
        upstream: Option<UpstreamName>,
        beginning: &Beginning,
        now: Instant,
    ) -> Breaker {
        let alone = upstream.is_some();
        let upstream = upstream.unwrap_or_else(|| self.name.clone());
        // Before the lock, which keeps all requests out: a window may be long.
        let mut breaker = beginning.breaker(upstream.clone(), alone);
        let mut table = write(&self.table);
        // Another thread may have been faster.
        let found = table
            .places
            .get(&key)
            .and_then(|place| table.entries.get(*place));
        if let Some(found) = found {
            return found.breaker.clone();
        }
        let gone = table.make_room(now, self.idle, self.capacity);
        if table.entries.len() >= self.capacity {
            return table.shared.clone();
        }
        // As all are by now, before anybody finds it: who has changed them meanwhile did not find it.
        if table.beginning.changes != beginning.changes {
            breaker = table.beginning.breaker(upstream, alone);
        }
        let place = table.entries.len();
        table.places.insert(key, place);
        table.entries.push(Entry {
            key,
            breaker: breaker.clone(),
            asked_for: AtomicBool::new(true),
            seen: now,
        });
        drop(table);
        // The recorder is foreign code.
        for gone in gone {
            gone.breaker.clear_gauge();
            // Another thread may have made it anew by then, and that one may have shown its state before.
            if let Some(anew) = self.known(gone.key) {
                anew.show_gauge();
            }
        }
        self.show_count();
        breaker
    }

    /// Has the gauge show how many there are. Threads that set it one after the other may have counted before either: the last one
    /// to set it counts again.
    fn show_count(&self) {
        let count = || read(&self.table).entries.len();
        loop {
            let shown = count();
            self.count.set(shown);
            if count() == shown {
                return;
            }
        }
    }

    fn known(&self, key: u64) -> Option<Breaker> {
        let table = read(&self.table);
        let entry = table.entries.get(*table.places.get(&key)?)?;
        Some(entry.breaker.clone())
    }

    pub(crate) fn all(&self) -> Vec<Breaker> {
        let table = read(&self.table);
        let known = table.entries.iter().map(|entry| entry.breaker.clone());
        known.chain([table.shared.clone()]).collect()
    }

    pub(crate) fn mode(&self) -> Mode {
        read(&self.table).beginning.mode
    }

    pub(crate) fn set_mode(&self, mode: Mode, now: Instant) {
        let switched = self.change_all(
            |beginning| beginning.mode = mode,
            |breaker| breaker.switch(mode, now),
        );
        switched.into_iter().for_each(Switched::tell);
    }

    pub(crate) fn reconfigure(
        &self,
        config: &BreakerConfig,
        now: Instant,
    ) -> Result<(), ConfigError> {
        let rules = Rules::new(config)?;
        let reconfigured = self.change_all(
            |beginning| beginning.rules = rules,
            |breaker| breaker.decide_by(config, now),
        );
        for reconfigured in reconfigured {
            reconfigured?.tell();
        }
        Ok(())
    }

    /// Changes what newcomers begin with, and then those that are there. Whoever is told of it is told by what is given back,
    /// when all is done: a listener that panics leaves none as it was, and one that comes with a change finds no lock held.
    fn change_all<T>(
        &self,
        newcomers: impl FnOnce(&mut Beginning),
        change: impl Fn(Breaker) -> T,
    ) -> Vec<T> {
        let _changing = lock(&self.changing);
        let mut table = write(&self.table);
        newcomers(&mut table.beginning);
        table.beginning.changes += 1;
        drop(table);
        self.all().into_iter().map(change).collect()
    }
}

impl Beginning {
    /// `alone` says whether the name is its own.
    fn breaker(&self, upstream: UpstreamName, alone: bool) -> Breaker {
        let metrics = BreakerMetrics::new(upstream.clone(), alone);
        Breaker::of(
            upstream,
            metrics,
            self.rules.clone(),
            self.mode,
            References::Counted,
        )
    }
}

impl Table {
    /// Forgets among a few who has been idle and is not needed, and if that makes no room, the one that is missed least.
    /// Says who is forgotten. If that is anybody, there is room.
    fn make_room(&mut self, now: Instant, idle: Duration, capacity: usize) -> Vec<Entry> {
        let rest = self.beginning.rules.rest();
        let mut gone = Vec::new();
        let mut least = None;
        for _ in 0..LOOKS.min(self.entries.len()) {
            if self.hand >= self.entries.len() {
                self.hand = 0;
            }
            let Some(entry) = self.entries.get_mut(self.hand) else {
                return gone;
            };
            let asked_for = std::mem::take(entry.asked_for.get_mut());
            if asked_for {
                entry.seen = now;
            }
            let knowledge = entry.breaker.knowledge(now, self.beginning.mode);
            let unasked = now.saturating_duration_since(entry.seen);
            if unasked >= idle && knowledge != Knowledge::Needed {
                // The last one takes its place, and is looked at next.
                gone.push(self.forget(self.hand));
                self.in_vain = 0;
                continue;
            }
            let missed = match knowledge {
                Knowledge::Clean if !asked_for => Some(Missed::Hardly),
                Knowledge::Clean => Some(Missed::Soon),
                Knowledge::Suspect if unasked >= rest => Some(Missed::AsAProbe),
                // Whatever becomes of calls under way is counted, unless they take until it is idle.
                Knowledge::Suspect | Knowledge::InUse | Knowledge::Worn | Knowledge::Needed => None,
            };
            self.in_vain = missed.map_or(self.in_vain + 1, |_| 0);
            if let Some(missed) = missed
                && least.is_none_or(|(other, _)| missed < other)
            {
                least = Some((missed, entry.key));
            }
            self.hand += 1;
        }
        if self.entries.len() >= capacity
            && let Some((_, key)) = least
            && let Some(place) = self.places.get(&key)
        {
            gone.push(self.forget(*place));
        }
        if self.entries.len() >= capacity && self.in_vain >= capacity {
            self.in_vain = 0;
            self.full_until = Some(now + pause(capacity));
        }
        gone
    }

    fn forget(&mut self, place: usize) -> Entry {
        let gone = self.entries.swap_remove(place);
        // Before there can be another one of its name.
        gone.breaker.disown();
        self.places.remove(&gone.key);
        if let Some(moved) = self.entries.get(place) {
            self.places.insert(moved.key, place);
        }
        gone
    }
}

fn pause(capacity: usize) -> Duration {
    let each = u32::try_from(capacity).unwrap_or(u32::MAX);
    (PAUSE_FOR_EACH * each).min(LONGEST_PAUSE)
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
