use gw_core::context::{Criticality, Deadline};
use tokio::time::Instant;

use super::LaneKey;

/// A request that comes to a lane: when, and what else is known of it. An [`Instant`] is one of which nothing is known.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub(super) at: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) key: Option<LaneKey>,
    pub(super) criticality: Option<Criticality>,
    /// Whether how long it takes says nothing of others.
    pub(super) open_ended: bool,
}

impl Arrival {
    /// A request that comes now.
    pub const fn at(now: Instant) -> Self {
        Self {
            at: now,
            deadline: None,
            key: None,
            criticality: None,
            open_ended: false,
        }
    }

    /// When it must be done. It does not wait any longer than that; lanes that are [`deadline_aware`](crate::LaneConfig::deadline_aware)
    /// do not start it where that is too late.
    #[must_use]
    pub fn deadline(mut self, deadline: Deadline) -> Self {
        self.deadline = Some(deadline.instant());
        self
    }

    /// Whose it is, see [`Lanes::key`](crate::Lanes::key). Read by lanes that count [`per_key`](crate::LaneConfig::per_key).
    #[must_use]
    pub const fn key(mut self, key: LaneKey) -> Self {
        self.key = Some(key);
        self
    }

    /// How critical it is, if not as much as its lane. Decides who is shed under [`Pressure`](crate::Pressure).
    #[must_use]
    pub const fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = Some(criticality);
        self
    }
}

impl Arrival {
    /// It may become a connection that is open for as long as somebody likes.
    pub(crate) const fn open_ended(mut self) -> Self {
        self.open_ended = true;
        self
    }
}

impl From<Instant> for Arrival {
    fn from(now: Instant) -> Self {
        Self::at(now)
    }
}
