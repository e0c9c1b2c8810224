//! What the last calls have come to. Each count carries the generation it belongs to, so that a change of state forgets
//! them all at once.

mod buckets;
mod cell;
mod ring;

pub(crate) use self::buckets::Buckets;
pub(crate) use self::cell::Cell;
pub(crate) use self::ring::Ring;
use crate::config::Window;

/// What is counted of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) failed: bool,
    pub(crate) slow: bool,
}

/// What the calls in a window have come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) calls: u32,
    pub(crate) failed: u32,
    pub(crate) slow: u32,
}

#[derive(Debug)]
pub(crate) enum Windows {
    /// No rate is asked for.
    None,
    Calls(Ring),
    Time(Buckets),
}

impl Windows {
    pub(crate) fn new(window: Window) -> Self {
        match window {
            Window::Calls(calls) => Self::Calls(Ring::new(calls)),
            Window::Time(time) => Self::Time(Buckets::new(time)),
        }
    }

    /// Counts a call that ended at `now`.
    #[inline]
    pub(crate) fn add(&self, generation: u64, now: impl FnOnce() -> u64, call: Call) {
        match self {
            Self::None => {}
            Self::Calls(ring) => ring.add(generation, call),
            Self::Time(buckets) => buckets.add(generation, now(), call),
        }
    }

    /// What the calls of `generation` have come to at `now`.
    pub(crate) fn tally(&self, generation: u64, now: u64) -> Tally {
        match self {
            Self::None => Tally::default(),
            Self::Calls(ring) => ring.tally(generation),
            Self::Time(buckets) => buckets.tally(generation, now),
        }
    }
}
