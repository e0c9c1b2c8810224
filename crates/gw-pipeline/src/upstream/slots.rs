//! Who may be in flight, and who waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::{self, Handle};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use self::turns::{Entry, Turns};
use super::error::{Error, ErrorKind};
use super::limits::{Limits, later};
use super::pool::Pool;
use super::pool_config::PoolConfig;

mod turns;

type Queue = Turns<runtime::Id, oneshot::Sender<()>>;

/// The places of one upstream: so many requests in flight, and a bounded queue behind them.
#[derive(Debug)]
pub(super) struct Slots {
    turns: Mutex<Queue>,
    /// Told when no slot is free any more.
    full: Notify,
    config: PoolConfig,
}

/// A request in flight. Dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) pool: Arc<Pool>,
    /// The runtime that has an idle connection of its exchange's, for who has the slot next.
    pub(super) left: Option<runtime::Id>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.slots.release(self.left);
    }
}

/// A place in the queue. Dropping it gives the place back, or the slot that has been given to it.
struct Place<'a> {
    slots: &'a Slots,
    number: u64,
    /// The slot is another one's to give back.
    is_served: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_served {
            return;
        }
        // Dropped outside of the lock: with it may go a waker, and with that a task that has a slot.
        let waited = self.slots.lock().leave(self.number);
        if waited.is_none() {
            self.slots.release(None);
        }
    }
}

impl Slots {
    pub(super) const fn new(config: PoolConfig) -> Self {
        Self {
            turns: Mutex::new(Turns::new(config.max_connections)),
            full: Notify::const_new(),
            config,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        let free = self.lock().free();
        self.config.max_connections.saturating_sub(free)
    }

    pub(super) fn queued(&self) -> usize {
        self.lock().waiting()
    }

    /// Waits until no slot is free.
    pub(super) async fn full(&self) {
        // It hears what happens from here on.
        let full = self.full.notified();
        let free = self.lock().free();
        if free > 0 {
            full.await;
        }
    }

    /// What `take` does, and tells who wants to know if no slot is free then.
    fn taking<T>(&self, take: impl FnOnce(&mut Queue) -> T) -> T {
        let (taken, was_last) = {
            let mut turns = self.lock();
            let before = turns.free();
            let taken = take(&mut turns);
            (taken, before > 0 && turns.free() == 0)
        };
        if was_last {
            self.full.notify_waiters();
        }
        taken
    }

    fn release(&self, left: Option<runtime::Id>) {
        let next = self.lock().release(left);
        // Outside of the lock: it wakes a task. One that has gone gives back what it was given.
        if let Some(next) = next {
            _ = next.send(());
        }
    }

    /// Waits for a slot. Who got it owes it.
    async fn wait(&self, limits: &Limits) -> Result<(), Error> {
        let runtime = Handle::try_current().ok().map(|handle| handle.id());
        let (given, until_given) = oneshot::channel();
        let entry = self.taking(|turns| turns.join(self.config.queue, runtime, given));
        let number = match entry {
            Entry::Free => return Ok(()),
            Entry::Waits(number) => number,
            Entry::Refused => return Err(Error::new(ErrorKind::QueueFull)),
        };
        let mut place = Place {
            slots: self,
            number,
            is_served: false,
        };
        let (end, kind) = limits.queue_due(later(Instant::now(), self.config.queue_timeout));
        match timeout_at(end, until_given).await {
            Ok(Ok(())) => {
                place.is_served = true;
                Ok(())
            }
            // Nobody is removed from the queue without being told.
            Ok(Err(forgotten)) => Err(Error::because(ErrorKind::Setup, forgotten)),
            Err(_) => Err(Error::new(kind)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// A slot, if one is free and nobody waits for it. The pool is in it, or comes back: each reference is counted by all
    /// threads.
    pub(super) fn try_slot(self: Arc<Self>) -> Result<Slot, Arc<Self>> {
        let taken = self.slots.taking(Turns::take);
        match taken {
            true => Ok(self.into_slot()),
            false => Err(self),
        }
    }

    /// Waits for a slot, until the time of the queue or that of the attempt is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue back.
    pub(super) async fn slot(self: &Arc<Self>, limits: &Limits) -> Result<Slot, Error> {
        self.slots.wait(limits).await?;
        Ok(Arc::clone(self).into_slot())
    }

    /// The slot has been taken.
    const fn into_slot(self: Arc<Self>) -> Slot {
        Slot {
            pool: self,
            left: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use gw_core::context::{Deadline, UpstreamName};

    use super::super::config::Settings;
    use super::*;
    use crate::Timeouts;
    use crate::upstream::report::Watcher;

    fn pool(max_connections: usize, queue: usize) -> Arc<Pool> {
        let settings = Settings {
            pool: PoolConfig::new()
                .max_connections(max_connections)
                .queue(queue),
            ..Settings::default()
        };
        Arc::new(Pool::new(
            UpstreamName::new("slots"),
            Vec::new(),
            settings,
            Watcher::default(),
        ))
    }

    async fn acquire(pool: &Arc<Pool>, limits: Limits) -> Result<Slot, Error> {
        match Arc::clone(pool).try_slot() {
            Ok(slot) => Ok(slot),
            Err(pool) => pool.slot(&limits).await,
        }
    }

    fn within(attempt: Duration, deadline: Option<Duration>) -> Limits {
        let now = Instant::now();
        let timeouts = Timeouts::new().attempt(attempt);
        let deadline = deadline.map(|after| Deadline::at(now + after));
        Limits::new(now, timeouts, deadline, Duration::from_secs(10))
    }

    fn far() -> Limits {
        within(Duration::from_secs(3600), None)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_queue_timeout_and_no_longer() {
        let pool = pool(1, 1);
        let held = acquire(&pool, far()).await.unwrap();
        let start = Instant::now();
        let error = acquire(&pool, far()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert_eq!((pool.slots.in_flight(), pool.slots.queued()), (1, 0));
        drop(held);
        assert_eq!(pool.slots.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_attempt_ends_the_wait() {
        let pool = pool(1, 1);
        let _held = acquire(&pool, far()).await.unwrap();
        let short = Duration::from_millis(10);
        let start = Instant::now();
        let error = acquire(&pool, within(short, None)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        assert_eq!(start.elapsed(), short);
        let hurried = within(Duration::from_secs(3600), Some(short));
        let error = acquire(&pool, hurried).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueDeadline);
        assert_eq!(start.elapsed(), 2 * short);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_a_waiter_that_leaves_makes_room() {
        let pool = pool(1, 1);
        let held = acquire(&pool, far()).await.unwrap();
        let mut waiting = Box::pin(acquire(&pool, far()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert_eq!(pool.slots.queued(), 1);
        let error = acquire(&pool, far()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueFull);
        drop(waiting);
        assert_eq!(pool.slots.queued(), 0);
        drop(held);
        assert!(acquire(&pool, far()).await.is_ok());
    }

    fn runtime() -> runtime::Runtime {
        runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
    }

    /// Whether it has a slot, as far as one look on that runtime tells.
    fn look(
        runtime: &runtime::Runtime,
        waiting: &mut Pin<Box<impl Future<Output = Result<Slot, Error>>>>,
    ) -> Option<Slot> {
        let _entered = runtime.enter();
        let mut context = Context::from_waker(Waker::noop());
        match waiting.as_mut().poll(&mut context) {
            Poll::Ready(slot) => Some(slot.unwrap()),
            Poll::Pending => None,
        }
    }

    /// Story: with each thread more, a freed slot went less often to the thread that had the connection.
    #[test]
    fn a_slot_goes_to_the_runtime_that_has_its_connection() {
        let runtimes = [runtime(), runtime()];
        let pool = pool(2, 8);
        let take = || Arc::clone(&pool).try_slot().unwrap();
        let (mut first, second) = (take(), take());
        let [mut elsewhere, mut here] = [&runtimes[0], &runtimes[1]].map(|runtime| {
            let mut waiting = Box::pin(acquire(&pool, far()));
            assert!(look(runtime, &mut waiting).is_none());
            waiting
        });
        first.left = Some(runtimes[1].handle().id());
        drop(first);
        assert!(look(&runtimes[0], &mut elsewhere).is_none());
        let had = look(&runtimes[1], &mut here);
        assert!(had.is_some());
        drop(second);
        assert!(look(&runtimes[0], &mut elsewhere).is_some());
    }

    #[test]
    fn who_leaves_with_a_slot_just_given_gives_it_on() {
        let runtime = runtime();
        let pool = pool(1, 8);
        let held = Arc::clone(&pool).try_slot().unwrap();
        let [given, mut next] = [(); 2].map(|()| {
            let mut waiting = Box::pin(acquire(&pool, far()));
            assert!(look(&runtime, &mut waiting).is_none());
            waiting
        });
        drop(held);
        assert_eq!((pool.slots.in_flight(), pool.slots.queued()), (1, 1));
        drop(given);
        let had = look(&runtime, &mut next);
        assert!(had.is_some());
        assert_eq!((pool.slots.in_flight(), pool.slots.queued()), (1, 0));
        drop(had);
        assert_eq!(pool.slots.in_flight(), 0);
    }

    #[test]
    fn who_asks_is_told_when_the_last_slot_is_taken() {
        let pool = pool(2, 8);
        let mut context = Context::from_waker(Waker::noop());
        let first = Arc::clone(&pool).try_slot().unwrap();
        let mut full = Box::pin(pool.slots.full());
        assert!(full.as_mut().poll(&mut context).is_pending());
        let last = Arc::clone(&pool).try_slot().unwrap();
        assert!(full.as_mut().poll(&mut context).is_ready());
        let mut already = Box::pin(pool.slots.full());
        assert!(already.as_mut().poll(&mut context).is_ready());
        drop((first, last));
        let mut full = Box::pin(pool.slots.full());
        assert!(full.as_mut().poll(&mut context).is_pending());
    }
}
