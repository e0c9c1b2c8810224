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

/// A gradient whose baseline is the median latency of 50 requests under a limit of 3, measured anew each minute.
#[derive(Debug, Clone, Default)]
pub(crate) struct ShutToMeasure {
    exact: f64,
    baseline: f64,
    measures: bool,
    next: std::time::Duration,
}

impl Algorithm for ShutToMeasure {
    fn name(&self) -> &'static str {
        "shut_to_measure"
    }

    fn update(&mut self, window: &Window) -> Next {
        if self.exact == 0.0 {
            self.exact = f64::from(window.limit);
        }
        let latency = window.latency.map(|latency| latency.as_secs_f64());
        match latency {
            Some(latency) if self.measures => {
                self.baseline = latency;
                self.measures = false;
                let minute = std::time::Duration::from_secs(60);
                self.next = window.at + minute.mul_f64(1.0 + 0.15 * window.jitter);
            }
            Some(latency) if self.baseline > 0.0 => {
                let gradient = (self.baseline * 1.25 / latency).clamp(0.5, 2.0);
                let limit = self.exact * gradient;
                self.exact = limit + limit.sqrt();
            }
            Some(_) | None => {}
        }
        self.exact = self
            .exact
            .clamp(f64::from(window.min), f64::from(window.max));
        if window.at >= self.next {
            self.measures = true;
            // Only when nothing is left of what was in flight before.
            let settling =
                std::time::Duration::try_from_secs_f64(latency.unwrap_or_default() * 3.0);
            return Next::limit(3)
                .after(50)
                .settling(settling.unwrap_or_default());
        }
        Next::limit(window.within(self.exact))
    }
}
