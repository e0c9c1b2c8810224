use tokio::time::Instant;

use super::RatioBudget;

/// For tower's own retry layer, in place of its `TpsBudget`. It reads the clock for each call.
impl ::tower::retry::budget::Budget for RatioBudget {
    fn deposit(&self) {
        Self::deposit(self, Instant::now());
    }

    fn withdraw(&self) -> bool {
        Self::withdraw(self, Instant::now()).is_some()
    }
}
