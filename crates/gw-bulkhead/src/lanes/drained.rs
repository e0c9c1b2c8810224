use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::{Inner, Reaper};
use crate::sync::lock;

/// Ready once lanes that drain have nobody in flight and nobody waiting.
///
/// It takes back the places of requests that were held for longer than their lane's `max_hold` and that nobody polls:
/// no newcomer comes any more who would. In [`Mode::Shadow`](crate::Mode::Shadow) and off, where nobody is cut, it waits
/// for them.
///
/// # Panics
///
/// Where lanes have a `max_hold`, it must be polled inside a tokio runtime with its time driver enabled.
///
/// # Cancel safety
///
/// Dropping it only stops the watching; lanes that drain go on doing so.
#[must_use = "futures do nothing unless polled"]
pub struct Drained {
    lanes: Arc<Inner>,
    ticket: u64,
    reaper: Reaper,
}

impl Drained {
    pub(super) fn new(lanes: Arc<Inner>) -> Self {
        let ticket = lock(&lanes.line).ticket();
        let reaper = Reaper::new(Arc::clone(&lanes));
        Self {
            lanes,
            ticket,
            reaper,
        }
    }
}

impl Future for Drained {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let draining = {
            let mut line = lock(&self.lanes.line);
            if self.lanes.is_drained() {
                drop(line);
                return Poll::Ready(());
            }
            // Whoever ends the last request from here on sees that the lanes drain, and takes the lock to wake
            // watchers; and so does who begins the drain.
            let before = line.watch_end(self.ticket, waker);
            drop(line);
            drop(before);
            self.lanes.lending.load().is_draining()
        };
        // Not before: while the lanes are open, those who need a place take back what has run out.
        if draining {
            // The waker is in place: if this frees the last place, it is woken.
            _ = self.reaper.poll(cx, None);
        }
        Poll::Pending
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        // In a statement of its own, and not dropped within it: without the lock.
        let _waker = lock(&self.lanes.line).unwatch_end(self.ticket);
    }
}

impl fmt::Debug for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Drained").finish_non_exhaustive()
    }
}
