use std::sync::Arc;

use gw_core::Mode;
use tokio::time::Instant;

use crate::budget::Budget;
use crate::layer::Shared;
use crate::policy::RetryPolicy;
use crate::telemetry;

/// Reads and changes a running [`RetryLayer`](crate::RetryLayer). Clones are the same handle.
#[derive(Debug, Clone)]
pub struct RetryHandle {
    shared: Arc<Shared>,
}

/// What a [`RetryHandle`] reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySnapshot {
    /// What the layer does.
    pub mode: Mode,
    /// How many retries its budget has left.
    pub budget_available: u64,
    /// How many bytes of request bodies its pool holds.
    pub replay_bytes: u64,
}

impl RetryHandle {
    pub(crate) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How things stand.
    pub fn snapshot(&self) -> RetrySnapshot {
        RetrySnapshot {
            mode: self.mode(),
            budget_available: self.shared.budget.available(Instant::now()),
            replay_bytes: self.shared.pool.used(),
        }
    }

    /// What the layer does.
    pub fn mode(&self) -> Mode {
        self.shared.mode.get()
    }

    /// What the layer does from now on, with the requests that are on their way as well. A retry that is waiting is sent all the same.
    pub fn set_mode(&self, mode: Mode) {
        if self.shared.mode.set(mode) {
            telemetry::mode_changed("retry", mode);
        }
    }

    /// What is sent again, for requests that carry no policy of their own.
    pub fn policy(&self) -> RetryPolicy {
        self.shared.policy.get()
    }

    /// What is sent again, for requests that begin from now on and carry no policy of their own. Of those that are on their way
    /// it says when they are sent again, and how often.
    pub fn set_policy(&self, policy: RetryPolicy) {
        self.shared.policy.set(policy);
        telemetry::policy_changed(self);
    }

    /// The layer's budget; it is changed there.
    pub fn budget(&self) -> &Budget {
        &self.shared.budget
    }
}
