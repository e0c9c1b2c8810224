//! What has been changed, and is still to be told.

use std::sync::Arc;

use gw_core::Mode;

use crate::breaker::Breaker;
use crate::core::Core;
use crate::telemetry;
use crate::word::Word;

/// What a change of mode came to. It is to be told, once no lock is held: who listens may be foreign, and come back with
/// another change.
#[derive(Debug)]
#[must_use]
pub(crate) struct Switched {
    pub(crate) breaker: Breaker,
    /// Unless it was that before.
    pub(crate) mode: Option<Mode>,
    pub(crate) state: Option<(Word, Word)>,
}

/// What a new configuration came to, to be told likewise. What was in force before goes with it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Reconfigured {
    pub(crate) breaker: Breaker,
    pub(crate) _before: Arc<Core>,
}

impl Switched {
    pub(crate) fn tell(self) {
        let hub = &self.breaker.core().hub;
        if let Some((from, to)) = self.state {
            hub.changed(from, to);
        }
        if let Some(mode) = self.mode {
            telemetry::mode_changed(hub.upstream.as_str(), mode);
        }
    }
}

impl Reconfigured {
    pub(crate) fn tell(self) {
        telemetry::reconfigured(self.breaker.upstream().as_str());
    }
}
