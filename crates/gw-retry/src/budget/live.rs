//! What an operator reads and changes of a budget while requests run.

use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use super::Budget;
use super::builder::active_share;
use crate::telemetry;

/// What [`Budget::snapshot`] reads.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BudgetSnapshot {
    /// What it does.
    pub mode: Mode,
    /// How many retries could be taken out now.
    pub available: u64,
    /// The part of the requests that retries may be, if it has such a ratio.
    pub ratio: Option<f64>,
    /// The retries a second that there always are, if it has a ratio.
    pub min_per_second: Option<u32>,
    /// The part of what is on its way that retries may be, and how many they always may be, if it has such a share.
    pub share_of_active: Option<(f64, u32)>,
}

impl Budget {
    /// How things stand.
    pub fn snapshot(&self) -> BudgetSnapshot {
        let (ratio, active) = (self.0.ratio.as_ref(), self.0.active.as_ref());
        BudgetSnapshot {
            mode: self.mode(),
            available: self.available(Instant::now()),
            ratio: ratio.map(|it| it.ratio()),
            min_per_second: ratio.map(|it| it.min_per_second()),
            share_of_active: active.map(|active| {
                let (share, min) = active.terms();
                (share.as_f64(), min)
            }),
        }
    }

    /// Retries may be this part of the requests from now on, 0 to 10. What requests have brought before and retries have taken
    /// stays as it is, until the ttl is over.
    ///
    /// # Errors
    ///
    /// If it is out of its range, or the budget was built without a ratio; then nothing changes.
    pub fn set_ratio(&self, ratio: f64) -> Result<(), ConfigError> {
        let budget = self.0.ratio.as_ref();
        budget.ok_or_else(|| absent("ratio"))?.set_ratio(ratio)?;
        self.changed();
        Ok(())
    }

    /// There are so many retries a second from now on however few requests there are. How long it takes for those to come back
    /// that have been taken of them stays as it is, a second at most.
    ///
    /// # Errors
    ///
    /// If the budget was built without a ratio; then nothing changes.
    pub fn set_min_per_second(&self, min: u32) -> Result<(), ConfigError> {
        let budget = self.0.ratio.as_ref();
        let budget = budget.ok_or_else(|| absent("min_per_second"))?;
        budget.set_min_per_second(min);
        self.changed();
        Ok(())
    }

    /// Retries on their way may be this part of all requests on their way from now on, but always `min` of them. Those that are
    /// on their way count.
    ///
    /// # Errors
    ///
    /// If the share is out of its range, or the budget was built without one; then nothing changes.
    pub fn set_share_of_active(&self, share: f64, min: u32) -> Result<(), ConfigError> {
        let active = self.0.active.as_ref();
        let active = active.ok_or_else(|| absent("share_of_active"))?;
        active.set(active_share(share)?, min);
        self.changed();
        Ok(())
    }

    fn changed(&self) {
        telemetry::budget_changed(self);
        self.warn_if_zero();
    }
}

fn absent(field: &'static str) -> ConfigError {
    ConfigError::new(field, "must be part of the budget since it was built")
}
