use std::sync::Arc;
use std::time::Duration;

use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use super::layer::{Shared, extra_load, percentile};
use crate::telemetry;

/// Reads and changes a running [`HedgeLayer`](super::HedgeLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct HedgeHandle {
    shared: Arc<Shared>,
}

/// What a [`HedgeHandle`] reads.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct HedgeSnapshot {
    /// What the layer does.
    pub mode: Mode,
    /// After how long a request is hedged now; `None` while too few answers tell.
    pub delay: Option<Duration>,
    /// The part of the requests that take no longer than that.
    pub percentile: f64,
    /// The least that it can be.
    pub min_delay: Duration,
    /// The part of the requests that hedges may be.
    pub max_extra_load: f64,
    /// Whether the layer's requests are counted in its budget.
    pub fills_budget: bool,
}

impl HedgeHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// After how long a request is hedged now; `None` while too few answers tell, or none within the last minute.
    pub fn delay(&self) -> Option<Duration> {
        let known = self.shared.knows_delay(Instant::now());
        self.shared.delay().filter(|_| known)
    }

    /// How things stand.
    pub fn snapshot(&self) -> HedgeSnapshot {
        let shared = &self.shared;
        HedgeSnapshot {
            mode: self.mode(),
            delay: self.delay(),
            percentile: shared.latency.asked().as_f64(),
            min_delay: shared.min_delay(),
            max_extra_load: shared.extra.ratio(),
            fills_budget: self.fills_budget(),
        }
    }

    /// A request is hedged once it takes longer than this part of them, 0.5 to 0.9999. How long that is is worked out once a
    /// second.
    ///
    /// # Errors
    ///
    /// If it is out of its range; then nothing changes.
    pub fn set_percentile(&self, part: f64) -> Result<(), ConfigError> {
        self.shared.latency.ask(percentile(part)?);
        self.changed();
        Ok(())
    }

    /// Nothing is hedged earlier than this, for requests that begin from now on.
    pub fn set_min_delay(&self, delay: Duration) {
        self.shared.set_min_delay(delay);
        self.changed();
    }

    /// Hedges are at most this part of the requests that begin from now on, up to 1. What those before allow for stays for ten
    /// seconds, and so does what was taken of it.
    ///
    /// # Errors
    ///
    /// If it is out of its range; then nothing changes.
    pub fn set_max_extra_load(&self, ratio: f64) -> Result<(), ConfigError> {
        self.shared.extra.set_ratio(extra_load(ratio)?)?;
        self.changed();
        Ok(())
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// What the layer does from now on, with the requests that are on their way as well. A second copy that is on its way stays so.
    pub fn set_mode(&self, mode: Mode) {
        if self.shared.mode.set(mode) {
            telemetry::mode_changed("hedge", mode);
        }
    }

    /// Whether the layer's requests are counted in its budget, see
    /// [`HedgeBuilder::fills_budget`](super::HedgeBuilder::fills_budget).
    pub fn fills_budget(&self) -> bool {
        self.shared.fills_budget()
    }

    /// Whether they are from now on. To go with [`RetryHandle::set_mode`](crate::RetryHandle::set_mode): a retry layer that is off
    /// counts no requests, so that hedges would soon have but the budget's minimum; one that is on counts them, and they must
    /// not be counted twice.
    ///
    /// # Errors
    ///
    /// If the layer has no budget; then nothing changes.
    pub fn set_fills_budget(&self, fills: bool) -> Result<(), ConfigError> {
        self.shared.set_fills_budget(fills)
    }

    fn changed(&self) {
        telemetry::limits_changed("hedge", &self.snapshot());
    }
}
