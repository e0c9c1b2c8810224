//! Whether a connection is in use, and the task that drives it until it has been idle for too long or is given up.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::later;
use crate::alarm::Alarm;

/// How many exchanges use a connection, and since when none does.
#[derive(Debug)]
pub(super) struct Usage(Mutex<State>);

#[derive(Debug)]
struct State {
    users: usize,
    idle_since: Instant,
    given_up: bool,
    driver: Option<Waker>,
}

impl Usage {
    /// In use by one exchange.
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            users: 1,
            idle_since: now,
            given_up: false,
            driver: None,
        }))
    }

    pub(super) fn enter(&self) {
        self.lock().users += 1;
    }

    pub(super) fn leave(&self, now: Instant) {
        let mut state = self.lock();
        state.users = state.users.saturating_sub(1);
        state.idle_since = now;
    }

    /// Ends the connection now, whatever it is doing.
    ///
    /// hyper would first flush what it has buffered: for an upstream that does not read, that is never.
    pub(super) fn give_up(&self) {
        let driver = {
            let mut state = self.lock();
            state.given_up = true;
            state.driver.take()
        };
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    fn poll_given_up(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.given_up {
            return Poll::Ready(());
        }
        match &state.driver {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => state.driver = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.users == 0).then_some(state.idle_since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives `connection` to its end, or until it has been idle for `idle_timeout` or is given up.
///
/// A request that arrives just when the connection is given up is handed back unsent by hyper, so nothing is lost. The
/// connection's own error is told to the exchange that uses it, if there is one.
pub(super) async fn drive<C: Future>(connection: C, usage: &Usage, idle_timeout: Duration) {
    let mut connection = pin!(connection);
    let mut timer = Alarm::at(later(Instant::now(), idle_timeout));
    poll_fn(|cx| {
        if usage.poll_given_up(cx).is_ready() || connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        while timer.is_due(cx) {
            let now = Instant::now();
            let due = later(usage.idle_since().unwrap_or(now), idle_timeout);
            if due <= now {
                return Poll::Ready(());
            }
            timer.reset(due);
        }
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_a_busy_one_does_not() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let driving = drive(std::future::pending::<()>(), &usage, 10 * SECOND);
        let using = async {
            tokio::time::sleep(25 * SECOND).await;
            usage.leave(Instant::now());
            tokio::time::sleep(9 * SECOND).await;
            usage.enter();
            tokio::time::sleep(5 * SECOND).await;
            usage.leave(Instant::now());
        };
        tokio::join!(driving, using);
        assert_eq!(start.elapsed(), 49 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_given_up_ends_at_once() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let driving = drive(std::future::pending::<()>(), &usage, 10 * SECOND);
        let using = async {
            tokio::time::sleep(SECOND).await;
            usage.give_up();
        };
        tokio::join!(driving, using);
        assert_eq!(start.elapsed(), SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_ends_is_not_driven_on() {
        let start = Instant::now();
        drive(std::future::ready(()), &Usage::new(start), SECOND).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
