use std::time::Duration;

use gw_core::ConfigError;

use super::{Algorithm, Next, Report, Window};

/// One more while all goes well, a tenth less when it does not: additive increase, multiplicative decrease.
///
/// It goes down when more than a hundredth of the requests of a window were dropped or, with [`Aimd::latency`], when
/// their mean latency is above the threshold. It goes up while at least half of the limit is used. It learns nothing, so
/// nothing that it learnt can be wrong: the choice for lanes whose right latency is known.
#[derive(Debug, Clone)]
pub struct Aimd {
    backoff: f64,
    latency: Option<Duration>,
    exact: f64,
    last: Option<Duration>,
    backed_off: bool,
}

impl Default for Aimd {
    fn default() -> Self {
        Self {
            backoff: 0.9,
            latency: None,
            exact: 0.0,
            last: None,
            backed_off: false,
        }
    }
}

impl Aimd {
    /// By what the limit is multiplied when it goes down: from 0.5 to 0.99, 0.9 by default.
    #[must_use]
    pub const fn backoff(mut self, factor: f64) -> Self {
        self.backoff = factor;
        self
    }

    /// The mean latency above which the limit goes down, above zero; none by default: only drops count.
    #[must_use]
    pub const fn latency(mut self, threshold: Duration) -> Self {
        self.latency = Some(threshold);
        self
    }
}

impl Algorithm for Aimd {
    fn name(&self) -> &'static str {
        "aimd"
    }

    fn check(&self) -> Result<(), ConfigError> {
        if !(0.5..=0.99).contains(&self.backoff) {
            let rule = "must be a number from 0.5 to 0.99";
            return Err(ConfigError::new("limit.backoff", rule));
        }
        if self.latency.is_some_and(|threshold| threshold.is_zero()) {
            return Err(ConfigError::new("limit.latency", "must be above zero"));
        }
        Ok(())
    }

    fn update(&mut self, window: &Window) -> Next {
        if self.exact as u32 != window.limit {
            // The first window, or the bounds were changed.
            self.exact = f64::from(window.limit);
        }
        self.last = window.latency;
        let slow = self.latency.zip(window.latency);
        self.backed_off =
            window.drops() > 0.0 || slow.is_some_and(|(threshold, latency)| latency > threshold);
        if self.backed_off {
            self.exact *= self.backoff;
        } else if !window.is_idle() {
            self.exact += 1.0;
        }
        self.exact = self
            .exact
            .clamp(f64::from(window.min), f64::from(window.max));
        Next::limit(window.within(self.exact))
    }

    fn report(&self) -> Report {
        Report {
            latency: self.last,
            state: if self.backed_off {
                "backing_off"
            } else {
                "steady"
            },
            ..Report::default()
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const FAST: Duration = Duration::from_millis(5);

    fn after(aimd: &mut Aimd, window: &Window) -> u32 {
        aimd.update(window).limit
    }

    #[test]
    fn goes_up_by_one_and_down_by_a_tenth() {
        let mut aimd = Aimd::default();
        let mut window = Window::full(20, FAST);
        assert_eq!(after(&mut aimd, &window), 21);
        (window.limit, window.dropped) = (21, 10);
        // 21 × 0.9 = 18.9
        assert_eq!(after(&mut aimd, &window), 18);
        (window.limit, window.dropped) = (18, 0);
        // The fraction is not lost.
        assert_eq!(after(&mut aimd, &window), 19);
        assert!((aimd.exact - 19.9).abs() < 1e-9);
    }

    #[test]
    fn stays_where_it_is_not_used_and_within_its_bounds() {
        let mut aimd = Aimd::default();
        let mut window = Window::full(20, FAST);
        window.peak = 9;
        assert_eq!(after(&mut aimd, &window), 20);
        (window.peak, window.max) = (20, 20);
        assert_eq!(after(&mut aimd, &window), 20);
        (window.min, window.dropped) = (20, 50);
        assert_eq!(after(&mut aimd, &window), 20);
    }

    #[test]
    fn a_threshold_for_the_latency() {
        let mut aimd = Aimd::default().latency(2 * FAST);
        assert_eq!(after(&mut aimd, &Window::full(20, 2 * FAST)), 21);
        assert_eq!(after(&mut aimd, &Window::full(21, 3 * FAST)), 18);
        assert_eq!(aimd.report().state, "backing_off");
        // Without any answer only drops are known.
        let mut window = Window::full(18, FAST);
        (window.latency, window.answered, window.dropped) = (None, 0, 10);
        assert_eq!(after(&mut aimd, &window), 17);
    }
}
