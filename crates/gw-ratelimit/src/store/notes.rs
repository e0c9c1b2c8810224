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
