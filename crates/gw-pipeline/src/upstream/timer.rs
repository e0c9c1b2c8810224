//! One timer for all waits of a connection.
//!
//! It is for waits that follow one another, each with a due time of its own; for one wait that lasts as long as the task
//! and is hardly ever set anew, there is `alarm.rs`.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that lives as long as its connection, and is set as rarely as can be.
///
/// Setting a timer takes the lock of the runtime's timers, and nearly every wait ends long before it is due. So progress
/// does not touch it: it is set for the first wait, and anew when it fires too early for the wait at hand, which is
/// seldom, or when a wait is due before it. In between, a wait costs a look.
#[derive(Default)]
pub(super) struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Ready once `due` has passed.
    pub(super) fn poll_at(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if due <= sleep.deadline() {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = self.0.as_ref().map(|sleep| sleep.deadline());
        f.debug_tuple("Timer").field(&due).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn wait(timer: &mut Timer, due: Instant) -> Duration {
        let start = Instant::now();
        poll_fn(|cx| timer.poll_at(due, cx)).await;
        start.elapsed()
    }

    async fn is_due(timer: &mut Timer, due: Instant) -> bool {
        poll_fn(|cx| Poll::Ready(timer.poll_at(due, cx).is_ready())).await
    }

    #[tokio::test(start_paused = true)]
    async fn each_wait_ends_when_it_is_due() {
        let mut timer = Timer::default();
        for seconds in [10, 3, 30, 30, 1] {
            let due = Instant::now() + seconds * SECOND;
            assert_eq!(wait(&mut timer, due).await, seconds * SECOND);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_waited_for_before_does_not_end_a_later_wait() {
        let mut timer = Timer::default();
        assert!(!is_due(&mut timer, Instant::now() + SECOND).await);
        advance(2 * SECOND).await;
        let due = Instant::now() + 5 * SECOND;
        assert!(!is_due(&mut timer, due).await);
        assert_eq!(wait(&mut timer, due).await, 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_overdue_is_due_at_once() {
        let mut timer = Timer::default();
        let past = Instant::now();
        advance(SECOND).await;
        assert!(is_due(&mut timer, past).await);
        assert!(!is_due(&mut timer, Instant::now() + SECOND).await);
        assert!(is_due(&mut timer, past).await);
    }
}
