use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::counts::{Counts, Ledger};
use crate::telemetry;

/// What the protective rules do: suppression, shedding, the mark above which only audit records pass, and the guard
/// against amplification. Limits on sizes and the queue's own bounds hold in every mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// They are applied.
    #[default]
    Enforce,
    /// They decide and count in the metrics what they would have done, and everything passes.
    Shadow,
    /// They do nothing.
    Off,
}

/// The mode, switched by the handle and read by each request.
#[derive(Debug, Default)]
pub(super) struct ModeSwitch(AtomicU8);

impl ModeSwitch {
    pub(super) fn get(&self) -> Mode {
        // A mode stands alone: nothing is published with it.
        match self.0.load(Ordering::Relaxed) {
            0 => Mode::Enforce,
            1 => Mode::Shadow,
            _ => Mode::Off,
        }
    }

    /// Whether it changes.
    pub(super) fn set(&self, mode: Mode) -> bool {
        let code = match mode {
            Mode::Enforce => 0,
            Mode::Shadow => 1,
            Mode::Off => 2,
        };
        self.0.swap(code, Ordering::Relaxed) != code
    }
}

/// For whoever operates an intake. Clones are the same handle.
#[derive(Clone)]
pub struct IngestHandle {
    pub(super) ledger: Arc<Ledger>,
    pub(super) mode: Arc<ModeSwitch>,
}

/// How an intake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestSnapshot {
    /// What became of the events so far; the sums are right at any moment.
    pub counts: Counts,
    /// What the protective rules do.
    pub mode: Mode,
}

impl IngestHandle {
    /// How it stands.
    pub fn snapshot(&self) -> IngestSnapshot {
        IngestSnapshot {
            counts: self.ledger.counts(),
            mode: self.mode.get(),
        }
    }

    /// Changes what the protective rules do, from the next request on.
    pub fn set_mode(&self, mode: Mode) {
        if self.mode.set(mode) {
            telemetry::mode_changed(mode);
        }
    }
}

impl fmt::Debug for IngestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IngestHandle")
            .field(&self.snapshot())
            .finish()
    }
}
