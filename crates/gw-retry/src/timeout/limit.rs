use std::time::Duration;

use gw_core::ConfigError;
use gw_core::context::Deadline;
use tokio::time::Instant;

use super::error::Timer;
use crate::backoff::nanos;
use crate::sync::{AtomicU64, Ordering};

/// When something ends, and by which timer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) due: Instant,
    pub(super) timer: Timer,
    /// It is the client that asks for no more.
    pub(super) by_client: bool,
}

impl Limit {
    pub(super) const fn of_deadline(deadline: Deadline) -> Self {
        Self {
            due: deadline.instant(),
            timer: Timer::Deadline,
            by_client: deadline.is_by_client(),
        }
    }

    /// So long after `now`; none if that is beyond what an instant can say.
    pub(super) fn after(now: Instant, limit: Option<Duration>, timer: Timer) -> Option<Self> {
        let due = now.checked_add(limit?)?;
        Some(Self {
            due,
            timer,
            by_client: false,
        })
    }

    /// The earliest; of those due together the first.
    pub(super) fn earliest(limits: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        limits.into_iter().flatten().min_by_key(|limit| limit.due)
    }

    pub(super) fn has_passed(self, now: Instant) -> bool {
        self.due <= now
    }
}

/// A limit that leaves time for anything at all.
pub(super) fn longer_than_zero(
    field: &'static str,
    limit: Duration,
) -> Result<Duration, ConfigError> {
    match limit.is_zero() {
        true => Err(ConfigError::new(field, "must be longer than zero")),
        false => Ok(limit),
    }
}

/// A limit that requests read while a handle changes it: in nanoseconds, and zero, which no limit is, for none.
#[derive(Debug, Default)]
pub(super) struct SharedLimit(AtomicU64);

impl SharedLimit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self(AtomicU64::new(limit.map_or(0, nanos)))
    }

    #[inline]
    pub(super) fn get(&self) -> Option<Duration> {
        // Relaxed: nothing else is published with it.
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            // Longer than can be said, and so as good as none.
            u64::MAX => Some(Duration::MAX),
            limit => Some(Duration::from_nanos(limit)),
        }
    }

    pub(super) fn set(&self, limit: Option<Duration>) {
        self.0.store(limit.map_or(0, nanos), Ordering::Relaxed);
    }
}
