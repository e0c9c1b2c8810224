use std::sync::Arc;

use super::KeyHash;
use super::notes::Notes;
use super::set::{Seat, Set, TICK};
use crate::algorithm::Algorithm;
use crate::sync::Mutex;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// A fixed number of sets for each policy, eight bytes a key; nothing is allocated after it was made.
///
/// It holds TATs only: the limiter builds no policy on it that counts in another way.
#[derive(Debug)]
pub(crate) struct Compact {
    /// By policy.
    tables: Box<[Box<[Set]>]>,
    /// For newcomers. Each is for many sets, so that they take little memory.
    locks: Box<[Lock]>,
    notes: Notes,
}

/// A lock to a cache line (two: processors fetch them in pairs), or threads would slow one another down.
#[derive(Debug)]
#[repr(align(128))]
struct Lock(Mutex<()>);

/// Where a key is to be found.
#[derive(Debug, Clone, Copy)]
struct Spot<'a> {
    set: &'a Set,
    fingerprint: u16,
    lock: &'a Mutex<()>,
}

impl Compact {
    /// The intervals of what is counted here must be whole ticks.
    pub(crate) const TICK: u64 = TICK;
    /// For a few more threads than processors of large machines.
    const LOCKS: usize = 64;

    /// Room for at least so many keys of each policy, at least 1.
    pub(crate) fn new(keys: usize, tallies: Arc<[Tally]>) -> Self {
        let table = |_: &Tally| (0..keys.div_ceil(Set::SLOTS)).map(|_| Set::new()).collect();
        Self {
            tables: tallies.iter().map(table).collect(),
            locks: (0..Self::LOCKS).map(|_| Lock(Mutex::new(()))).collect(),
            notes: Notes::new(tallies),
        }
    }

    pub(crate) fn take_changed(&self) -> bool {
        self.notes.take_changed()
    }

    /// The state of a key, if it has a place.
    pub(crate) fn peek_own(&self, key: KeyHash) -> u64 {
        let spot = self.spot(key);
        spot.map_or(0, |spot| spot.set.peek_own(spot.fingerprint))
    }

    pub(crate) fn peek(&self, key: KeyHash) -> u64 {
        self.spot(key)
            .map_or(0, |spot| spot.set.peek(spot.fingerprint))
    }

    pub(crate) fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
    ) -> Verdict {
        let (Algorithm::Gcra(gcra), Some(spot)) = (algorithm, self.spot(key)) else {
            // Not reached: each policy has sets, and counts by rate.
            return Verdict::DenyForever { state: 0 };
        };
        let (verdict, seat) = spot
            .set
            .charge(spot.fingerprint, gcra, cost, now, spot.lock);
        match seat {
            Some(Seat::Own | Seat::Idle) | None => {}
            Some(Seat::Free) => self.notes.take(key, Tally::key_added),
            Some(Seat::Indebted) => self.notes.overflowed(key),
        }
        verdict
    }

    #[inline(never)]
    pub(crate) fn charge_known(
        &self,
        key: KeyHash,
        algorithm: Algorithm,
        cost: u32,
        now: u64,
        holds: impl Fn() -> bool,
    ) -> Option<Verdict> {
        let Algorithm::Gcra(gcra) = algorithm else {
            return None;
        };
        let (set, _) = self.set(key)?;
        if !holds() {
            return None;
        }
        set.charge_own(fingerprint(key), &gcra, cost, now)
    }

    pub(crate) fn lower(&self, key: KeyHash, change: &dyn Fn(u64) -> u64) -> bool {
        let lower = |spot: Spot<'_>| spot.set.lower(spot.fingerprint, spot.lock, change);
        self.spot(key).is_some_and(lower)
    }

    pub(crate) fn reset(&self, key: KeyHash) -> bool {
        let removed = self
            .spot(key)
            .and_then(|spot| spot.set.remove(spot.fingerprint, spot.lock));
        if removed == Some(true) {
            self.notes.take(key, Tally::key_removed);
        }
        removed.is_some()
    }

    pub(crate) fn rewrite(
        &self,
        policy: usize,
        clock: &dyn Fn() -> u64,
        change: &dyn Fn(u64, u64) -> u64,
    ) {
        let sets = self.tables.get(policy).into_iter().flatten();
        for (index, set) in sets.enumerate() {
            if let Some(lock) = self.lock(index) {
                set.rewrite(lock, clock, change);
            }
        }
    }

    fn spot(&self, key: KeyHash) -> Option<Spot<'_>> {
        let (set, index) = self.set(key)?;
        Some(Spot {
            set,
            fingerprint: fingerprint(key),
            lock: self.lock(index)?,
        })
    }

    /// The set is chosen by high bits, the fingerprint is made of low ones.
    fn set(&self, key: KeyHash) -> Option<(&Set, usize)> {
        let sets = self.tables.get(key.policy())?;
        let index = (u128::from(key.bits()) * sets.len() as u128) >> 64;
        let index = index as usize;
        Some((sets.get(index)?, index))
    }

    fn lock(&self, set: usize) -> Option<&Mutex<()>> {
        self.locks.get(set % Self::LOCKS).map(|lock| &lock.0)
    }
}

/// Not 0, which free slots have.
fn fingerprint(key: KeyHash) -> u16 {
    (key.spread() as u16).max(1)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
