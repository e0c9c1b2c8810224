//! Who may be in flight, and who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, ErrorKind};
use super::limits::{Limits, later};
use super::pool::Pool;
use super::pool_config::PoolConfig;

/// The places of one upstream: so many requests in flight, and a bounded queue in order of arrival behind them.
#[derive(Debug)]
pub(super) struct Slots {
    free: Semaphore,
    queued: AtomicUsize,
    config: PoolConfig,
}

/// A request in flight. Dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) pool: Arc<Pool>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.pool.slots.free.add_permits(1);
    }
}

/// A place in the queue; dropping it gives the place back.
struct Ticket<'a>(&'a AtomicUsize);

impl Slots {
    pub(super) const fn new(config: PoolConfig) -> Self {
        Self {
            free: Semaphore::const_new(config.max_connections),
            queued: AtomicUsize::new(0),
            config,
        }
    }

    pub(super) fn in_flight(&self) -> usize {
        self.config
            .max_connections
            .saturating_sub(self.free.available_permits())
    }

    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    fn ticket(&self) -> Option<Ticket<'_>> {
        // Relaxed: the count guards no other data.
        let join = |queued| (queued < self.config.queue).then_some(queued + 1);
        let joined = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, join);
        joined.ok().map(|_| Ticket(&self.queued))
    }

    /// Waits for a permit, which is forgotten: who got it owes it.
    async fn wait(&self, limits: &Limits) -> Result<(), Error> {
        let _ticket = self.ticket().ok_or(Error::new(ErrorKind::QueueFull))?;
        let (end, kind) = limits.queue_due(later(Instant::now(), self.config.queue_timeout));
        match timeout_at(end, self.free.acquire()).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(())
            }
            // The semaphore is never closed.
            Ok(Err(closed)) => Err(Error::because(ErrorKind::Setup, closed)),
            Err(_) => Err(Error::new(kind)),
        }
    }
}

impl Pool {
    /// A slot, if one is free and nobody waits for it. The pool is in it, or comes back: each reference is counted by all
    /// threads.
    pub(super) fn try_slot(self: Arc<Self>) -> Result<Slot, Arc<Self>> {
        let Ok(permit) = self.slots.free.try_acquire() else {
            return Err(self);
        };
        permit.forget();
        Ok(Slot { pool: self })
    }

    /// Waits for a slot, until the time of the queue or that of the attempt is over.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue back.
    pub(super) async fn slot(self: &Arc<Self>, limits: &Limits) -> Result<Slot, Error> {
        self.slots.wait(limits).await?;
        let pool = Arc::clone(self);
        Ok(Slot { pool })
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
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
}
