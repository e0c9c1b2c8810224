//! Whether a connection is in use, and the task that drives it until it has been idle for too long or is given up.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::later;
use crate::alarm::Alarm;
use crate::waker::{remember, wake};

/// So many exchanges may share a connection in its life. Then it is retired, and ends with the last of them.
///
/// Whatever a peer sends for an exchange that is over and forgotten, h2 queues a reset of its stream, of half a kilobyte: for each that
/// there has ever been, if the peer takes in nothing of that. So this bounds what a peer can have queued, to some 30 MB.
pub(super) const EXCHANGES: u32 = 50_000;

/// How many exchanges use a connection, and since when none does.
#[derive(Debug)]
pub(super) struct Usage {
    state: Mutex<State>,
    /// Only ever rises, and under the lock. For the driver, which asks each time it is polled.
    given_up: AtomicBool,
    /// It is worth a look how many the peer allows: that is not known yet, or as many are there. Set under the lock.
    asks: AtomicBool,
    /// So many bytes of the peer's have been read and taken note of, as far as that was asked.
    noted: AtomicU64,
    /// Where it is one of several that are shared.
    streams: Option<Arc<Streams>>,
}

/// What shared connections to one origin have in common.
#[derive(Debug)]
pub(super) struct Streams {
    /// Told when a connection is full no longer; all are told when one is made, or not, or takes no more.
    pub(super) freed: Notify,
    waiting: AtomicUsize,
    /// So many exchanges a connection is taken to allow that has not said so yet: as many as the last one.
    allowed: AtomicUsize,
}

impl Streams {
    pub(super) fn allowed(&self) -> usize {
        // Relaxed: it is a guess.
        self.allowed.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for one that comes free.
    pub(super) fn are_awaited(&self) -> bool {
        // Relaxed: the count guards no other data.
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// One more waits from now on. Whether it is behind others.
    pub(super) fn queued(&self) -> bool {
        self.waiting.fetch_add(1, Ordering::Relaxed) > 0
    }

    /// One fewer waits.
    pub(super) fn unqueued(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Streams {
    /// The least that HTTP/2 recommends (RFC 9113 section 6.5.2).
    fn default() -> Self {
        Self {
            freed: Notify::new(),
            waiting: AtomicUsize::new(0),
            allowed: AtomicUsize::new(100),
        }
    }
}

#[derive(Debug)]
struct State {
    users: usize,
    idle_since: Instant,
    /// So many at most.
    most: usize,
    /// So many more in all, where it is shared.
    left: u32,
    /// Nobody new comes, and who is there is the last.
    retired: bool,
    driver: Option<Waker>,
}

impl State {
    const fn is_full(&self) -> bool {
        self.users >= self.most
    }
}

impl Usage {
    /// In use by one exchange.
    pub(super) fn new(now: Instant) -> Self {
        Self::with(now, usize::MAX, None)
    }

    /// In use by the first of several exchanges.
    pub(super) fn shared(now: Instant, streams: Arc<Streams>) -> Self {
        Self::with(now, streams.allowed(), Some(streams))
    }

    fn with(now: Instant, most: usize, streams: Option<Arc<Streams>>) -> Self {
        Self {
            state: Mutex::new(State {
                users: 1,
                idle_since: now,
                most,
                left: EXCHANGES - 1,
                retired: false,
                driver: None,
            }),
            given_up: AtomicBool::new(false),
            asks: AtomicBool::new(true),
            noted: AtomicU64::new(0),
            streams,
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
        let fits = !self.is_given_up() && !state.is_full() && fits(&state);
        state.users += usize::from(fits);
        state.left = state.left.saturating_sub(u32::from(fits));
        state.retired |= state.left == 0;
        if state.is_full() {
            self.asks.store(true, Ordering::Relaxed);
        }
        fits
    }

    /// Whether it takes an exchange now.
    pub(super) fn has_room(&self) -> bool {
        let state = self.lock();
        !self.is_given_up() && !state.is_full() && !state.retired
    }

    pub(super) fn leave(&self, now: Instant) {
        let (driver, freed) = {
            let mut state = self.lock();
            let was_full = state.is_full();
            state.users = state.users.saturating_sub(1);
            state.idle_since = now;
            let last = state.retired && state.users == 0;
            let freed = was_full && !state.is_full();
            (self.give_up_if(last, &mut state), freed)
        };
        wake(driver);
        self.tell_if(freed);
    }

    /// The peer allows so many at the same time; `settled` once it has said so itself. One is always tried: it may say something
    /// else in its answer.
    pub(super) fn allow(&self, most: usize, settled: bool) {
        let most = most.max(1);
        if let Some(streams) = &self.streams {
            streams.allowed.store(most, Ordering::Relaxed);
        }
        let freed = {
            let mut state = self.lock();
            let was_full = state.is_full();
            state.most = most;
            let is_full = state.is_full();
            self.asks.store(!settled || is_full, Ordering::Relaxed);
            was_full && !is_full
        };
        self.tell_if(freed);
    }

    /// Whether to look how many the peer allows.
    pub(super) fn asks(&self) -> bool {
        // Relaxed: a look too many or too late does no harm.
        self.asks.load(Ordering::Relaxed)
    }

    /// Has the driver look: the connection has taken note of so many bytes.
    pub(super) fn note(&self, heard: u64) {
        // Release: who sees it sees what they have said.
        self.noted.store(heard, Ordering::Release);
        let driver = self.lock().driver.clone();
        wake(driver);
    }

    /// How many bytes of the peer's the connection has taken note of.
    pub(super) fn noted(&self) -> u64 {
        self.noted.load(Ordering::Acquire)
    }

    /// Whether it takes others, now or when one has left.
    pub(super) fn takes_more(&self) -> bool {
        !self.lock().retired && !self.is_given_up()
    }

    fn tell_if(&self, so: bool) {
        if let Some(streams) = &self.streams
            && so
        {
            streams.freed.notify_one();
        }
    }

    fn tell_all(&self) {
        if let Some(streams) = &self.streams {
            streams.freed.notify_waiters();
        }
    }

    /// No other exchange may use it. It ends when those that do have left.
    pub(super) fn retire(&self) {
        self.retire_if(|_| true);
    }

    /// Ends it, if no exchange uses it.
    pub(super) fn retire_unused(&self) -> bool {
        self.retire_if(|state| state.users == 0)
    }

    fn retire_if(&self, fits: impl Fn(&State) -> bool) -> bool {
        let driver = {
            let mut state = self.lock();
            if !fits(&state) {
                return false;
            }
            state.retired = true;
            let unused = state.users == 0;
            self.give_up_if(unused, &mut state)
        };
        wake(driver);
        self.tell_all();
        true
    }

    /// Ends the connection now, whatever it is doing.
    ///
    /// hyper would first flush what it has buffered: for an upstream that does not read, that is never.
    pub(super) fn give_up(&self) {
        let driver = self.give_up_if(true, &mut self.lock());
        wake(driver);
        self.tell_all();
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

/// Drives `connection` to its end, or until `next_look` ends it or it is given up.
///
/// `next_look` is asked now and then, at an instant and since when the connection has been idle then: when to ask again, or `None`
/// to end it. Of one that is in use it hears that it is idle since that very instant.
///
/// A request that arrives just when the connection is given up is handed back unsent by hyper, so nothing is lost. The
/// connection's own error is told to the exchange that uses it, if there is one.
pub(super) async fn drive<C: Future>(
    connection: C,
    usage: &Usage,
    next_look: impl Fn(Instant, Instant) -> Option<Instant>,
) {
    let mut connection = pin!(connection);
    let now = Instant::now();
    let mut timer = Alarm::at(next_look(now, now).unwrap_or(now));
    let mut woken = None;
    poll_fn(|cx| {
        if usage.poll_given_up(&mut woken, cx).is_ready() || connection.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        while timer.is_due(cx) {
            let now = Instant::now();
            match next_look(now, usage.idle_since().unwrap_or(now)) {
                Some(next) => timer.reset(next),
                None => return Poll::Ready(()),
            }
        }
        Poll::Pending
    })
    .await;
}

/// For [`drive`]: ends what has been idle for `timeout`.
pub(super) fn idle_for(timeout: Duration) -> impl Fn(Instant, Instant) -> Option<Instant> {
    move |now, idle_since| {
        let due = later(idle_since, timeout);
        (due > now).then_some(due)
    }
}

/// The same, and has `crowds` look whether it is one too many as often as it has been idle for `lingers`. That gives it up if so.
pub(super) fn idle_for_or_crowding(
    timeout: Duration,
    lingers: Duration,
    crowds: impl Fn(),
) -> impl Fn(Instant, Instant) -> Option<Instant> {
    let next_look = idle_for(timeout);
    move |now, idle_since| {
        let end = next_look(now, idle_since)?;
        let mut crowding = later(idle_since, lingers);
        if crowding <= now {
            crowds();
            // Again then: it may be used meanwhile, and idle anew.
            crowding = later(now, lingers);
        }
        Some(end.min(crowding))
    }
}

#[cfg(test)]
mod tests;
