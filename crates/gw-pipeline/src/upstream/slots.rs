//! Who may be in flight, and who waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::config::PoolConfig;
use super::error::{Error, ErrorKind};
use super::limits::later;

/// The places of one upstream: so many requests in flight, and a bounded queue in order of arrival behind them.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    queued: AtomicUsize,
    config: PoolConfig,
}

/// A request in flight. Dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
}

/// A place in the queue; dropping it gives the place back.
struct Ticket<'a>(&'a AtomicUsize);

impl Slots {
    pub(super) fn new(config: PoolConfig) -> Self {
        Self {
            free: Arc::new(Semaphore::new(config.max_connections)),
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

    /// Waits for a slot, until the queue's time is over or `end` has come.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue back.
    pub(super) async fn acquire(&self, end: Instant) -> Result<Slot, Error> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(Slot { _permit: permit });
        }
        let _ticket = self.ticket().ok_or(Error::new(ErrorKind::QueueFull))?;
        let end = end.min(later(Instant::now(), self.config.queue_timeout));
        match timeout_at(end, Arc::clone(&self.free).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Slot { _permit: permit }),
            // The semaphore is never closed.
            Ok(Err(closed)) => Err(Error::because(ErrorKind::Setup, closed)),
            Err(_) => Err(Error::new(ErrorKind::QueueTimeout)),
        }
    }

    fn ticket(&self) -> Option<Ticket<'_>> {
        // Relaxed: the count guards no other data.
        let join = |queued| (queued < self.config.queue).then_some(queued + 1);
        let joined = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, join);
        joined.ok().map(|_| Ticket(&self.queued))
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

    use super::*;

    fn slots(max_connections: usize, queue: usize) -> Slots {
        Slots::new(PoolConfig {
            max_connections,
            queue,
            ..PoolConfig::default()
        })
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_the_queue_timeout_and_no_longer() {
        let slots = slots(1, 1);
        let held = slots.acquire(far()).await.unwrap();
        let start = Instant::now();
        let error = slots.acquire(far()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        assert_eq!((slots.in_flight(), slots.queued()), (1, 0));
        drop(held);
        assert_eq!(slots.in_flight(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_attempt_ends_the_wait() {
        let slots = slots(1, 1);
        let _held = slots.acquire(far()).await.unwrap();
        let end = Instant::now() + Duration::from_millis(10);
        let error = slots.acquire(end).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueTimeout);
        assert_eq!(Instant::now(), end);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_is_bounded_and_a_waiter_that_leaves_makes_room() {
        let slots = slots(1, 1);
        let held = slots.acquire(far()).await.unwrap();
        let mut waiting = Box::pin(slots.acquire(far()));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());
        assert_eq!(slots.queued(), 1);
        let error = slots.acquire(far()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::QueueFull);
        drop(waiting);
        assert_eq!(slots.queued(), 0);
        drop(held);
        assert!(slots.acquire(far()).await.is_ok());
    }
}
