use std::fmt;
use std::sync::Arc;

use gw_core::mode::SharedMode;
use gw_core::{ConfigError, Mode};

use super::config::{IngestLimits, Live};
use super::counts::{Counts, Ledger};
use crate::telemetry;

/// For whoever operates an intake. Clones are the same handle.
#[derive(Clone)]
pub struct IngestHandle {
    pub(super) ledger: Arc<Ledger>,
    pub(super) config: Arc<Live>,
    pub(super) mode: Arc<SharedMode>,
}

/// How an intake stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestSnapshot {
    /// What became of the events so far; the sums are right at any moment.
    pub counts: Counts,
    /// What the protective rules do.
    pub mode: Mode,
    /// What it bounds.
    pub limits: IngestLimits,
}

impl IngestHandle {
    /// How it stands.
    pub fn snapshot(&self) -> IngestSnapshot {
        IngestSnapshot {
            counts: self.ledger.counts(),
            mode: self.mode.get(),
            limits: self.config.get().limits,
        }
    }

    /// What the protective rules do.
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }

    /// Changes what the protective rules do, from the next request on.
    pub fn set_mode(&self, mode: Mode) {
        if self.mode.set(mode) {
            telemetry::mode_changed(mode);
        }
    }

    /// Changes what the intake bounds, from the next request on: take the limits of [`IngestHandle::snapshot`], and change what is
    /// to change.
    ///
    /// # Errors
    ///
    /// If a limit is out of its bounds; then nothing changes.
    pub fn set_limits(&self, limits: IngestLimits) -> Result<(), ConfigError> {
        self.config.set(limits)?;
        telemetry::limits_changed(&limits);
        Ok(())
    }
}

impl fmt::Debug for IngestHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IngestHandle")
            .field(&self.snapshot())
            .finish()
    }
}
