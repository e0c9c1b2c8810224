use std::fmt;
use std::time::Duration;

use gw_core::ConfigError;

/// Finds a lane's limit, a window of samples at a time. Plain data that decides: it is called with a lock held, and must
/// neither block nor call the lanes. It may be dropped as a thread ends, see [`AtHand`](gw_core::at_hand::AtHand).
pub trait Algorithm: fmt::Debug + Send + Sync + 'static {
    /// The word for it in snapshots.
    fn name(&self) -> &'static str;

    /// Whether its parameters are within their bounds.
    ///
    /// # Errors
    ///
    /// The field, and the rule that is broken.
    fn check(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// What follows from a window. A limit outside of the window's bounds is brought within them.
    fn update(&mut self, window: &Window) -> Next;

    /// What an operator may want to know of it.
    fn report(&self) -> Report {
        Report::default()
    }
}

/// How a request ended, as far as it says something about the limit. What says nothing is not recorded: a client that
/// went away, a refusal, a failure of another kind than being too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It was answered. The time it took is a sample.
    Answered,
    /// It was given up because it took too long, or those who serve it said that they are overloaded.
    Dropped,
}

/// The samples of a while, and what was in force.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Window {
    /// When it ended, since the lanes were made.
    pub at: Duration,
    /// How long it was.
    pub elapsed: Duration,
    /// The mean time to an answer; `None` if there was none.
    pub latency: Option<Duration>,
    /// How many requests were answered.
    pub answered: u32,
    /// How many were besides, of whose time nothing is known: the client was still sending, say. The latency is without them, and
    /// with these alone no window ends.
    pub untimed: u32,
    /// How many were dropped.
    pub dropped: u32,
    /// The most that were in flight at once.
    pub peak: u32,
    /// The limit in force.
    pub limit: u32,
    /// The least that the limit may be.
    pub min: u32,
    /// The most that the limit may be.
    pub max: u32,
    /// A random number from 0 to 1, so that many gateways do not do things at once.
    pub jitter: f64,
}

/// What follows from a [`Window`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    pub(crate) limit: u32,
    pub(crate) samples: u32,
    pub(crate) settling: Duration,
    pub(crate) lasting: Duration,
}

/// What an algorithm tells of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Report {
    /// The mean time to an answer lately.
    pub latency: Option<Duration>,
    /// What it takes for the time that an answer takes where nobody queues.
    pub baseline: Option<Duration>,
    /// By how much of itself the limit would be multiplied, in per cent: 100 where all is well.
    pub gradient_percent: Option<u32>,
    /// What it is about, in a word from a closed set.
    pub state: &'static str,
}

impl Window {
    /// A share of drops up to this says nothing: there is always something that fails whatever the load.
    pub const DROPS_TOLERATED: f64 = 0.01;

    /// Whether the limit was reached.
    pub const fn is_limited(&self) -> bool {
        self.peak >= self.limit
    }

    /// Whether so little of the limit was used that the window says nothing about it.
    pub const fn is_idle(&self) -> bool {
        self.peak < self.limit.div_ceil(2)
    }

    /// The share of requests that were dropped, from 0 to 1; 0 if it is no more than [`Window::DROPS_TOLERATED`].
    pub fn drops(&self) -> f64 {
        let answered = f64::from(self.answered) + f64::from(self.untimed);
        let all = answered + f64::from(self.dropped);
        let share = f64::from(self.dropped) / all.max(1.0);
        if share > Self::DROPS_TOLERATED {
            share
        } else {
            0.0
        }
    }

    /// `limit` in whole places within the window's bounds.
    pub fn within(&self, limit: f64) -> u32 {
        // Saturating, so the cast is whole where it is not within the bounds anyway.
        (limit as u32).min(self.max).max(self.min)
    }
}

impl Next {
    /// From now on this many may be in flight.
    pub const fn limit(limit: u32) -> Self {
        Self {
            limit,
            samples: 0,
            settling: Duration::ZERO,
            lasting: Duration::ZERO,
        }
    }

    /// The next window has at least this many samples, if that is more than usual.
    #[must_use]
    pub const fn after(mut self, samples: u32) -> Self {
        self.samples = samples;
        self
    }

    /// The next window is at least this long, if that is longer than usual.
    #[must_use]
    pub const fn lasting(mut self, length: Duration) -> Self {
        self.lasting = length;
        self
    }

    /// The next window begins after this time, in which nothing counts. So the limit does its work before it is judged;
    /// several times as long as an answer takes, and hardly any request is left of those that began under another one.
    #[must_use]
    pub const fn settling(mut self, time: Duration) -> Self {
        self.settling = time;
        self
    }
}

#[cfg(test)]
#[cfg(not(loom))]
impl Window {
    /// A second in which a full lane answered 100 requests.
    pub(super) fn full(limit: u32, latency: Duration) -> Self {
        Self {
            at: Duration::from_secs(1),
            elapsed: Duration::from_secs(1),
            latency: Some(latency),
            answered: 100,
            untimed: 0,
            dropped: 0,
            peak: limit,
            limit,
            min: 1,
            max: 1000,
            jitter: 0.5,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_a_window_says() {
        let mut window = Window::full(10, Duration::from_millis(5));
        assert!(window.is_limited() && !window.is_idle());
        window.peak = 5;
        assert!(!window.is_limited() && !window.is_idle());
        window.peak = 4;
        assert!(window.is_idle());
        window.dropped = 1;
        assert_eq!(window.drops(), 0.0);
        window.dropped = 100;
        assert_eq!(window.drops(), 0.5);
        window.untimed = 200;
        assert_eq!(window.drops(), 0.25);
        assert_eq!(window.within(0.3), 1);
        assert_eq!(window.within(7.9), 7);
        assert_eq!(window.within(f64::INFINITY), 1000);
        // One place in use of one is not idle.
        (window.limit, window.peak) = (1, 1);
        assert!(!window.is_idle());
    }
}
