//! Waiting for shared state to become so, without polling it.

use tokio::sync::Notify;

/// Wakes those who wait for a condition over state that others change.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    changed: Notify,
}

impl Signal {
    /// Tells all waiters to look again. Call it after the change is visible.
    pub(crate) fn changed(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until `look` returns something. Cancel safe.
    pub(crate) async fn until<T>(&self, mut look: impl FnMut() -> Option<T>) -> T {
        loop {
            // Made before the look: `notify_waiters` reaches every `Notified` that exists, polled or not, so a
            // change between the look and the await is not lost.
            let changed = self.changed.notified();
            if let Some(found) = look() {
                return found;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::patience::within;

    #[tokio::test(start_paused = true)]
    async fn one_change_reaches_all_who_wait() {
        let (signal, so) = (Signal::default(), AtomicBool::new(false));
        let wait = || signal.until(|| so.load(Ordering::SeqCst).then_some(()));
        let change = async {
            so.store(true, Ordering::SeqCst);
            signal.changed();
        };
        within("both waiters", async {
            tokio::join!(wait(), wait(), change)
        })
        .await;
    }
}
