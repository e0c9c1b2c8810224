use std::time::Duration;

use tokio::time::Instant;

/// When a full table may be swept again: not at each request, or a flood of new keys would cost a walk each.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    last: Option<Instant>,
}

impl Sweep {
    /// What a table has not seen for so long goes with a sweep.
    pub(super) const FORGET_AFTER: Duration = Duration::from_secs(600);
    const EVERY: Duration = Duration::from_secs(10);

    /// Whether it is time; if so, it counts as done.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self
            .last
            .is_none_or(|last| now.saturating_duration_since(last) >= Self::EVERY);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// Whether what was last seen then has been idle for long enough to go.
    pub(super) fn is_idle(last: Instant, now: Instant) -> bool {
        now.saturating_duration_since(last) >= Self::FORGET_AFTER
    }
}
