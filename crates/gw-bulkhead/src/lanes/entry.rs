use std::time::Duration;

use super::{Permit, Wait};

/// What became of a request that entered.
#[derive(Debug)]
pub enum Entry {
    /// It may run, and holds a place until the permit is dropped.
    Admitted(Permit),
    /// It waits for a place.
    Queued(Wait),
    /// It may not run.
    Refused(Refusal),
}

/// Why a request was refused, and when a place may be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    wait: Option<Duration>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No place is free, and the lane has no queue.
    LaneFull,
    /// No place is free, and neither is one in the queue.
    QueueFull,
    /// It waited for too long.
    QueueTimeout,
    /// The lanes drain.
    Draining,
    /// It ran for too long: not refused, but cut.
    MaxHold,
}

impl Reason {
    pub(crate) const ALL: [Self; 5] = [
        Self::LaneFull,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Draining,
        Self::MaxHold,
    ];

    /// The word for it in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LaneFull => "lane_full",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Draining => "draining",
            Self::MaxHold => "max_hold",
        }
    }
}

impl Refusal {
    pub(super) const fn new(reason: Reason, wait: Option<Duration>) -> Self {
        Self { reason, wait }
    }

    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// How long it may take until a place is free, by the rate at which the lane gave places back lately. At most 25
    /// seconds; `None` while the rate is not known.
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}
