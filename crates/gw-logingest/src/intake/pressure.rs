use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the sink fares, told by the consumer and read by the intake. Clones are the same handle.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<AtomicBool>);

impl Pressure {
    /// A handle that says the sink is healthy.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether the sink takes what it is sent.
    pub fn set_sink_healthy(&self, healthy: bool) {
        // Nothing else is published by this flag, and acting on it a moment late is harmless.
        self.0.store(!healthy, Ordering::Relaxed);
    }

    /// What was said last.
    pub fn sink_healthy(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}
