use std::time::Duration;

use super::ladder::Ladder;

/// How late a task may be run before a runtime counts as loaded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LagThresholds {
    up: [Duration; 3],
}

impl LagThresholds {
    /// How often is looked.
    pub const INTERVAL: Duration = Duration::from_millis(20);
    /// So many looks in a row must agree: one task that computes for long is not load.
    pub const PATIENCE: u32 = 5;

    /// Elevated from 20 ms on, high from 50 ms on, extreme from 200 ms on.
    pub const fn new() -> Self {
        Self::at(
            Duration::from_millis(20),
            Duration::from_millis(50),
            Duration::from_millis(200),
        )
    }

    /// From when on the load is elevated, high and extreme. It falls again when tasks are run within half of that.
    /// Below some milliseconds timers are not exact.
    pub const fn at(elevated: Duration, high: Duration, extreme: Duration) -> Self {
        Self {
            up: [elevated, high, extreme],
        }
    }

    pub(super) fn ladder(self) -> Ladder {
        let [elevated, high, extreme] = self.up.map(|lag| lag.as_secs_f64());
        // However late tasks are, somebody must be let in to find out that they no longer are.
        let up = [elevated, high, extreme, f64::INFINITY];
        Ladder::new(up, up.map(|lag| lag / 2.0), Self::PATIENCE)
    }
}

impl Default for LagThresholds {
    fn default() -> Self {
        Self::new()
    }
}
