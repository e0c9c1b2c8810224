use std::error::Error;
use std::fmt;
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
    /// The queue stands, and it waited for longer than waiting is any use; see [`Codel`](crate::Codel).
    QueueDelay,
    /// It would not be done before its deadline.
    Deadline,
    /// Its client has as many requests in the lane as it may have.
    PerKey,
    /// The machine is loaded, and more critical requests come first; see [`Pressure`](crate::Pressure).
    Pressure,
}

impl Reason {
    pub(crate) const ALL: [Self; 9] = [
        Self::LaneFull,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Draining,
        Self::MaxHold,
        Self::QueueDelay,
        Self::Deadline,
        Self::PerKey,
        Self::Pressure,
    ];

    /// The word for it in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LaneFull => "lane_full",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Draining => "draining",
            Self::MaxHold => "max_hold",
            Self::QueueDelay => "queue_delay",
            Self::Deadline => "deadline",
            Self::PerKey => "per_key",
            Self::Pressure => "pressure",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by the lane: {}", self.reason)
    }
}

impl Error for Refusal {}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_an_error_that_says_why() {
        let refusal = Refusal::new(Reason::QueueFull, None);
        let error: Box<dyn Error + Send + Sync> = refusal.into();
        assert_eq!(error.to_string(), "refused by the lane: queue_full");
    }
}
