use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;

use super::{Inner, LaneId, Permit, Reaper, Reason, Refusal, wake_all};
use crate::sync::lock;

/// A request that waits for a place in its lane. The place is handed to it; it does not compete for it again.
///
/// It knows no clock: whoever polls it decides how long to wait, and calls [`Wait::give_up`].
///
/// # Cancel safety
///
/// Dropping it leaves the queue at once. A place that it was given in the same moment goes to the next one.
#[derive(Debug)]
#[must_use = "dropping it leaves the queue"]
pub struct Wait {
    lanes: Arc<Inner>,
    lane: LaneId,
    ticket: u64,
    /// Whether it still waits, or was given a place and does not know.
    open: bool,
}

impl Wait {
    pub(super) const fn new(lanes: Arc<Inner>, lane: LaneId, ticket: u64) -> Self {
        Self {
            lanes,
            lane,
            ticket,
            open: true,
        }
    }

    /// Leaves the queue because it took too long.
    ///
    /// # Errors
    ///
    /// The refusal, unless a place was given in the same moment: then there is nothing to refuse.
    pub fn give_up(mut self, now: Instant) -> Result<Permit, Refusal> {
        match self.leave() {
            Some(permit) => Ok(permit),
            None => Err(self.lanes.refuse(self.lane, Reason::QueueTimeout, now)),
        }
    }

    /// What frees the places whose time is over: they may be what this one waits for.
    pub(crate) fn reaper(&self) -> Reaper {
        Reaper::new(Arc::clone(&self.lanes))
    }

    /// Leaves the queue; a permit if a place had been given.
    fn leave(&mut self) -> Option<Permit> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        let (waited, woken) = {
            let mut line = lock(&self.lanes.line);
            let waited = line.leave(self.lane, self.ticket);
            if waited.is_some() {
                self.lanes.forget_waiter(self.lane);
            }
            // Nothing became free, but it may have been the last one that a drain waited for.
            (waited, self.lanes.serve(&mut line))
        };
        wake_all(woken);
        waited
            .is_none()
            .then(|| Permit::new(Arc::clone(&self.lanes), self.lane))
    }
}

/// Pending for ever once it has been ready.
impl Future for Wait {
    type Output = Permit;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit> {
        if !self.open {
            return Poll::Pending;
        }
        let mut waker = Some(cx.waker().clone());
        let waits = lock(&self.lanes.line).watch_place(self.lane, self.ticket, &mut waker);
        if waits {
            return Poll::Pending;
        }
        self.open = false;
        Poll::Ready(Permit::new(Arc::clone(&self.lanes), self.lane))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        drop(self.leave());
    }
}
