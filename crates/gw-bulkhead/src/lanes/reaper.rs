use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use super::Inner;
use super::holds::Look;

/// Takes back the places of holds that run out, for as long as somebody polls it: who waits for a place may wait for
/// one that its holder has forgotten, and nobody else looks at the clock for it.
///
/// # Cancel safety
///
/// Dropping it only stops the watching.
pub(crate) struct Reaper {
    lanes: Arc<Inner>,
    /// The next look, as the holds know it.
    look: Option<Look>,
    /// Made when there is something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Reaper {
    pub(super) const fn new(lanes: Arc<Inner>) -> Self {
        Self {
            lanes,
            look: None,
            sleep: None,
        }
    }

    /// Takes back what has run out, and is ready at the deadline. Until then the task is woken when the next hold runs
    /// out, also if that hold begins only later.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its time driver enabled, if there is a deadline or a hold to wait for.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        loop {
            let now = Instant::now();
            self.lanes.reap(now);
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Poll::Ready(());
            }
            let Some(until) = self.next_look(now, deadline, cx.waker()) else {
                self.sleep = None;
                return Poll::Pending;
            };
            let sleep = self
                .sleep
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            if sleep.deadline() != until {
                sleep.as_mut().reset(until);
            }
            ready!(sleep.as_mut().poll(cx));
        }
    }

    fn next_look(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
        waker: &Waker,
    ) -> Option<Instant> {
        let mut waker = Some(waker.clone());
        let before = self.look.take();
        let (look, until) = self.lanes.holds.watch(before, now, deadline, &mut waker);
        self.look = Some(look);
        until
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        if let Some(look) = self.look.take() {
            // Dropped here, without a lock.
            let _waker = self.lanes.holds.unwatch(look);
        }
    }
}

impl fmt::Debug for Reaper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reaper").finish_non_exhaustive()
    }
}
