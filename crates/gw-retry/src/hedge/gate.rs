use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::nanos;
use crate::sync::{AtomicU64, Ordering};

/// Says whether hedging makes sense now: a breaker that is not closed says no.
///
/// It is asked when a hedge is due, outside of any lock. A closure is one.
pub trait HedgeGate: Send + Sync {
    /// Whether a second copy may be sent.
    fn allows(&self) -> bool;
}

impl<F: Fn() -> bool + Send + Sync> HedgeGate for F {
    fn allows(&self) -> bool {
        self()
    }
}

/// Until when an upstream has asked for less.
#[derive(Debug)]
pub(super) struct Quiet {
    /// In nanoseconds since the start.
    until: AtomicU64,
    origin: Instant,
}

impl Quiet {
    /// For how long nothing is hedged if the upstream does not say.
    const SHORTEST: Duration = Duration::from_secs(1);
    /// However long it says: hedging is worth little, and so is believing too much.
    const LONGEST: Duration = Duration::from_secs(60);

    pub(super) fn new() -> Self {
        Self {
            until: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    pub(super) fn ask(&self, wait: Duration, now: Instant) {
        let wait = wait.clamp(Self::SHORTEST, Self::LONGEST);
        let until = nanos(now.saturating_duration_since(self.origin)).saturating_add(nanos(wait));
        self.until.fetch_max(until, Ordering::Relaxed);
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        nanos(now.saturating_duration_since(self.origin)) >= self.until.load(Ordering::Relaxed)
    }
}
