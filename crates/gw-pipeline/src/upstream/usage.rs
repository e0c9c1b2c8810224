//! Whether a connection is in use, and the task that drives it until it has been idle for too long or is given up.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::limits::later;
use crate::alarm::Alarm;
use crate::waker::{remember, wake};

/// How many exchanges use a connection, and since when none does.
#[derive(Debug)]
pub(super) struct Usage {
    state: Mutex<State>,
    /// Only ever rises, and under the lock. For the driver, which asks each time it is polled.
    given_up: AtomicBool,
}

#[derive(Debug)]
struct State {
    users: usize,
    idle_since: Instant,
    /// Nobody new comes, and who is there is the last.
    retired: bool,
    driver: Option<Waker>,
}

impl Usage {
    /// In use by one exchange.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: Mutex::new(State {
                users: 1,
                idle_since: now,
                retired: false,
                driver: None,
            }),
            given_up: AtomicBool::new(false),
        }
    }

    pub(super) fn enter(&self) {
        self.lock().users += 1;
    }

    /// One more exchange uses it, if the connection still takes any.
    pub(super) fn try_enter(&self) -> bool {
        self.enter_if(|state| !state.retired)
    }

    /// One more exchange uses it although it is retired, if it is not about to end.
    pub(super) fn enter_retired(&self) -> bool {
        self.enter_if(|_| true)
    }

    fn enter_if(&self, fits: impl Fn(&State) -> bool) -> bool {
        let mut state = self.lock();
        let fits = !self.is_given_up() && fits(&state);
        state.users += usize::from(fits);
        fits
    }

    pub(super) fn leave(&self, now: Instant) {
        let driver = {
            let mut state = self.lock();
            state.users = state.users.saturating_sub(1);
            state.idle_since = now;
            let last = state.retired && state.users == 0;
            self.give_up_if(last, &mut state)
        };
        wake(driver);
    }

    /// No other exchange may use it. It ends when those that do have left.
    pub(super) fn retire(&self) {
        let driver = {
            let mut state = self.lock();
            state.retired = true;
            let unused = state.users == 0;
            self.give_up_if(unused, &mut state)
        };
        wake(driver);
    }

    /// Ends the connection now, whatever it is doing.
    ///
    /// hyper would first flush what it has buffered: for an upstream that does not read, that is never.
    pub(super) fn give_up(&self) {
        let driver = self.give_up_if(true, &mut self.lock());
        wake(driver);
    }

    /// Waits until it is given up. For the one task that drives the connection.
    pub(super) async fn given_up(&self) {
        let mut woken = None;
        poll_fn(|cx| self.poll_given_up(&mut woken, cx)).await;
    }

    /// `woken` is whom the last call has left to be woken: while that is who asks, a look is all it takes.
    fn poll_given_up(&self, woken: &mut Option<Waker>, cx: &Context<'_>) -> Poll<()> {
        if !woken.as_ref().is_some_and(|it| it.will_wake(cx.waker())) {
            let replaced = remember(&mut self.lock().driver, cx);
            drop(replaced);
            *woken = Some(cx.waker().clone());
        }
        // After the waker is there: who gives up from now on wakes it.
        match self.is_given_up() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Whom to wake then.
    #[must_use]
    fn give_up_if(&self, so: bool, state: &mut State) -> Option<Waker> {
        if !so {
            return None;
        }
        // Release: who sees it sees what came before.
        self.given_up.store(true, Ordering::Release);
        state.driver.take()
    }

    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        (state.users == 0).then_some(state.idle_since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drives `connection` to its end, or until it has been idle for `idle_timeout` or is given up.
///
/// A request that arrives just when the connection is given up is handed back unsent by hyper, so nothing is lost. The
/// connection's own error is told to the exchange that uses it, if there is one.
pub(super) async fn drive<C: Future>(connection: C, usage: &Usage, idle_timeout: Duration) {
    let mut connection = pin!(connection);
    let mut timer = Alarm::at(later(Instant::now(), idle_timeout));
    let mut woken = None;
    poll_fn(|cx| {
        if usage.poll_given_up(&mut woken, cx).is_ready() || connection.as_mut().poll(cx).is_ready()
        {
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
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

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

    #[tokio::test(start_paused = true)]
    async fn a_retired_connection_ends_with_its_last_user() {
        let start = Instant::now();
        let usage = Usage::new(start);
        let driving = drive(std::future::pending::<()>(), &usage, 100 * SECOND);
        let using = async {
            assert!(usage.try_enter());
            usage.retire();
            assert!(!usage.try_enter());
            assert!(usage.enter_retired());
            for left in (0..3).rev() {
                tokio::time::sleep(SECOND).await;
                usage.leave(Instant::now());
                assert_eq!(usage.enter_retired(), left > 0);
                if left > 0 {
                    usage.leave(Instant::now());
                    assert!(usage.enter_retired());
                    usage.leave(Instant::now());
                }
            }
        };
        tokio::join!(driving, using);
        assert_eq!(start.elapsed(), 3 * SECOND);
    }

    /// A waker that looks, when it goes, whether the state is locked.
    struct Looking {
        usage: Arc<Usage>,
        locked: Arc<AtomicBool>,
    }

    impl Wake for Looking {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Looking {
        fn drop(&mut self) {
            let locked = self.usage.state.try_lock().is_err();
            self.locked.fetch_or(locked, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_waker_is_dropped_under_the_lock() {
        let usage = Arc::new(Usage::new(Instant::now()));
        let locked = Arc::new(AtomicBool::new(false));
        let first = Waker::from(Arc::new(Looking {
            usage: Arc::clone(&usage),
            locked: Arc::clone(&locked),
        }));
        assert!(
            usage
                .poll_given_up(&mut None, &Context::from_waker(&first))
                .is_pending()
        );
        drop(first);
        assert!(
            usage
                .poll_given_up(&mut None, &Context::from_waker(Waker::noop()))
                .is_pending()
        );
        assert!(!locked.load(Ordering::SeqCst));
    }
}
