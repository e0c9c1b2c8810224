use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::available_parallelism;

use super::KeyHash;
use super::notes::Notes;
use super::table::Table;
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
/// At the bound, keys that nothing is lost with give way. If there are none among those looked at, strikes of a penalty do,
/// and after them the one with the least debt is forgotten; be it the newcomer itself. Nobody's debt is forgiven, since each
/// shard has a *floor* for each policy:
///
/// - A key that is not in the table begins at the floor.
/// - Whenever a key is forgotten, with debt or without, the floor rises to its state if it is below. Nothing lowers it but
///   a change of quotas, which changes all states in the same way.
///
/// So the floor is no less than the debt of any key that was forgotten, and a thread whose clock reading is older does not
/// see such a key as further in the past. The debt of others that a newcomer begins with is the least there was.
///
/// There was another rule before: the newcomers that found no room shared one state, and who got a place later began with
/// all of that. Such places were held for longer than their owners' debts would have been, so a table that was full once
/// stayed so: at 100 % load it refused 95 % of newcomers with one request each.
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
    /// For each policy, what a key begins with that is not in the table. What penalties keep comes after the policies and
    /// has none: strikes may be forgiven, and must not be held against newcomers, who did nothing.
    floors: Box<[u64]>,
}

/// A key that may be forgotten.
#[derive(Debug, Clone, Copy)]
struct Debtor {
    key: KeyHash,
    state: u64,
    /// When its debt will have run off.
    idle_at: u64,
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

    /// Room for `max_keys` keys in all, at least 1. Only the first `policies` have debts that are never forgiven.
    pub(crate) fn new(max_keys: usize, policies: usize, tallies: Arc<[Tally]>) -> Self {
        let count = Self::shard_count(max_keys);
        let shards = (0..count)
            .map(|shard| Shard {
                table: Table::default(),
                capacity: max_keys / count + usize::from(shard < max_keys % count),
                floors: vec![0; policies].into(),
            })
            .map(|shard| Aligned(RwLock::new(shard)))
            .collect();
        Self {
            shards,
            notes: Notes::new(tallies),
        }
    }

    pub(crate) fn peek(&self, key: KeyHash) -> u64 {
        let Some(shard) = self.shard(key) else {
            return 0;
        };
        let shard = read(shard);
        match shard.table.get(key) {
            Some(word) => word.get(),
            None => shard.unknown(key),
        }
    }

    pub(crate) fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> Verdict {
        let Some(shard) = self.shard(key) else {
            // Not reached: there is at least one shard, and their number is a power of two.
            return Verdict::DenyForever { state: 0 };
        };
        {
            let shard = read(shard);
            let word = shard.table.get(key);
            if let Some(verdict) = word.and_then(|word| word.charge(algorithm, cost, now)) {
                return verdict;
            }
        }
        // First sight, or so much coming and going that this thread never got in between.
        self.charge_alone(&mut write(shard), key, algorithm, cost, now, terms)
    }

    // Where it is called: what it decides is not written to memory then.
    #[inline(always)]
    pub(crate) fn charge_known(
        &self,
        key: KeyHash,
        algorithm: Algorithm,
        cost: u32,
        now: u64,
        holds: impl Fn() -> bool,
    ) -> Option<Verdict> {
        let shard = read(self.shard(key)?);
        // Asked under the lock, which whoever rewrites the states has to take after this or had before.
        let word = shard.table.get(key).filter(|_| holds())?;
        word.charge(&algorithm, cost, now)
    }

    pub(crate) fn lower(&self, key: KeyHash, change: &dyn Fn(u64) -> u64) -> bool {
        let Some(shard) = self.shard(key) else {
            return false;
        };
        let mut shard = write(shard);
        let word = shard.table.get_mut(key);
        word.map(|word| word.set(change(word.get()))).is_some()
    }

    pub(crate) fn reset(&self, key: KeyHash) -> bool {
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

    pub(crate) fn rewrite(
        &self,
        policy: usize,
        clock: &dyn Fn() -> u64,
        change: &dyn Fn(u64, u64) -> u64,
    ) {
        for shard in &self.shards {
            let mut shard = write(&shard.0);
            let now = clock();
            for word in shard.table.of_policy(policy) {
                word.set(change(word.get(), now));
            }
            if let Some(floor) = shard.floors.get_mut(policy) {
                *floor = change(*floor, now);
            }
        }
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.notes.take_changed()
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
    ) -> Verdict {
        if let Some(word) = shard.table.get_mut(key) {
            return word.charge_alone(algorithm, cost, now);
        }
        let verdict = algorithm.decide(shard.unknown(key), now, cost);
        if let Verdict::Allow { state } = verdict {
            self.take_in(shard, Debtor::new(key, state, terms), now, terms);
        }
        verdict
    }

    /// Finds a place for a newcomer, or forgets it at once.
    fn take_in(&self, shard: &mut Shard, newcomer: Debtor, now: u64, terms: &[Terms]) {
        if shard.table.len() >= shard.capacity {
            let forgotten = Self::make_room(shard, newcomer, now, terms);
            self.forgotten(shard, forgotten, now, terms);
            if forgotten.key == newcomer.key {
                return;
            }
            self.notes.take(forgotten.key, Tally::key_removed);
        } else {
            for _ in 0..Self::SWEEP {
                let is_idle = |key, state| Debtor::new(key, state, terms).idle_at <= now;
                if let Some((key, state)) = shard.table.sweep_one(is_idle) {
                    self.forgotten(shard, Debtor::new(key, state, terms), now, terms);
                    self.notes.take(key, Tally::key_removed);
                }
            }
        }
        let Debtor { key, state, .. } = newcomer;
        shard.table.insert(key, state, shard.capacity);
        self.notes.take(key, Tally::key_added);
    }

    /// Takes out the first key that nothing is lost with, or else of those looked at the one with the least strikes, or if
    /// there are none, with the least debt; unless that is the newcomer, which is not in the table. Says which.
    fn make_room(shard: &mut Shard, newcomer: Debtor, now: u64, terms: &[Terms]) -> Debtor {
        let mut least = newcomer;
        for _ in 0..Self::SWEEP_WHEN_FULL {
            let Shard { table, floors, .. } = shard;
            let swept = table.sweep_one(|key, state| {
                let debtor = Debtor::new(key, state, terms);
                if debtor.rank(floors) < least.rank(floors) {
                    least = debtor;
                }
                debtor.idle_at <= now || debtor.is_below(floors, terms)
            });
            if let Some((key, state)) = swept {
                return Debtor::new(key, state, terms);
            }
        }
        shard.table.remove(least.key);
        least
    }

    /// Sees to it that nothing is lost of what a key owes that is not in the table any more.
    fn forgotten(&self, shard: &mut Shard, debtor: Debtor, now: u64, terms: &[Terms]) {
        let policy = debtor.key.policy();
        if let (Some(floor), Some(terms)) = (shard.floors.get_mut(policy), terms.get(policy)) {
            *floor = terms.algorithm.later(*floor, debtor.state);
        }
        if debtor.idle_at > now {
            self.notes.overflowed(debtor.key);
        }
    }
}

impl Shard {
    /// The state that a key begins with that is not in the table.
    fn unknown(&self, key: KeyHash) -> u64 {
        self.floors.get(key.policy()).copied().unwrap_or(0)
    }
}

impl Debtor {
    fn new(key: KeyHash, state: u64, terms: &[Terms]) -> Self {
        let terms = terms.get(key.policy());
        Self {
            key,
            state,
            // A key of a policy that is not known goes last.
            idle_at: terms.map_or(u64::MAX, |terms| terms.algorithm.idle_at(state)),
        }
    }

    /// Strikes first: nobody pays for those that are forgotten, and they may last for much longer than debts.
    const fn rank(&self, floors: &[u64]) -> (bool, u64) {
        let is_debt = self.key.policy() < floors.len();
        (is_debt, self.idle_at)
    }

    /// Whether the key would begin with no less debt than it has, were it forgotten.
    fn is_below(&self, floors: &[u64], terms: &[Terms]) -> bool {
        let policy = self.key.policy();
        let both = floors.get(policy).zip(terms.get(policy));
        both.is_some_and(|(floor, terms)| terms.algorithm.later(*floor, self.state) == *floor)
    }
}

// A panic under these locks cannot leave a shard half changed in a way that matters (nothing in there calls foreign
// code), and a limiter that is poisoned would take the gateway down: go on.

#[inline(always)]
fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
