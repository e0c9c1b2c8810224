use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::limiter::Run;
use super::{Inner, LaneId};
use crate::limit::Outcome;

/// A place in a lane. Dropping it gives the place back and lets the next one that waits have it.
#[must_use = "dropping a permit gives the place back"]
pub struct Permit {
    pub(super) lanes: Arc<Inner>,
    lane: LaneId,
}

impl Permit {
    /// For a place that has just been taken in `lane`.
    pub(super) fn new(lanes: Arc<Inner>, lane: LaneId) -> Self {
        lanes.lane(lane).entered();
        Self { lanes, lane }
    }

    /// In nanoseconds since the lanes were made.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        self.lanes.holds.nanos(at)
    }

    /// Notes how its request ended.
    pub(crate) fn ended(&self, run: Run, outcome: Outcome) {
        self.lanes.ended(self.lane, run, outcome);
    }

    /// The lane.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.lanes.lane(self.lane).left();
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
