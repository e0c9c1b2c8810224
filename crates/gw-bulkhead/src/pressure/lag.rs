use std::time::Duration;

use gw_core::ConfigError;

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

    /// The least that is load: timers are exact to a millisecond or two, and the load falls at half of this.
    pub const LEAST: Duration = Duration::from_millis(5);

    /// Elevated from 20 ms on, high from 50 ms on, extreme from 200 ms on.
    pub const fn new() -> Self {
        Self {
            up: [
                Duration::from_millis(20),
                Duration::from_millis(50),
                Duration::from_millis(200),
            ],
        }
    }

    /// From when on the load is elevated, high and extreme: at least [`LagThresholds::LEAST`], and none below the one before
    /// it. The load falls again when tasks are run within half of that.
    ///
    /// # Errors
    ///
    /// The one that breaks this rule.
    pub fn at(elevated: Duration, high: Duration, extreme: Duration) -> Result<Self, ConfigError> {
        let wrong = |field, rule| Err(ConfigError::new(field, rule));
        if elevated < Self::LEAST {
            return wrong("lag.elevated", "must be at least 5 ms");
        }
        if high < elevated {
            return wrong("lag.high", "must be at least `elevated`");
        }
        if extreme < high {
            return wrong("lag.extreme", "must be at least `high`");
        }
        Ok(Self {
            up: [elevated, high, extreme],
        })
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

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn what_the_load_could_not_fall_below_is_refused() {
        let at = |[elevated, high, extreme]: [u64; 3]| {
            let millis = Duration::from_millis;
            LagThresholds::at(millis(elevated), millis(high), millis(extreme))
        };
        for (millis, message) in [
            ([0, 0, 0], "lag.elevated: must be at least 5 ms"),
            ([4, 50, 200], "lag.elevated: must be at least 5 ms"),
            ([20, 19, 200], "lag.high: must be at least `elevated`"),
            ([20, 50, 49], "lag.extreme: must be at least `high`"),
        ] {
            assert_eq!(at(millis).unwrap_err().to_string(), message);
        }
        assert!(at([5, 5, 5]).is_ok());
        assert_eq!(at([20, 50, 200]), Ok(LagThresholds::new()));
    }
}
