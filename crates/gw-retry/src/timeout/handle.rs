use std::sync::Arc;
use std::time::Duration;

use gw_core::{ConfigError, Mode};

use super::attempt::{self, AttemptTimeouts};
use super::deadline;
use super::limit::longer_than_zero;
use crate::telemetry;

/// Reads and changes a running [`DeadlineLayer`](super::DeadlineLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct DeadlineHandle(pub(super) Arc<deadline::Live>);

/// What a [`DeadlineHandle`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlineSnapshot {
    /// What the layer does.
    pub mode: Mode,
    /// The most an exchange may take, if the layer has a limit of its own.
    pub limit: Option<Duration>,
}

impl DeadlineHandle {
    /// How things stand.
    pub fn snapshot(&self) -> DeadlineSnapshot {
        DeadlineSnapshot {
            mode: self.mode(),
            limit: self.0.limit.get(),
        }
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.0.mode.get()
    }

    /// What the layer does with the requests that come from now on. In shadow mode it counts what it would end, and sets no
    /// deadline.
    pub fn set_mode(&self, mode: Mode) {
        if self.0.mode.set(mode) {
            telemetry::mode_changed("deadline", mode);
        }
    }

    /// The most an exchange may take that begins from now on; none for no limit of the layer's own.
    ///
    /// # Errors
    ///
    /// If it is zero; then nothing changes.
    pub fn set_limit(&self, limit: Option<Duration>) -> Result<(), ConfigError> {
        let limit = limit.map(|limit| longer_than_zero("limit", limit));
        self.0.limit.set(limit.transpose()?);
        telemetry::limits_changed("deadline", &self.snapshot());
        Ok(())
    }
}

/// Reads and changes a running [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct AttemptTimeoutHandle(pub(super) Arc<attempt::Live>);

/// What an [`AttemptTimeoutHandle`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptTimeoutSnapshot {
    /// What the layer does.
    pub mode: Mode,
    /// The most an attempt may take up to the head of its answer. This and the other limits are those of attempts whose requests
    /// carry none of their own.
    pub attempt: Option<Duration>,
    /// The most the head of the answer may take, for a request without a body.
    pub first_byte: Option<Duration>,
    /// The longest gap between two frames of the answer.
    pub idle: Option<Duration>,
}

impl AttemptTimeoutHandle {
    /// How things stand.
    pub fn snapshot(&self) -> AttemptTimeoutSnapshot {
        let timeouts = self.timeouts();
        AttemptTimeoutSnapshot {
            mode: self.mode(),
            attempt: timeouts.attempt,
            first_byte: timeouts.first_byte,
            idle: timeouts.idle,
        }
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.0.mode.get()
    }

    /// What the layer does with the requests that come from now on. In shadow mode it counts what it would end, and tells the
    /// upstream of no time.
    pub fn set_mode(&self, mode: Mode) {
        if self.0.mode.set(mode) {
            telemetry::mode_changed("attempt_timeout", mode);
        }
    }

    /// The limits of attempts whose requests carry none of their own: to be given back with one of them changed.
    pub fn timeouts(&self) -> AttemptTimeouts {
        self.0.timeouts()
    }

    /// The limits of attempts that begin from now on, for requests that carry none of their own.
    pub fn set_timeouts(&self, timeouts: AttemptTimeouts) {
        self.0.set_timeouts(timeouts);
        telemetry::limits_changed("attempt_timeout", &self.snapshot());
    }
}
