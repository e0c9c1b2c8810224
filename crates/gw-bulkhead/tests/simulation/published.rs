//! Algorithms as others published them, to run the same scenarios behind them. Written from their descriptions.

use gw_bulkhead::limit::{Algorithm, Next, Report, Window};

/// Gradient2 as it is described: the baseline is a moving mean of the latency itself, and the queue's room is added at any
/// gradient.
#[derive(Debug, Clone, Default)]
pub(crate) struct PublishedGradient2 {
    exact: f64,
    long: f64,
}

impl Algorithm for PublishedGradient2 {
    fn name(&self) -> &'static str {
        "published_gradient2"
    }

    fn update(&mut self, window: &Window) -> Next {
        if self.exact == 0.0 {
            self.exact = f64::from(window.limit);
        }
        if let Some(latency) = window.latency {
            let short = latency.as_secs_f64();
            if self.long == 0.0 {
                self.long = short;
            }
            self.long += (short - self.long) * 2.0 / 601.0;
            if self.long / short > 2.0 {
                self.long *= 0.95;
            }
            if !window.is_idle() {
                let gradient = (1.5 * self.long / short).clamp(0.5, 1.0);
                let wanted = self.exact * gradient + 4.0;
                self.exact += 0.2 * (wanted - self.exact);
            }
        }
        self.exact = self
            .exact
            .clamp(f64::from(window.min), f64::from(window.max));
        Next::limit(window.within(self.exact))
    }

    fn report(&self) -> Report {
        Report {
            baseline: std::time::Duration::try_from_secs_f64(self.long).ok(),
            ..Report::default()
        }
    }
}
