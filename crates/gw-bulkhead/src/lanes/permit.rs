use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "threads")]
use gw_core::Mode;
use gw_core::at_hand::Lent;
use tokio::time::Instant;

use super::limiter::Run;
use super::state::LaneState;
use super::{Inner, LaneId, LaneKey};
#[cfg(feature = "threads")]
use super::{Reason, Refusal};
use crate::lane::{Hold, Sample};
use crate::limit::Outcome;

/// A place in a lane. Dropping it gives the place back and lets the next one that waits have it.
#[must_use = "dropping a permit gives the place back"]
pub struct Permit {
    pub(super) lanes: Lent<Inner>,
    lane: LaneId,
    // Not as one value: in a row the fields are no larger than a key, and a permit is moved several times a request.
    key: Option<LaneKey>,
    since: Ticks,
    /// What the lane says of it, since this is at hand where the lane is not.
    hold: Hold,
    minds_time: bool,
    /// Whether its request would have been refused if the lane were not only tried out. It was counted so, and is not again.
    pub(super) shadowed: bool,
}

/// What a request has of its lane beside its place. Whoever has one gives it back, see [`Inner::give_back`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stake {
    /// What it is counted under.
    pub(super) key: Option<LaneKey>,
    /// When it was admitted, if its lane wants to know how long it takes.
    pub(super) since: Ticks,
}

/// A time in units of 16 µs, which start anew every 19 hours; 0 is none. Of a request that takes more than half of that
/// nothing is seen, or only what goes beyond all of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ticks(u32);

impl Ticks {
    const NANOS: u64 = 1 << 14;

    /// A time in nanoseconds since the lanes were made.
    pub(super) const fn at(nanos: u64) -> Self {
        Self(((nanos / Self::NANOS) as u32).saturating_add(1))
    }

    pub(super) const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// How long ago it was at `now`.
    pub(super) const fn until(self, now: Self) -> Duration {
        let ticks = now.0.wrapping_sub(self.0);
        // Half of all is in the past, the other half in the future.
        let ticks = if ticks > u32::MAX / 2 { 0 } else { ticks };
        Duration::from_nanos(ticks as u64 * Self::NANOS)
    }
}

impl Permit {
    /// For a place that has just been taken in `lane`, which is `state`.
    #[inline]
    pub(super) fn new(lanes: &Arc<Inner>, lane: LaneId, state: &LaneState, stake: Stake) -> Self {
        state.entered();
        let Stake { key, since } = stake;
        let (hold, minds_time) = (state.hold, state.minds_time);
        Self {
            lanes: Lent::new(lanes),
            lane,
            key,
            since,
            hold,
            minds_time,
            shadowed: false,
        }
    }

    /// In nanoseconds since the lanes were made.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        self.lanes.holds.nanos(at)
    }

    /// Notes how its request ended.
    pub(crate) fn ended(&self, run: Run, outcome: Outcome) {
        self.lanes.ended(self.lane, run, outcome);
    }

    /// What its lane's limit is found by.
    pub(crate) fn sample(&self) -> Sample {
        self.lanes.lane(self.lane).config.sample
    }

    /// Until when its request holds it.
    pub(crate) const fn hold(&self) -> Hold {
        self.hold
    }

    /// Whether how long its request takes changes anything: there is a limit to it, or one is found by it.
    pub(crate) const fn minds_time(&self) -> bool {
        self.minds_time
    }

    /// Refuses its request after all, before it was started. Where that is only tried out it is counted.
    #[cfg(feature = "threads")]
    pub(crate) fn refuse(&self, reason: Reason, now: Instant) -> Option<Refusal> {
        match self.lanes.mode_of(self.lane) {
            Mode::Enforce => return Some(self.lanes.refuse(self.lane, reason, now)),
            Mode::Shadow if !self.shadowed => self.lanes.would_refuse(self.lane, reason, now),
            Mode::Shadow | Mode::Off => {}
        }
        None
    }

    /// The lane.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }
}

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.lanes.lane(self.lane).left();
        if self.key.is_some() || !self.since.is_none() {
            let (key, since) = (self.key, self.since);
            self.lanes.give_back(self.lane, Stake { key, since });
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
