//! The leases of an instance, in bounded memory.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::lease::Lease;

/// Leases by key. All memory is taken when it is built; a key is looked for in one set of eight places.
///
/// When all places of a set are taken by keys that hold cells, a newcomer gets none: it is decided on by asking, each
/// time. Of those that hold no cells, the one with the least debt gives way: what is forgotten is that asking for it
/// is in vain.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Mutex<Set>]>,
}

type Set = [Entry; Table::WAYS];

/// One key.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// 0 where there is none.
    digest: u128,
    pub(super) policy: u8,
    pub(super) lease: Lease,
    /// Whether a question is under way that leases cells for it. Others that ask meanwhile lease none.
    pub(super) fetching: bool,
}

impl Table {
    const WAYS: usize = 8;
    /// Some tens of microseconds of sets.
    const STRIDE: usize = 256;
    /// Kept below what `usize` holds on any platform, times the size of a set.
    pub(super) const MOST_KEYS: usize = 1 << 24;

    /// Room for this many keys at least.
    pub(super) fn new(keys: usize) -> Self {
        let sets = keys.div_ceil(Self::WAYS).max(1);
        Self {
            sets: (0..sets).map(|_| Mutex::default()).collect(),
        }
    }

    /// The key, if it is there.
    pub(super) fn known<R>(&self, digest: u128, look: impl FnOnce(&mut Entry) -> R) -> Option<R> {
        let mut set = self.set(digest)?;
        set.iter_mut()
            .find(|entry| entry.digest == digest)
            .map(look)
    }

    /// The key, which gets a place if there is one.
    pub(super) fn place<R>(
        &self,
        (digest, policy): (u128, u8),
        now: u64,
        look: impl FnOnce(&mut Entry) -> R,
    ) -> Option<R> {
        let mut set = self.set(digest)?;
        let at = set.iter().position(|entry| entry.digest == digest);
        let at = at.or_else(|| {
            let gives_way = |entry: &Entry| entry.lease.available(now) == 0 && !entry.fetching;
            let candidates = set.iter().enumerate().filter(|(_, entry)| gives_way(entry));
            candidates
                .min_by_key(|(_, entry)| (entry.digest != 0, entry.lease.known_tat()))
                .map(|(at, _)| at)
        })?;
        let entry = set.get_mut(at)?;
        if entry.digest != digest {
            *entry = Entry {
                digest,
                policy,
                ..Entry::default()
            };
        }
        Some(look(entry))
    }

    /// All keys, set by set.
    pub(super) fn each(&self, mut look: impl FnMut(u128, &mut Entry)) {
        self.sets.iter().for_each(|set| each_of(set, &mut look));
    }

    /// The same for tasks: with a pause after some sets each time, since there may be millions and others have to be served.
    pub(super) async fn walk(&self, mut look: impl FnMut(u128, &mut Entry)) {
        for (at, sets) in self.sets.chunks(Self::STRIDE).enumerate() {
            if at > 0 {
                tokio::task::yield_now().await;
            }
            sets.iter().for_each(|set| each_of(set, &mut look));
        }
    }

    fn set(&self, digest: u128) -> Option<MutexGuard<'_, Set>> {
        // The digest is a keyed hash, so any of its bits will do.
        let sets = u128::try_from(self.sets.len()).ok()?;
        let at = usize::try_from(digest.checked_rem(sets)?).ok()?;
        self.sets.get(at).map(lock)
    }
}

fn each_of(set: &Mutex<Set>, look: &mut impl FnMut(u128, &mut Entry)) {
    let mut set = lock(set);
    let held = set.iter_mut().filter(|entry| entry.digest != 0);
    held.for_each(|entry| look(entry.digest, entry));
}

// A panic under this lock cannot leave an entry half changed in a way that admits more: go on.
fn lock(set: &Mutex<Set>) -> MutexGuard<'_, Set> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;
    use crate::gcra::Gcra;
    use crate::quota::Quota;
    use crate::redis::lease::{Asked, Grant, Origin};

    #[test]
    fn a_key_takes_what_is_documented() {
        assert_eq!(size_of::<Mutex<Set>>() / Table::WAYS, 178);
    }

    /// Story: all keys were looked at without a pause, several times a second, in the runtime that accepts.
    #[test]
    fn who_looks_at_all_keys_lets_others_in_between() {
        let sets = 3 * Table::STRIDE + 1;
        let table = Table::new(Table::WAYS * sets);
        for digest in 1..=sets as u128 {
            assert!(table.place((digest, 0), 1, |_| ()).is_some());
        }
        let (seen, mut pauses) = (Cell::new(0), 0);
        let mut walk = pin!(table.walk(|_, _| seen.update(|seen| seen + 1)));
        let mut cx = Context::from_waker(Waker::noop());
        while walk.as_mut().poll(&mut cx).is_pending() {
            pauses += 1;
        }
        assert_eq!((seen.get(), pauses), (sets, 3));
    }

    #[test]
    fn who_holds_cells_keeps_its_place() {
        let (table, gcra) = (
            Table::new(8),
            Gcra::new(Quota::per_second(1).burst(100)).unwrap(),
        );
        let hold = |digest, leased| {
            table.place((digest, 0), 1, |entry| {
                let debt = u64::from(leased) * gcra.interval() + digest as u64;
                let clock = 0;
                let asked = Asked {
                    cost: 1,
                    extra: leased,
                    sent: 1,
                };
                let grant = Grant {
                    debt,
                    leased,
                    clock,
                    limited: false,
                    origin: Origin::default(),
                };
                entry.lease.told(&gcra, asked, grant, 1);
            })
        };
        for digest in 1..=6 {
            assert!(hold(digest, 5).is_some());
        }
        // Seven and eight hold nothing, and give way to newcomers, the one with the least debt first.
        assert!(hold(7, 0).is_some() && hold(8, 0).is_some() && hold(9, 0).is_some());
        let known = |digest| table.known(digest, |_| ()).is_some();
        assert!(!known(7) && known(8) && known(9));
        assert!(hold(10, 5).is_some() && hold(11, 5).is_some());
        assert!(!known(8) && !known(9));
        // No room is left, and nobody who holds cells loses them.
        assert!(hold(12, 5).is_none());
        for digest in [1, 2, 3, 4, 5, 6, 10, 11] {
            assert!(known(digest), "{digest}");
        }
        // Cells run off, and then their place is free.
        let later = 1_000 * gcra.interval();
        assert!(table.place((12, 0), later, |_| ()).is_some());
    }
}
