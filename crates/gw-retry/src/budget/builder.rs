use std::sync::Arc;
use std::time::Duration;

use gw_core::context::UpstreamName;
use gw_core::mode::SharedMode;
use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use super::active::ActiveShare;
use super::{Budget, RatioBudget, Shared};
use crate::ratio::Ratio;
use crate::sync::AtomicU64;
use crate::telemetry::BudgetMetrics;

/// Builds a [`Budget`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct BudgetBuilder {
    upstream: UpstreamName,
    ratio: Option<f64>,
    ttl: Option<Duration>,
    min_per_second: Option<u32>,
    active: Option<(f64, u32)>,
    mode: Mode,
}

impl BudgetBuilder {
    pub(super) fn new(upstream: impl Into<Arc<str>>) -> Self {
        Self {
            upstream: UpstreamName::new(upstream),
            ratio: None,
            ttl: None,
            min_per_second: None,
            active: None,
            mode: Mode::default(),
        }
    }

    /// Retries may be this part of the requests of the last [`ttl`](Self::ttl): 0.2 without further settings, 0 to 10.
    pub const fn ratio(mut self, ratio: f64) -> Self {
        self.ratio = Some(ratio);
        self
    }

    /// For how long a request allows for retries: 10 s unless set, 1 s to an hour. It is cut into ten slots.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Retries a second that may be sent however few requests there are: 10 unless set. Those of one second may be sent at
    /// once. They come on top of nothing: retries that the ratio allows for are counted as well. Those that are not sent after
    /// all are there again at once, but for what may have come back by itself since they were taken out.
    pub const fn min_per_second(mut self, min: u32) -> Self {
        self.min_per_second = Some(min);
        self
    }

    /// Retries on their way may be this part, 0 to 1, of all requests on their way, but always `min` of them. In addition to
    /// the ratio if one is set; in place of it if none is, and then there is no [`ttl`](Self::ttl) and no
    /// [`min_per_second`](Self::min_per_second) either. What is answered is on its way until the body has ended; hedges, and
    /// requests that are counted by a hedge layer, until the head.
    pub const fn share_of_active(mut self, share: f64, min: u32) -> Self {
        self.active = Some((share, min));
        self
    }

    /// What it does at first. In shadow mode it counts what it would not have allowed for, and allows for it; when it is off
    /// nothing bounds what is sent again but the number of attempts.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The budget.
    ///
    /// # Errors
    ///
    /// If a share or the ttl is out of its range, or is for a ratio that there is not.
    pub fn build(self) -> Result<Budget, ConfigError> {
        let ratio = match (self.ratio, self.active) {
            (None, Some(_)) => {
                let of_ratio = [
                    ("ttl", self.ttl.is_some()),
                    ("min_per_second", self.min_per_second.is_some()),
                ];
                if let Some((field, _)) = of_ratio.into_iter().find(|(_, is_set)| *is_set) {
                    let rule = "must go with a ratio where there is a share_of_active";
                    return Err(ConfigError::new(field, rule));
                }
                None
            }
            (ratio, _) => Some(RatioBudget::new(
                ratio.unwrap_or(RatioBudget::RATIO),
                self.ttl.unwrap_or(RatioBudget::TTL),
                self.min_per_second.unwrap_or(RatioBudget::MIN_PER_SECOND),
            )?),
        };
        let active = match self.active {
            None => None,
            Some((share, min)) => Some(ActiveShare::new(active_share(share)?, min)),
        };
        let budget = Budget(Arc::new(Shared {
            metrics: BudgetMetrics::new(&self.upstream),
            upstream: self.upstream,
            ratio,
            active,
            mode: SharedMode::new(self.mode),
            logged: AtomicU64::new(0),
            origin: Instant::now(),
        }));
        budget.warn_if_zero();
        Ok(budget)
    }
}

pub(super) fn active_share(share: f64) -> Result<Ratio, ConfigError> {
    Ratio::new(share, 1.0).ok_or(ConfigError::new("share_of_active", "must be from 0 to 1"))
}
