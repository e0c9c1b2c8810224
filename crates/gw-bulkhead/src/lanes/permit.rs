use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Inner, LaneId, LaneKey};

/// A place in a lane. Dropping it gives the place back and lets the next one that waits have it.
#[must_use = "dropping a permit gives the place back"]
pub struct Permit {
    pub(super) lanes: Arc<Inner>,
    lane: LaneId,
    stake: Stake,
}

/// What a request has of its lane beside its place. Whoever has one gives it back, see [`Inner::give_back`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stake {
    /// What it is counted under.
    pub(super) key: Option<LaneKey>,
    /// When it was admitted, if its lane wants to know how long it takes.
    pub(super) since: Option<Instant>,
}

impl Stake {
    const fn is_empty(&self) -> bool {
        self.key.is_none() && self.since.is_none()
    }
}

impl Permit {
    /// For a place that has just been taken in `lane`.
    pub(super) fn new(lanes: Arc<Inner>, lane: LaneId, stake: Stake) -> Self {
        lanes.lane(lane).entered();
        Self { lanes, lane, stake }
    }

    /// The lane.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lanes.lane(self.lane).left();
        if !self.stake.is_empty() {
            self.lanes.give_back(self.lane, self.stake);
        }
        self.lanes.release(self.lane);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("lane", &self.lanes.lane(self.lane).config.name())
            .finish()
    }
}
