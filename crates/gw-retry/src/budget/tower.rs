use tokio::time::Instant;

use super::RatioBudget;

/// For tower's own retry layer, in place of its `TpsBudget`. It reads the clock by itself, where many
/// requests come not for each of them.
impl ::tower::retry::budget::Budget for RatioBudget {
    fn deposit(&self) {
        self.count_now();
    }

    fn withdraw(&self) -> bool {
        Self::withdraw(self, Instant::now()).is_some()
    }
}
