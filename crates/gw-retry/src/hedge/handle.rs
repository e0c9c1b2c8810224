use std::sync::Arc;
use std::time::Duration;

use gw_core::Mode;

use super::layer::Shared;
use crate::sync::Ordering;
use crate::telemetry;

/// Reads and changes a running [`HedgeLayer`](super::HedgeLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct HedgeHandle {
    shared: Arc<Shared>,
}

impl HedgeHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// After how long a request is hedged now; `None` while too few answers tell.
    pub fn delay(&self) -> Option<Duration> {
        let shared = &self.shared;
        let percentile = shared.latency.quantile();
        percentile.map(|delay| delay.max(shared.min_delay))
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// What the layer does from now on.
    pub fn set_mode(&self, mode: Mode) {
        if self.shared.mode.set(mode) {
            telemetry::mode_changed("hedge", mode);
        }
    }

    /// Whether the layer's requests are counted in its budget, see
    /// [`HedgeBuilder::fills_budget`](super::HedgeBuilder::fills_budget).
    pub fn fills_budget(&self) -> bool {
        self.shared.fills_budget.load(Ordering::Relaxed)
    }

    /// Whether they are from now on. To go with [`RetryHandle::set_mode`](crate::RetryHandle::set_mode): a retry layer that is off
    /// counts no requests, so that hedges would soon have but the budget's minimum; one that is on counts them, and they must
    /// not be counted twice.
    pub fn set_fills_budget(&self, fills: bool) {
        self.shared.fills_budget.store(fills, Ordering::Relaxed);
    }
}
