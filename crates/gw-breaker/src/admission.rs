use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_core::classify::Outcome;
use tokio::time::Instant;

use crate::breaker::Ended;
use crate::core::Core;
use crate::state::State;

/// A call that may be made. Say how it ended with [`Admission::record`].
///
/// # Cancel safety
///
/// Dropping it says that nothing is known of the call: it counts for nothing, and a probe gives its slot back.
#[must_use = "dropping it says that the call came to nothing"]
pub struct Admission {
    core: Arc<Core>,
    kind: Kind,
}

/// What an admission is for, and the generation it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counted(u64),
    Probe(u64),
    /// Of a probe: the head of its answer is there.
    Streaming(u64),
    Unobserved,
}

impl Admission {
    #[inline]
    pub(crate) fn counted(core: &Arc<Core>, generation: u64) -> Self {
        Self::new(Arc::clone(core), Kind::Counted(generation))
    }

    #[inline]
    pub(crate) const fn new(core: Arc<Core>, kind: Kind) -> Self {
        Self { core, kind }
    }

    /// Whether the call is a probe: what becomes of it decides whether the breaker closes.
    pub const fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe(_) | Kind::Streaming(_))
    }

    /// Whether a configured policy looks at how long calls take.
    pub fn judges_latency(&self) -> bool {
        self.core.judges_latency()
    }

    /// Says that the head of the answer is there and promises well, though the verdict comes with its end. A probe that
    /// goes on for longer than the half-open state may last then counts as a success.
    pub fn answered(&mut self) {
        if let Kind::Probe(generation) = self.kind {
            self.core.probe_answered(generation, Instant::now());
            self.kind = Kind::Streaming(generation);
        }
    }

    /// Says how the call ended, at `now`.
    pub fn record(self, ended: Ended, now: Instant) {
        self.end(ended, || now);
    }

    /// Says that the call went well, and that its latency does not matter. The clock is asked only if it does matter when
    /// a call ends: where rates are taken over a [`Window::Time`](crate::Window::Time), or the call is a probe.
    #[inline]
    pub fn succeed(self, now: impl Fn() -> Instant) {
        self.end(Ended::with(Outcome::Success), now);
    }

    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// As [`Admission::succeed`], written out where a request passes: most calls end so.
    #[inline(always)]
    pub(crate) fn succeed_at_once(self, now: impl Fn() -> Instant) {
        match self.kind {
            Kind::Counted(generation) => self.core.count_good(generation, now),
            _ => self.end(Ended::with(Outcome::Success), now),
        }
    }

    /// As [`Admission::record`]; the clock is asked only if that matters.
    #[inline]
    pub(crate) fn end(mut self, ended: Ended, now: impl Fn() -> Instant) {
        match std::mem::replace(&mut self.kind, Kind::Unobserved) {
            Kind::Counted(generation) => self.core.count(generation, ended, now),
            Kind::Probe(generation) => self.core.probe_ended(generation, false, ended, now()),
            Kind::Streaming(generation) => self.core.probe_ended(generation, true, ended, now()),
            Kind::Unobserved => {}
        }
    }

    #[cold]
    fn lost(&self, generation: u64, streamed: bool) {
        let nothing = Ended::with(Outcome::Ignored);
        self.core
            .probe_ended(generation, streamed, nothing, Instant::now());
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        match self.kind {
            Kind::Counted(_) | Kind::Unobserved => {}
            Kind::Probe(generation) => self.lost(generation, false),
            Kind::Streaming(generation) => self.lost(generation, true),
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("upstream", &self.core.hub.upstream)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// A call that should not be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// How long the breaker will stay open; zero if nobody knows, since it probes or lets a share pass.
    pub retry_after: Duration,
    /// Why: [`State::Open`], [`State::HalfOpen`], [`State::Ramping`] or [`State::ForcedOpen`].
    pub state: State,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the circuit breaker is {}", self.state.as_str())
    }
}

impl std::error::Error for Refused {}
