use std::time::Duration;

use gw_core::Mode;
use gw_core::context::{Criticality, Lane};

use crate::limit::Report;
use crate::pressure::Load;

/// The state of all lanes at about one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the lanes do, unless one is milder.
    pub mode: Mode,
    /// Whether they refuse everybody, for good.
    pub draining: bool,
    /// How many places there are to lend: the most, where limits are found while running.
    pub total: u32,
    /// How many requests are in flight in all lanes.
    pub in_flight: u32,
    /// How loaded the machine is.
    pub load: Load,
    /// The lanes in the order in which they were declared.
    pub lanes: Vec<LaneSnapshot>,
}

/// The state of a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneSnapshot {
    /// Its name.
    pub name: Lane,
    /// What it does: its own mode or that of all lanes, whichever is milder.
    pub mode: Mode,
    /// How critical its requests are.
    pub criticality: Criticality,
    /// How many places are its own.
    pub guaranteed: u32,
    /// How many requests may be in flight now.
    pub limit: u32,
    /// How the limit is found; `None` if it is fixed.
    pub adaptive: Option<AdaptiveSnapshot>,
    /// How many are.
    pub in_flight: u32,
    /// How many wait.
    pub queued: u32,
    /// How many were ever admitted.
    pub admitted: u64,
    /// How many were ever refused.
    pub rejected: Rejections,
    /// The clients that it counts, if it does.
    pub per_key: Option<KeySnapshot>,
    /// How long almost all of its requests take, if it looks at deadlines and has seen enough.
    pub time_needed: Option<Duration>,
}

/// The clients of a lane that counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeySnapshot {
    /// How many requests each of them may have in flight and waiting.
    pub max: u32,
    /// How many of them have any.
    pub keys: usize,
    /// How many the busiest one has.
    pub busiest: u32,
}

/// How a lane's limit is found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AdaptiveSnapshot {
    /// The algorithm's name.
    pub algorithm: &'static str,
    /// The least that the limit may be.
    pub min: u32,
    /// The most that the limit may be.
    pub max: u32,
    /// How often it was decided upon.
    pub windows: u64,
    /// How many answers these decisions were based on.
    pub answered: u64,
    /// How many drops.
    pub dropped: u64,
    /// What the algorithm tells of itself.
    pub report: Report,
}

/// How many requests of a lane were ever refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rejections {
    /// No place was free, and the lane has no queue. In [`Mode::Shadow`] all that found no place.
    pub lane_full: u64,
    /// The queue was full.
    pub queue_full: u64,
    /// It took too long in the queue.
    pub queue_timeout: u64,
    /// The lanes drained.
    pub draining: u64,
    /// Admitted, and cut because it took too long. In [`Mode::Shadow`] all that took too long and
    /// were not counted when they came.
    pub max_hold: u64,
    /// It waited in a queue that stands.
    pub queue_delay: u64,
    /// It would not have been done before its deadline.
    pub deadline: u64,
    /// Its client had as many requests in the lane as it may have.
    pub per_key: u64,
    /// The machine was loaded.
    pub pressure: u64,
}

impl Rejections {
    /// All of them.
    pub const fn total(&self) -> u64 {
        self.lane_full
            + self.queue_full
            + self.queue_timeout
            + self.draining
            + self.max_hold
            + self.queue_delay
            + self.deadline
            + self.per_key
            + self.pressure
    }
}
