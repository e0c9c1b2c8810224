use std::sync::Arc;

use gw_core::Mode;
use gw_core::mode::SharedMode;

use crate::telemetry;

/// Reads and changes a running [`DeadlineLayer`](super::DeadlineLayer) or
/// [`AttemptTimeoutLayer`](super::AttemptTimeoutLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct TimeoutHandle {
    layer: &'static str,
    mode: Arc<SharedMode>,
}

impl TimeoutHandle {
    pub(super) const fn new(layer: &'static str, mode: Arc<SharedMode>) -> Self {
        Self { layer, mode }
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.mode.get()
    }

    /// What the layer does with the requests that come from now on. In shadow mode it counts what it would end, and neither
    /// sets a deadline nor tells the upstream of one.
    pub fn set_mode(&self, mode: Mode) {
        if self.mode.set(mode) {
            telemetry::mode_changed(self.layer, mode);
        }
    }
}
