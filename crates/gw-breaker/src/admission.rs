use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use gw_core::awaited::Awaited;
use gw_core::classify::Outcome;
use tokio::time::Instant;

use crate::breaker::{Ended, Slow};
use crate::core::Core;
use crate::followed::Number;
use crate::state::State;

/// A call that may be made. Say how it ended with [`Admission::record`].
///
/// # Cancel safety
///
/// Dropping it says that nothing is known of the call: it counts for nothing, and a probe gives its slot back.
#[must_use = "dropping it says that the call came to nothing"]
pub struct Admission(Ticket);

/// Tells a breaker of a call, once. Dropping it tells nothing: who holds one [gives it back](Ticket::give_back).
pub(crate) struct Ticket {
    /// Nothing once the breaker was told.
    core: Option<Arc<Core>>,
    kind: Kind,
}

/// What an admission is for, and the generation it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Counted(u64),
    Probe(Probe),
    /// Of a probe: the head of its answer is there.
    Streaming(u64),
    Unobserved,
}

/// A probe that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) generation: u64,
    /// If it is told whom it waits for.
    pub(crate) followed: Option<Number>,
}

impl Admission {
    #[inline]
    pub(crate) const fn new(ticket: Ticket) -> Self {
        Self(ticket)
    }

    #[inline]
    pub(crate) fn into_ticket(mut self) -> Ticket {
        mem::replace(&mut self.0, Ticket::TOLD)
    }

    /// Whether the call is a probe: what becomes of it decides whether the breaker closes.
    pub const fn is_probe(&self) -> bool {
        self.0.is_probe()
    }

    /// Whether a configured policy looks at how long calls take.
    pub fn judges_latency(&self) -> bool {
        self.0.judges_latency()
    }

    /// Has a probe tell whom it waits for, by an [`Awaited`] of its own. A client that sends its request slowly, or a queue of the
    /// gateway's, then neither holds its slot for longer than probes are waited for nor has the breaker open again; and it
    /// counts all the same when it ends. Of two calls for one probe the second counts. For another call this does nothing.
    pub fn follow(&mut self, awaited: &Awaited) {
        self.0.follow(awaited);
    }

    /// Says that the head of the answer is there at `now` and promises well, though the verdict comes with its end. A probe
    /// that still goes on when probes are waited for no longer then counts as a success.
    pub fn answered(&mut self, now: Instant) {
        self.0.answered(|| now);
    }

    /// Says how the call ended, at `now`.
    pub fn record(mut self, ended: Ended, now: Instant) {
        self.0.tell(ended, || now);
    }

    /// Says that the call went well, and that its latency does not matter. The clock is asked only if it does matter when
    /// a call ends: where rates are taken over a [`Window::Time`](crate::Window::Time), or the call is a probe.
    #[inline]
    pub fn succeed(self, now: impl Fn() -> Instant) {
        self.into_ticket().tell_success(now);
    }
}

impl Drop for Admission {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_told() {
            self.0.give_back();
        }
    }
}

impl Ticket {
    /// Of which no breaker waits to hear.
    pub(crate) const TOLD: Self = Self {
        core: None,
        kind: Kind::Unobserved,
    };

    #[inline]
    pub(crate) fn counted(core: &Arc<Core>, generation: u64) -> Self {
        Self::new(core.lend(), Kind::Counted(generation))
    }

    #[inline]
    pub(crate) const fn new(core: Arc<Core>, kind: Kind) -> Self {
        let core = Some(core);
        Self { core, kind }
    }

    #[inline]
    pub(crate) const fn is_told(&self) -> bool {
        self.core.is_none()
    }

    pub(crate) const fn is_probe(&self) -> bool {
        matches!(self.kind, Kind::Probe(_) | Kind::Streaming(_))
    }

    #[inline]
    pub(crate) fn judges_latency(&self) -> bool {
        let core = self.core.as_deref();
        core.is_some_and(Core::judges_latency)
    }

    pub(crate) fn is_slow(&self, slow: Slow) -> bool {
        let core = self.core.as_deref();
        core.is_some_and(|core| core.is_slow(slow))
    }

    /// See [`Admission::follow`].
    pub(crate) fn follow(&mut self, awaited: &Awaited) {
        if let (Some(core), Kind::Probe(probe)) = (&self.core, &mut self.kind) {
            probe.followed = Some(core.follow(*probe, awaited));
        }
    }

    /// See [`Admission::answered`]. The clock is asked only for a probe.
    #[inline]
    pub(crate) fn answered(&mut self, now: impl Fn() -> Instant) {
        if let (Some(core), Kind::Probe(probe)) = (&self.core, self.kind)
            && core.probe_answered(probe, now())
        {
            self.kind = Kind::Streaming(probe.generation);
        }
    }

    /// See [`Admission::succeed`]. Written out where a request passes: most calls end so.
    #[inline(always)]
    pub(crate) fn tell_success(&mut self, now: impl Fn() -> Instant) {
        let Some(core) = self.core.take() else {
            return;
        };
        match self.kind {
            Kind::Counted(generation) => core.count_good(generation, now),
            kind => core.ended(kind, Ended::with(Outcome::Success), now),
        }
        core.take_back();
    }

    /// Says that the call goes on and that it went well so far, after a slow head or not. That ends a row of failures; it is counted
    /// when it ends. Of a probe it is the verdict.
    pub(crate) fn goes_on_well(&mut self, slow: bool, now: Instant) {
        match (&self.core, self.kind) {
            (Some(core), Kind::Counted(generation)) => core.end_row(generation),
            _ => self.tell(Ended::with(Outcome::Success).slow(slow), || now),
        }
    }

    /// See [`Admission::record`]. The clock is asked only if that matters.
    #[inline(never)]
    pub(crate) fn tell(&mut self, ended: Ended, now: impl Fn() -> Instant) {
        if let Some(core) = self.core.take() {
            core.ended(self.kind, ended, now);
            core.take_back();
        }
    }

    /// Says that nothing is known of the call, if nothing was said of it.
    #[cold]
    pub(crate) fn give_back(&mut self) {
        if !self.is_told() && self.is_probe() {
            self.tell(Ended::with(Outcome::Ignored), Instant::now);
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("upstream", &self.core.as_deref().map(Core::upstream))
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
