use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::KeyHash;
use crate::tally::Tally;

/// What a store notes of the keys that come and go. It is told to others only when the store's locks are released.
#[derive(Debug)]
pub(super) struct Notes {
    tallies: Arc<[Tally]>,
    /// Whether something was noted since somebody asked.
    changed: AtomicBool,
}

impl Notes {
    pub(super) const fn new(tallies: Arc<[Tally]>) -> Self {
        Self {
            tallies,
            changed: AtomicBool::new(false),
        }
    }

    pub(super) fn take(&self, key: KeyHash, note: impl FnOnce(&Tally)) {
        if let Some(tally) = self.tallies.get(key.policy()) {
            note(tally);
            // After the note, so that who takes it down finds the note.
            self.changed.store(true, Ordering::Release);
        }
    }

    /// A key was forgotten in debt. There is nothing to tell of it but the first time.
    pub(super) fn overflowed(&self, key: KeyHash) {
        let tally = self.tallies.get(key.policy());
        if tally.is_some_and(Tally::overflowed) {
            self.changed.store(true, Ordering::Release);
        }
    }

    /// Whether there is something to announce in the tallies; says so to one who asks. Hardly ever true, and then only
    /// read.
    pub(super) fn take_changed(&self) -> bool {
        self.changed.load(Ordering::Relaxed) && self.changed.swap(false, Ordering::AcqRel)
    }

    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn tallies(&self) -> &[Tally] {
        &self.tallies
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_no_room_is_told_once() {
        let notes = Notes::new([Tally::new("p".into())].into_iter().collect());
        let key = KeyHash::new(0x100, 0);
        for first in [true, false] {
            notes.overflowed(key);
            assert_eq!(notes.take_changed(), first);
            notes.tallies().iter().for_each(Tally::announce);
        }
        assert_eq!(notes.tallies()[0].counts().overflowed, 2);
    }
}
