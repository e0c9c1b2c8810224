use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Inner, Permit};
use crate::Mode;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The permits whose time is limited, by when it ends.
///
/// A body that nobody polls cannot watch a clock, and a layer must not spawn a task that does. So a limited permit
/// lies in here, and who holds it has only its key: the holder takes it out to give it back, and when a place is
/// needed, whoever needs it takes out those whose time is over. Both take it out under the lock, so each permit is
/// given back once. There is one entry per permit held, so there are never more than the lanes admit.
#[derive(Debug)]
pub(super) struct Holds {
    epoch: Instant,
    /// When the first hold ends, in nanoseconds since the epoch: what is asked most often needs no lock.
    next: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    permits: BTreeMap<Key, Arc<Permit>>,
    serial: u64,
}

type Key = (Instant, u64);

const NEVER: u64 = u64::MAX;

/// A permit with a time limit.
///
/// # Cancel safety
///
/// Dropping it gives the permit back, unless its time was over and somebody else has.
#[derive(Debug)]
pub(crate) struct TimedPermit {
    lanes: Arc<Inner>,
    key: Key,
}

impl Holds {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            next: AtomicU64::new(NEVER),
            entries: Mutex::new(Entries::default()),
        }
    }

    /// Gives back all permits whose time is over at `now`.
    pub(super) fn reap(&self, now: Instant) {
        if self.nanos(now) < self.next.load(Ordering::Acquire) {
            return;
        }
        let expired = {
            let mut entries = lock(&self.entries);
            let Entries { permits, .. } = &mut *entries;
            // The first one that is still good; serial numbers start at 1.
            let good = permits.split_off(&(now, u64::MAX));
            let expired = std::mem::replace(permits, good);
            self.note_first(permits);
            expired
        };
        // Without the lock: giving a permit back wakes whoever gets it.
        drop(expired);
    }

    /// When the first hold ends.
    pub(super) fn next(&self) -> Option<Instant> {
        let entries = lock(&self.entries);
        entries.permits.keys().next().map(|(until, _)| *until)
    }

    fn insert(&self, permit: Arc<Permit>, until: Instant) -> Key {
        let mut entries = lock(&self.entries);
        entries.serial += 1;
        let key = (until, entries.serial);
        entries.permits.insert(key, permit);
        self.note_first(&entries.permits);
        key
    }

    fn remove(&self, key: Key) -> Option<Arc<Permit>> {
        let mut entries = lock(&self.entries);
        let permit = entries.permits.remove(&key);
        self.note_first(&entries.permits);
        permit
    }

    /// Called with the lock held, so the last one to write has seen the newest entries.
    fn note_first(&self, permits: &BTreeMap<Key, Arc<Permit>>) {
        let next = permits
            .keys()
            .next()
            .map_or(NEVER, |(until, _)| self.nanos(*until));
        self.next.store(next, Ordering::Release);
    }

    fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(NEVER - 1)
    }
}

impl TimedPermit {
    /// Limits the time of `permit`.
    pub(crate) fn new(permit: Arc<Permit>, until: Instant) -> Self {
        let lanes = Arc::clone(&permit.lanes);
        let key = lanes.holds.insert(permit, until);
        Self { lanes, key }
    }

    /// When the time is over.
    pub(crate) const fn until(&self) -> Instant {
        self.key.0
    }

    /// Whether it is over at `now`, and time limits are enforced.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.until() <= now && self.lanes.mode() == Mode::Enforce
    }

    /// The permit without a limit; `None` if its time was over and it was needed.
    pub(crate) fn unlimited(self) -> Option<Arc<Permit>> {
        self.lanes.holds.remove(self.key)
    }
}

impl Drop for TimedPermit {
    fn drop(&mut self) {
        self.lanes.holds.remove(self.key);
    }
}
