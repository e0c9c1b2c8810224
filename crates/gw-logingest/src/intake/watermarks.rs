use gw_core::ConfigError;

use crate::queue::{QueueState, QueueStatus};

/// From how full a queue on which events are held back, in percent of its bytes, or of its memory if that is the fuller: each 1 to 100,
/// and none below the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// Reports about failed uploads are suppressed. Default 50. They are as well while the sink is unhealthy.
    pub suppress_own: u8,
    /// Debug events are shed. Default 70.
    pub shed_debug: u8,
    /// Only audit records are taken. Default 95. A batch of other events counts with what is there, unless nothing waits.
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
        let filled = queue.filled();
        let reached = |percent| filled >= Self::mark(queue, percent);
        let failing = queue.state != QueueState::Serving;
        Regime {
            suppress_own: failing || !sink_healthy || reached(self.suppress_own),
            shed_debug: reached(self.shed_debug),
            audit_only: reached(self.audit_only),
        }
    }

    /// How much room must become free before the queue takes a batch of so many bytes that is not all audit records; 0 if it does now.
    ///
    /// With it the queue must stay below the mark, or one batch could use up what is kept for audit records. Where nothing waits
    /// to be delivered, coming back later is of no use: there only what is in the queue counts, so that a batch is not refused for
    /// ever that never fits below the mark.
    pub(super) fn excess(self, queue: &QueueStatus, batch: u64) -> u64 {
        let added = if queue.batches > 0 { batch } else { 0 };
        let filled = queue.filled();
        let least = filled.saturating_add(added).saturating_add(1);
        let excess = least.saturating_sub(Self::mark(queue, self.audit_only));
        // More than all of it cannot be delivered.
        excess.min(filled.max(1))
    }

    /// The bytes, or what is worth as much, from which on a queue is so many percent full.
    fn mark(queue: &QueueStatus, percent: u8) -> u64 {
        // In 128 bits, since a product of the two may not fit into 64.
        let mark = (u128::from(queue.capacity) * u128::from(percent)).div_ceil(100);
        u64::try_from(mark).unwrap_or(u64::MAX)
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

    /// Story: the memory for what is known of small batches filled long before the bytes, and nothing was held back.
    #[test]
    fn the_fuller_of_bytes_and_memory_counts() {
        let status = |bytes, memory| QueueStatus {
            bytes,
            capacity: 1_000_000,
            memory,
            max_memory: Some(1000),
            drain_rate: 10.0,
            batches: 1,
            ..QueueStatus::default()
        };
        let marks = Watermarks::default();
        let sheds = |bytes, memory| marks.regime(&status(bytes, memory), true).shed_debug;
        assert!(!sheds(0, 699) && !sheds(699_999, 699));
        assert!(sheds(0, 700) && sheds(700_000, 0));
        assert_eq!(marks.excess(&status(10_000, 940), 9_999), 0);
        // A tenth of the room is free once a tenth of what takes it is delivered.
        let full = status(10_000, 1000);
        assert_eq!(full.fullness(), 1.0);
        let excess = marks.excess(&full, 49_999);
        assert_eq!(excess, 100_000);
        assert_eq!(full.time_to_free(excess).as_secs(), 100);
        let full = status(1_000_000, 1000);
        assert_eq!(full.time_to_free(1_000).as_secs(), 100);
    }

    #[test]
    fn a_batch_counts_with_what_is_there_while_waiting_helps() {
        for (bytes, batches, batch, excess) in [
            (0, 0, 1000, 0),
            (949, 1, 0, 0),
            (900, 1, 49, 0),
            (900, 1, 50, 1),
            (900, 1, 149, 100),
            (950, 1, 0, 1),
            (950, 0, 0, 1),
            // Never below the mark: once all is delivered.
            (10, 1, 980, 10),
            (10, 0, 980, 0),
            (u64::MAX, 1, u64::MAX, u64::MAX - 950),
        ] {
            let status = QueueStatus {
                bytes,
                batches,
                capacity: 1000,
                ..QueueStatus::default()
            };
            let found = Watermarks::default().excess(&status, batch);
            assert_eq!(found, excess, "{bytes} {batches} {batch}");
        }
    }
}
