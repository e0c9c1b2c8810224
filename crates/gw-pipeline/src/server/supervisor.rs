//! What makes a connection end: its timers, and the server's orders.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::activity::FAREWELL;
use super::closed::CloseReason;
use super::config::Timers;
use super::link::{Link, Order};
use crate::alarm::Alarm;

/// One part of a connection's life: a future that can be asked to come to an end.
pub(super) trait Stage: Future + Unpin {
    /// Asks it to finish what is under way and take nothing new.
    fn drain(&mut self);
}

/// How a stage ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    /// By itself.
    Itself(T),
    /// It is to be dropped.
    Closed(CloseReason),
}

/// Watches one connection through its stages.
///
/// There is one timer a connection. It is not touched when a deadline changes. Instead it fires once in the shortest of
/// all limits at least, and a deadline that is set in between lies at or after the next time it fires: no deadline is
/// missed, and requests cost no timer.
#[derive(Debug)]
pub(super) struct Supervisor {
    link: Arc<Link>,
    timers: Timers,
    timer: Alarm,
    /// Whom the link wakes, if it is sure to.
    wakes: Option<Waker>,
    /// The timer has been set for leaving.
    leaving: bool,
    /// The stage has been asked to come to an end.
    drained: bool,
}

enum Verdict {
    Drain,
    Close(CloseReason),
}

impl Supervisor {
    pub(super) fn new(link: Arc<Link>, timers: Timers) -> Self {
        let timer = Alarm::at(Instant::now() + timers.shortest());
        Self {
            link,
            timers,
            timer,
            wakes: None,
            leaving: false,
            drained: false,
        }
    }

    /// Runs a stage until it ends, or has to.
    pub(super) async fn watch<T: Stage>(&mut self, stage: &mut T) -> Ended<T::Output> {
        poll_fn(|cx| {
            loop {
                // The stage first: what has come in by now is part of what is under way.
                if let Poll::Ready(output) = Pin::new(&mut *stage).poll(cx) {
                    return Poll::Ready(Ended::Itself(output));
                }
                match self.poll(cx) {
                    Poll::Ready(Verdict::Drain) => stage.drain(),
                    Poll::Ready(Verdict::Close(reason)) => {
                        return Poll::Ready(Ended::Closed(reason));
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Verdict> {
        if let Some(verdict) = self.order(cx) {
            return Poll::Ready(verdict);
        }
        while self.timer.is_due(cx) {
            let now = Instant::now();
            let latest = now + self.at_least_once_in();
            let next = match self.link.due(&self.timers) {
                Some((at, reason)) if at <= now => {
                    self.link.time_is_up(reason);
                    // Nothing new: it has taken its leave, or needs none.
                    let order = self.order(cx);
                    return Poll::Ready(order.unwrap_or(Verdict::Close(reason)));
                }
                Some((at, _)) => at.min(latest),
                None => latest,
            };
            self.timer.reset(next);
        }
        Poll::Pending
    }

    /// What the server's order comes to now. The task of `cx` is woken by the next one.
    fn order(&mut self, cx: &Context<'_>) -> Option<Verdict> {
        let known = |waker: &Waker| waker.will_wake(cx.waker());
        let known = self.wakes.as_ref().is_some_and(known);
        if known && !self.link.has_news() {
            return None;
        }
        let look = self.link.look(cx);
        if !known {
            self.wakes = Some(cx.waker().clone());
        }
        match look.order {
            Order::Serve => {}
            // Whoever floods need not acknowledge a goodbye, so nothing is waited for.
            Order::Expel => return Some(Verdict::Close(CloseReason::RapidReset)),
            Order::Cut => return Some(Verdict::Close(CloseReason::Cut)),
            Order::Evict if look.quiet => return Some(Verdict::Close(CloseReason::Evicted)),
            Order::Drain | Order::Evict => {
                if !self.leaving {
                    self.leaving = true;
                    let latest = Instant::now() + self.at_least_once_in();
                    self.timer.reset(latest);
                }
                if !self.drained && !look.awaits_head {
                    self.drained = true;
                    return Some(Verdict::Drain);
                }
            }
        }
        None
    }

    fn at_least_once_in(&self) -> Duration {
        let shortest = self.timers.shortest();
        if self.leaving {
            shortest.min(FAREWELL)
        } else {
            shortest
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Sleep;

    use super::*;

    const TIMERS: Timers = Timers {
        header: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        write_stall: Duration::from_secs(15),
    };

    /// A stage that ends some time after it was asked to.
    struct Obedient {
        asked: Option<Pin<Box<Sleep>>>,
        takes: Duration,
    }

    impl Future for Obedient {
        type Output = ();

        fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            self.asked
                .as_mut()
                .map_or(Poll::Pending, |asked| asked.as_mut().poll(cx))
        }
    }

    impl Stage for Obedient {
        fn drain(&mut self) {
            self.asked = Some(Box::pin(tokio::time::sleep(self.takes)));
        }
    }

    /// Watches a stage while `script` runs; how it ended, and after how many seconds.
    async fn watch(takes: Duration, script: impl AsyncFnOnce(&Link)) -> (Option<CloseReason>, u64) {
        let start = Instant::now();
        let link = Arc::new(Link::new(start));
        let mut supervisor = Supervisor::new(Arc::clone(&link), TIMERS);
        let watching = tokio::spawn(async move {
            match supervisor.watch(&mut Obedient { asked: None, takes }).await {
                Ended::Itself(()) => None,
                Ended::Closed(reason) => Some(reason),
            }
        });
        script(&link).await;
        let ended = watching.await.unwrap();
        (ended, start.elapsed().as_secs())
    }

    async fn seconds(count: u64) {
        tokio::time::sleep(Duration::from_secs(count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn deadlines_that_change_are_met_to_the_second() {
        let ended = watch(Duration::ZERO, async |_| {}).await;
        assert_eq!(ended, (Some(CloseReason::HeaderTimeout), 10));

        let ended = watch(Duration::ZERO, async |link| {
            seconds(9).await;
            link.started(true, false);
            seconds(24).await;
            link.ended(None, true);
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::KeepAliveTimeout), 93));

        let ended = watch(Duration::ZERO, async |link| {
            link.started(true, false);
            seconds(7).await;
            link.ended(None, true);
            seconds(14).await;
            link.received();
            // As what comes does.
            link.wake();
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::HeaderTimeout), 31));

        // What has come before the end of a request is not taken for the next head.
        let ended = watch(Duration::ZERO, async |link| {
            link.started(false, false);
            seconds(7).await;
            link.received();
            link.ended(None, true);
            link.wake();
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::KeepAliveTimeout), 67));

        let ended = watch(Duration::ZERO, async |link| {
            link.started(true, false);
            seconds(33).await;
            link.write_blocked();
            seconds(14).await;
            link.wrote(true);
            link.write_blocked();
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::WriteStall), 62));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_several_requests_at_a_time_is_asked_before_its_time_ends() {
        // Who has answered the goodbye leaves at once, and who is silent gets a second.
        for (takes, head, idle) in [
            (0, (None, 10), (None, 69)),
            (
                5,
                (Some(CloseReason::HeaderTimeout), 11),
                (Some(CloseReason::KeepAliveTimeout), 70),
            ),
        ] {
            let takes = Duration::from_secs(takes);
            let ended = watch(takes, async |link| link.multiplex()).await;
            assert_eq!(ended, head);
            let ended = watch(takes, async |link| {
                link.multiplex();
                link.started(true, false);
                seconds(9).await;
                link.ended(None, true);
            })
            .await;
            assert_eq!(ended, idle);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_crosses_the_goodbye_is_waited_for() {
        let ended = watch(Duration::from_secs(8), async |link| {
            link.multiplex();
            tokio::time::sleep(Duration::from_millis(10_500)).await;
            link.received();
            link.started(true, false);
            link.wake();
        })
        .await;
        assert_eq!(ended, (None, 18));
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_a_head_and_asks_once() {
        let ended = watch(Duration::from_secs(5), async |link| {
            link.received();
            seconds(1).await;
            link.order(Order::Drain);
            seconds(3).await;
            link.started(true, false);
            // The stage wakes its task when a request comes.
            link.wake();
        })
        .await;
        assert_eq!(ended, (None, 9));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_not_spoken_gets_a_second() {
        let ended = watch(Duration::ZERO, async |link| {
            seconds(4).await;
            link.order(Order::Drain);
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::Shutdown), 5));
    }

    #[tokio::test(start_paused = true)]
    async fn eviction_spares_a_request_that_came_meanwhile() {
        let ended = watch(Duration::from_secs(5), async |link| {
            seconds(1).await;
            link.evict_if_quiet_since(Instant::now());
            link.started(true, false);
            link.wake();
        })
        .await;
        assert_eq!(ended, (None, 6));

        let ended = watch(Duration::from_secs(5), async |link| {
            seconds(1).await;
            link.evict_if_quiet_since(Instant::now());
            link.wake();
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::Evicted), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_is_at_once() {
        let ended = watch(Duration::from_secs(5), async |link| {
            link.started(true, false);
            seconds(2).await;
            link.order(Order::Drain);
            seconds(1).await;
            link.order(Order::Cut);
        })
        .await;
        assert_eq!(ended, (Some(CloseReason::Cut), 3));
    }
}
