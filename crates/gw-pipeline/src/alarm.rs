//! The timer of a task that is polled often and must be woken seldom.
//!
//! It is for one wait that lasts as long as the task and is hardly ever set anew; for waits that follow one another,
//! each with a due time of its own, there is the timer of `upstream/timer.rs`.

use std::future::Future as _;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is looked at in each poll of a connection's task, which it is due in hardly ever.
///
/// While it waits, and the task that it will wake is the one that asks, a look is all it takes: polling would register
/// the same task once more.
#[derive(Debug)]
pub(crate) struct Alarm {
    sleep: Pin<Box<Sleep>>,
    /// Whom it wakes, if it is sure to.
    wakes: Option<Waker>,
}

impl Alarm {
    pub(crate) fn at(due: Instant) -> Self {
        Self {
            sleep: Box::pin(sleep_until(due)),
            wakes: None,
        }
    }

    /// Sets it anew, to any instant.
    pub(crate) fn reset(&mut self, due: Instant) {
        // It may have fired just now, and forgotten whom to wake.
        self.wakes = None;
        self.sleep.as_mut().reset(due);
    }

    /// Whether it is due. Stays so until it is set anew.
    pub(crate) fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        let known = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.sleep.is_elapsed() && self.wakes.as_ref().is_some_and(known) {
            return false;
        }
        // Unconstrained: to a task that has used up its turn, tokio would say `Pending` without keeping its waker.
        match pin!(unconstrained(self.sleep.as_mut())).poll(cx) {
            Poll::Ready(()) => true,
            Poll::Pending => {
                self.wakes = Some(cx.waker().clone());
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::task::coop::{consume_budget, has_budget_remaining};
    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn due(alarm: &mut Alarm) {
        poll_fn(|cx| match alarm.is_due(cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_whoever_asked_last() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + 3 * SECOND);
        // Another waker each time.
        assert!(timeout(SECOND, due(&mut alarm)).await.is_err());
        let asked = tokio::spawn(async move {
            due(&mut alarm).await;
            alarm
        });
        let mut alarm = asked.await.unwrap();
        assert_eq!(start.elapsed(), 3 * SECOND);
        due(&mut alarm).await;
        alarm.reset(start + 4 * SECOND);
        due(&mut alarm).await;
        assert_eq!(start.elapsed(), 4 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_fired_and_is_set_anew_wakes_again() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        let asked = tokio::spawn(async move {
            let mut round = 0;
            poll_fn(|cx| {
                round += 1;
                if round == 2 {
                    // Woken because it fired; not asked, but set anew.
                    alarm.reset(start + 5 * SECOND);
                }
                match alarm.is_due(cx) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        });
        asked.await.unwrap();
        assert_eq!(start.elapsed(), 5 * SECOND);
    }

    /// Story: a task that had used up its turn when it first asked was never woken.
    #[tokio::test(start_paused = true)]
    async fn it_wakes_a_task_that_has_used_up_its_turn() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + SECOND);
        let asked = tokio::spawn(async move {
            poll_fn(|cx| {
                while has_budget_remaining() {
                    assert!(pin!(consume_budget()).poll(cx).is_ready());
                }
                match alarm.is_due(cx) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            })
            .await;
        });
        timeout(60 * SECOND, asked).await.unwrap().unwrap();
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_time_counts() {
        let start = Instant::now();
        let mut alarm = Alarm::at(start + 100 * SECOND);
        assert!(timeout(SECOND, due(&mut alarm)).await.is_err());
        alarm.reset(start + 2 * SECOND);
        due(&mut alarm).await;
        assert_eq!(start.elapsed(), 2 * SECOND);
        advance(SECOND).await;
        assert!(poll_fn(|cx| Poll::Ready(alarm.is_due(cx))).await);
    }
}
