use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether the gateway wants traffic. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// Where the gateway is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Not serving yet: the listeners are open, and what comes waits in their queues.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Asked to stop: still serving, and asking balancers to look elsewhere.
    Draining = 2,
}

impl Readiness {
    /// Moves on to `phase`; never back.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

impl Phase {
    /// The word for it in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}
