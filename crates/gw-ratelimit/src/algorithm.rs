//! What a policy counts with: one of two algorithms, each of which keeps a key's state in one number.

use std::time::Duration;

use crate::config::ConfigError;
use crate::gcra::{self, Gcra};
use crate::quota::Quota;
use crate::verdict::{Balance, Verdict};
use crate::window::Window;

/// A quota as the numbers that decide. What a state means is known here and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Gcra(Gcra),
    Window(Window),
}

impl Algorithm {
    pub(crate) fn new(quota: Quota) -> Result<Self, ConfigError> {
        if !quota.is_sliding_window() {
            let gcra = Gcra::new(quota)?;
            if gcra.loses_of(quota) {
                const RULE: &str = "must be a cell in whole nanoseconds, or within a hundredth of it: all up to ten million a second are";
                return Err(ConfigError::new("rate", RULE));
            }
            return Ok(Self::Gcra(gcra));
        }
        if quota.explicit_burst().is_some() {
            const RULE: &str =
                "must not be set for a sliding window, all of which may come at once";
            return Err(ConfigError::new("burst", RULE));
        }
        Window::new(quota.cells(), quota.period()).map(Self::Window)
    }

    /// In two words, which together say which algorithm it is.
    pub(crate) const fn words(&self) -> [u64; 2] {
        match self {
            Self::Gcra(gcra) => [gcra.interval(), gcra.burst() as u64],
            Self::Window(window) => window.words(),
        }
    }

    /// The algorithm that was put into these words.
    pub(crate) const fn of_words(words: [u64; 2]) -> Self {
        match Window::of_words(words) {
            Some(window) => Self::Window(window),
            None => Self::Gcra(Gcra::of_words(words)),
        }
    }

    /// Decides on a request of `cost` cells at `now`. A cost of 0 always passes.
    #[inline(always)]
    pub(crate) fn decide(&self, state: u64, now: u64, cost: u32) -> Verdict {
        match self {
            Self::Gcra(gcra) => gcra.decide(state, now, cost),
            Self::Window(window) => window.decide(state, now, cost),
        }
    }

    pub(crate) fn balance(&self, state: u64, now: u64) -> Balance {
        match self {
            Self::Gcra(gcra) => gcra.balance(state, now),
            Self::Window(window) => window.balance(state, now),
        }
    }

    /// How many cells may come at once after a rest.
    pub(crate) const fn burst(&self) -> u32 {
        match self {
            Self::Gcra(gcra) => gcra.burst(),
            Self::Window(window) => window.limit(),
        }
    }

    /// The time that a burst is meant for: in which the rate wins it back, or the window.
    pub(crate) const fn burst_window(&self) -> Duration {
        Duration::from_nanos(match self {
            Self::Gcra(gcra) => gcra.tolerance(),
            Self::Window(window) => window.length(),
        })
    }

    /// Which share of the burst is spent, as a fraction.
    pub(crate) fn spent(&self, state: u64, now: u64) -> (u64, u64) {
        match self {
            Self::Gcra(gcra) => (state.saturating_sub(now), gcra.tolerance()),
            Self::Window(window) => (window.used(state, now).into(), window.limit().into()),
        }
    }

    /// How many cells of the burst are spent, rounded up.
    pub(crate) fn used(&self, state: u64, now: u64) -> u32 {
        match self {
            Self::Gcra(gcra) => gcra.used(state, now),
            Self::Window(window) => window.used(state, now),
        }
    }

    /// How many cells can be given back at `now` to a key of which no more is known: of a window, only what was charged
    /// in it.
    pub(crate) fn refundable(&self, state: u64, now: u64) -> u32 {
        match self {
            Self::Gcra(gcra) => gcra.used(state, now),
            Self::Window(window) => window.current(state, now),
        }
    }

    /// The same with room for twice as much at once: the most that is owed after charges that are not asked for.
    pub(crate) const fn with_double_burst(&self) -> Self {
        match self {
            Self::Gcra(gcra) => Self::Gcra(gcra.with_double_burst()),
            Self::Window(window) => Self::Window(window.with_double_limit()),
        }
    }

    /// What a charge would have led to that led to `after`, had so much (in what [`Algorithm::owed`] says) of what was
    /// charged before it not been charged.
    pub(crate) const fn without(&self, after: u64, owed: u64) -> u64 {
        match self {
            Self::Gcra(_) => after.saturating_sub(owed),
            // Windows count: what was charged before makes no difference to what a charge adds.
            Self::Window(_) => after,
        }
    }

    /// How much debt was there at `now` when a charge of `cost` cells was made that led to `after`: no more than that can be
    /// taken off below it.
    pub(crate) const fn stood_on(&self, after: u64, cost: u32, now: u64) -> u64 {
        match self {
            Self::Gcra(gcra) => after.saturating_sub(gcra.cost(cost)).saturating_sub(now),
            Self::Window(_) => 0,
        }
    }

    /// By how much a charge moves the state of a key that has debt, if that makes a difference to later ones.
    pub(crate) const fn owed(&self, cells: u32) -> u64 {
        match self {
            Self::Gcra(gcra) => gcra.cost(cells),
            Self::Window(_) => 0,
        }
    }

    /// Whether a charge that found the state `found` can be taken back as one with the charge that led to `after`.
    pub(crate) const fn follows(&self, after: u64, found: u64) -> bool {
        match self {
            Self::Gcra(_) => after == found,
            Self::Window(window) => window.is_same_window(after, found),
        }
    }

    /// From when on a key with this state is as one that was never seen.
    pub(crate) fn idle_at(&self, state: u64) -> u64 {
        match self {
            Self::Gcra(_) => state,
            Self::Window(window) => window.idle_at(state),
        }
    }

    /// The state of a key that is idle at `time`, and is not to be seen as any earlier.
    pub(crate) fn idle(&self, time: u64) -> u64 {
        match self {
            Self::Gcra(_) => time,
            Self::Window(window) => window.spent_at(time, 0),
        }
    }

    /// The later of two states: one with no less debt than either.
    pub(crate) fn later(&self, one: u64, other: u64) -> u64 {
        match self {
            Self::Gcra(_) => one.max(other),
            Self::Window(window) => window.later(one, other),
        }
    }

    /// Takes back a charge that led to the state `after` and may have been followed by others, none of them after
    /// `latest`.
    pub(crate) fn take_back(&self, state: u64, after: u64, cost: u32, latest: u64) -> u64 {
        match self {
            Self::Gcra(gcra) => gcra::take_back(state, after, gcra.cost(cost), latest),
            Self::Window(window) => window.take_back(state, after, cost),
        }
    }

    /// Whether a state made by `before` may hold more debt than this can mean, and for long.
    pub(crate) fn is_tighter_than(&self, before: &Self) -> bool {
        match (self, before) {
            (Self::Gcra(gcra), Self::Gcra(before)) => gcra.tolerance() < before.tolerance(),
            // What is counted in a window is gone two windows later, whatever the limit is now.
            _ => false,
        }
    }

    /// Cuts the debt to what this algorithm can mean.
    pub(crate) fn cut(&self, state: u64, now: u64) -> u64 {
        match self {
            Self::Gcra(gcra) => state.min(now.saturating_add(gcra.tolerance())),
            Self::Window(_) => state,
        }
    }

    /// Whether a state made by the other means the same here: it is a time, or it counts in the same windows.
    pub(crate) fn reads(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Gcra(_), Self::Gcra(_)) => true,
            (Self::Window(window), Self::Window(other)) => window.length() == other.length(),
            _ => false,
        }
    }

    /// The state for one made by another algorithm: what is spent of the old burst at `now`, rounded up, is spent of
    /// the new one, or all of it if that is less.
    pub(crate) fn translate(&self, from: &Self, state: u64, now: u64) -> u64 {
        let used = from.used(state, now).min(self.burst());
        match self {
            // Not seen as any earlier than by the other.
            _ if used == 0 => self.idle(from.idle_at(state).min(now)),
            Self::Gcra(gcra) => now.saturating_add(gcra.cost(used)),
            Self::Window(window) => window.spent_at(now, used),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
