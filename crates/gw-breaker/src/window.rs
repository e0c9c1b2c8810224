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

impl Call {
    const GOOD: Self = Self {
        failed: false,
        slow: false,
    };
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
    pub(crate) fn add(&self, generation: u64, now: impl FnOnce() -> u64, call: Call) {
        match self {
            Self::None => {}
            Self::Calls(ring) => ring.add(generation, call),
            Self::Time(buckets) => buckets.add(generation, now(), call),
        }
    }

    /// As [`Windows::add`] with a call that neither failed nor was slow: most do neither. What is to be done is told here, and
    /// done apart, so that the way of a request stays short.
    #[inline(always)]
    pub(crate) fn add_good(&self, generation: u64, now: impl FnOnce() -> u64) {
        match self {
            Self::None => {}
            Self::Calls(ring) => ring.add_good(generation),
            Self::Time(buckets) => buckets.add_good(generation, now()),
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
