use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Inner;
use crate::sync::lock;

/// Ready once lanes that drain have nobody in flight and nobody waiting.
///
/// # Cancel safety
///
/// Dropping it only stops the watching; lanes that drain go on doing so.
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    lanes: Arc<Inner>,
    ticket: u64,
}

impl Drained {
    pub(super) fn new(lanes: Arc<Inner>) -> Self {
        let ticket = lock(&lanes.line).ticket();
        Self { lanes, ticket }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut line = lock(&self.lanes.line);
        if self.lanes.is_drained() {
            return Poll::Ready(());
        }
        // Whoever ends the last request from here on sees that the lanes drain, and takes the lock to wake watchers.
        line.watch_end(self.ticket, cx.waker());
        Poll::Pending
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        lock(&self.lanes.line).unwatch_end(self.ticket);
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}
