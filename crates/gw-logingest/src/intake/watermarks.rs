use gw_core::ConfigError;

use crate::queue::{QueueState, QueueStatus};

/// From how full a queue on which events are held back, in percent of its bytes: each 1 to 100, and none below the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// Reports about failed uploads are suppressed. Default 50. They are as well while the sink is unhealthy.
    pub suppress_own: u8,
    /// Debug events are shed. Default 70.
    pub shed_debug: u8,
    /// Only audit records are taken. Default 95.
    pub audit_only: u8,
}

/// What is held back at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Regime {
    /// Reports about failed uploads are suppressed.
    pub suppress_own: bool,
    /// Debug events are shed.
    pub shed_debug: bool,
    /// Only audit records are taken.
    pub audit_only: bool,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self {
            suppress_own: 50,
            shed_debug: 70,
            audit_only: 95,
        }
    }
}

impl Watermarks {
    pub(super) fn check(self) -> Result<(), ConfigError> {
        let ordered = 0 < self.suppress_own
            && self.suppress_own <= self.shed_debug
            && self.shed_debug <= self.audit_only
            && self.audit_only <= 100;
        if ordered {
            Ok(())
        } else {
            Err(ConfigError::new(
                "watermarks",
                "must be 1 to 100 and not fall",
            ))
        }
    }

    /// What to hold back when the queue stands like this.
    pub fn regime(self, queue: &QueueStatus, sink_healthy: bool) -> Regime {
        let reached = |percent: u8| {
            // In 128 bits, since a product of the two may not fit into 64.
            u128::from(queue.bytes) * 100 >= u128::from(queue.capacity) * u128::from(percent)
        };
        let failing = queue.state != QueueState::Serving;
        Regime {
            suppress_own: failing || !sink_healthy || reached(self.suppress_own),
            shed_debug: reached(self.shed_debug),
            audit_only: reached(self.audit_only),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regime(bytes: u64, healthy: bool) -> (bool, bool, bool) {
        let status = QueueStatus {
            bytes,
            capacity: 1000,
            ..QueueStatus::default()
        };
        let regime = Watermarks::default().regime(&status, healthy);
        (regime.suppress_own, regime.shed_debug, regime.audit_only)
    }

    #[test]
    fn marks_are_reached_exactly() {
        assert_eq!(regime(499, true), (false, false, false));
        assert_eq!(regime(499, false), (true, false, false));
        assert_eq!(regime(500, true), (true, false, false));
        assert_eq!(regime(699, true), (true, false, false));
        assert_eq!(regime(700, true), (true, true, false));
        assert_eq!(regime(949, true), (true, true, false));
        assert_eq!(regime(950, true), (true, true, true));
        assert_eq!(regime(u64::MAX, true), (true, true, true));
    }
}
