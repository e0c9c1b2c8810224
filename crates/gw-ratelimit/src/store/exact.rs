use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::available_parallelism;

use super::notes::Notes;
use super::table::Table;
use super::{KeyHash, Place, Receipt, Store};
use crate::algorithm::Algorithm;
use crate::limiter::Terms;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// One state for each key, up to a bound that holds exactly; shards under locks of their own.
///
/// A known key costs a read lock and a compare-and-swap. The write lock is for first sight, and each newcomer looks
/// at a few places further on in its shard for keys whose debt has run off. There is no background task and no pause
/// that grows with the number of keys, but for the doubling of one shard's table while it fills up.
///
/// At the bound, keys without debt give way. If there are none among those looked at, the newcomer shares one state
/// with all others of its policy and shard that found no room. So nobody's debt is forgiven, by three rules:
///
/// - only a key without debt is forgotten;
/// - a key that gets a place of its own begins with the shared debt, since some of that may be its own;
/// - a key that is new or was forgotten begins no earlier than the last debt that was forgotten (`floor`), so that a
///   thread whose clock reading is older cannot see it as further in the past.
#[derive(Debug)]
pub(crate) struct Exact {
    shards: Box<[Aligned]>,
    notes: Notes,
}

/// A lock word to a cache line (two: processors fetch them in pairs), or shards would slow one another down.
#[derive(Debug)]
#[repr(align(128))]
struct Aligned(RwLock<Shard>);

#[derive(Debug)]
struct Shard {
    table: Table,
    /// The most keys in this shard.
    capacity: usize,
    /// The latest time since when a key that was forgotten had no debt.
    floor: u64,
    /// For each policy, the state shared by those that found no room.
    overflow: Box<[u64]>,
}

impl Exact {
    /// The doubling of a shard holds up those who come to it: about a tenth of a millisecond at this size, new pages
    /// of memory included.
    const KEYS_PER_SHARD: usize = 4096;
    /// Fewer keys than this to a shard, and some shards would be full long before others.
    const MIN_KEYS_PER_SHARD: usize = 64;
    /// Two megabytes of shards, empty ones too.
    const MAX_SHARDS: usize = 1 << 14;
    /// How many places a newcomer looks at in passing, so that what has run off does not pile up.
    const SWEEP: usize = 4;
    /// How many it looks at when there is no room: sixteen cache lines.
    const SWEEP_WHEN_FULL: usize = 64;

    /// Room for `max_keys` keys in all, at least 1.
    pub(crate) fn new(max_keys: usize, tallies: Arc<[Tally]>) -> Self {
        let count = Self::shard_count(max_keys);
        let shards = (0..count)
            .map(|shard| Shard {
                table: Table::default(),
                capacity: max_keys / count + usize::from(shard < max_keys % count),
                floor: 0,
                overflow: vec![0; tallies.len()].into(),
            })
            .map(|shard| Aligned(RwLock::new(shard)))
            .collect();
        Self {
            shards,
            notes: Notes::new(tallies),
        }
    }

    /// A power of two: enough for the processors and for short pauses, not so many that few keys spread unevenly.
    fn shard_count(max_keys: usize) -> usize {
        let processors = available_parallelism().map_or(8, usize::from);
        let wanted = (max_keys / Self::KEYS_PER_SHARD)
            .max(4 * processors)
            .min(Self::MAX_SHARDS)
            .next_power_of_two();
        let most = (max_keys / Self::MIN_KEYS_PER_SHARD).max(1);
        wanted.min(1 << most.ilog2())
    }

    /// The shard is chosen by low bits, the place in its table by high ones.
    fn shard(&self, key: KeyHash) -> Option<&RwLock<Shard>> {
        let index = key.spread() & (self.shards.len() - 1);
        self.shards.get(index).map(|shard| &shard.0)
    }

    #[cold]
    fn charge_alone(
        &self,
        shard: &mut Shard,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> (Verdict, Option<Place>) {
        if let Some(word) = shard.table.get_mut(key) {
            let verdict = word.charge_alone(algorithm, cost, now);
            let charged = matches!(verdict, Verdict::Allow { .. });
            return (verdict, charged.then_some(Place::Own));
        }
        let verdict = algorithm.decide(shard.unknown(key, algorithm), now, cost);
        let Verdict::Allow { state } = verdict else {
            return (verdict, None);
        };
        let place = if self.make_room(shard, now, terms) {
            shard.table.insert(key, state, shard.capacity);
            self.notes.take(key, Tally::key_added);
            Place::Own
        } else {
            if let Some(shared) = shard.overflow.get_mut(key.policy()) {
                *shared = state;
            }
            self.notes.take(key, Tally::overflowed);
            Place::Overflow
        };
        (verdict, Some(place))
    }

    /// Forgets some keys without debt. `false` if the shard is full even so.
    fn make_room(&self, shard: &mut Shard, now: u64, terms: &[Terms]) -> bool {
        // A key of a policy that is not known stays.
        let idle_at = |key: KeyHash, state| match terms.get(key.policy()) {
            Some(terms) => terms.algorithm.idle_at(state),
            None => u64::MAX,
        };
        let full = shard.table.len() >= shard.capacity;
        let looks = if full {
            Self::SWEEP_WHEN_FULL
        } else {
            Self::SWEEP
        };
        for _ in 0..looks {
            if let Some((key, idle_at)) = shard.table.sweep_one(now, idle_at) {
                shard.floor = shard.floor.max(idle_at);
                self.notes.take(key, Tally::key_removed);
                if full {
                    return true;
                }
            }
        }
        !full
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.notes.take_changed()
    }
}

impl Store for Exact {
    fn peek(&self, key: KeyHash, algorithm: &Algorithm) -> u64 {
        let Some(shard) = self.shard(key) else {
            return 0;
        };
        let shard = read(shard);
        match shard.table.get(key) {
            Some(word) => word.get(),
            None => shard.unknown(key, algorithm),
        }
    }

    fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> (Verdict, Option<Place>) {
        let Some(shard) = self.shard(key) else {
            // Not reached: there is at least one shard, and their number is a power of two.
            return (Verdict::DenyForever { state: 0 }, None);
        };
        let known = match read(shard).table.get(key) {
            Some(word) => word.charge(algorithm, cost, now),
            None => None,
        };
        match known {
            Some(verdict @ Verdict::Allow { .. }) => (verdict, Some(Place::Own)),
            Some(denied) => (denied, None),
            // First sight, or so much coming and going that this thread never got in between.
            None => self.charge_alone(&mut write(shard), key, algorithm, cost, now, terms),
        }
    }

    fn undo(&self, receipt: Receipt, algorithm: &Algorithm, clock: &dyn Fn() -> u64) {
        let Receipt {
            key,
            place,
            after,
            cost,
        } = receipt;
        let Some(shard) = self.shard(key) else { return };
        let mut shard = write(shard);
        let latest = clock();
        match place {
            Place::Own => {
                // A key that has been forgotten since had no debt any more, so there is nothing to give back.
                if let Some(word) = shard.table.get_mut(key) {
                    word.set(algorithm.take_back(word.get(), after, cost, latest));
                }
            }
            Place::Overflow => {
                if let Some(shared) = shard.overflow.get_mut(key.policy()) {
                    *shared = algorithm.take_back(*shared, after, cost, latest);
                }
            }
        }
    }

    fn reset(&self, key: KeyHash) -> bool {
        let Some(shard) = self.shard(key) else {
            return false;
        };
        let held = write(shard).table.remove(key);
        // Without the lock by now, as nobody else counts this key out.
        if held {
            self.notes.take(key, Tally::key_removed);
        }
        held
    }

    fn rewrite(&self, policy: usize, clock: &dyn Fn() -> u64, change: &dyn Fn(u64, u64) -> u64) {
        for shard in &self.shards {
            let mut shard = write(&shard.0);
            let now = clock();
            for word in shard.table.of_policy(policy) {
                word.set(change(word.get(), now));
            }
            if let Some(shared) = shard.overflow.get_mut(policy) {
                *shared = change(*shared, now);
            }
        }
    }
}

impl Shard {
    /// The state that a key without a place of its own begins with.
    fn unknown(&self, key: KeyHash, algorithm: &Algorithm) -> u64 {
        let shared = self.overflow.get(key.policy()).copied();
        algorithm.later(algorithm.idle(self.floor), shared.unwrap_or(0))
    }
}

// A panic under these locks cannot leave a shard half changed in a way that matters (nothing in there calls foreign
// code), and a limiter that is poisoned would take the gateway down: go on.

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
