//! The tasks of HTTP/2 requests, and the end of those whose client does not take its answer.
//!
//! On HTTP/1 such a client is seen at the socket. On HTTP/2 it may keep one stream's window closed while the socket is
//! free, and only the stream's own task knows.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::closed::Counters;
use super::link::Link;
use super::registry::Registry;
use crate::waker::{remember, wake};

/// Whose turn it is to move an answer on, and what of it the client has not taken.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Odd when a piece waits for the client. The body counts by one and the task watches, both on one task, one after the other. The
    /// connection's task counts by two.
    turn: AtomicU32,
    /// The connection's task counts as well.
    lent: Mutex<Lent>,
}

/// What the connection has.
#[derive(Debug, Default)]
struct Lent {
    pieces: usize,
    /// Who waits for there to be none.
    end: Option<Waker>,
}

impl Turns {
    /// The body is asked for more, so the client has taken what there was.
    pub(super) fn asked(&self) {
        if self.waits_for_client().is_some() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The body has handed out a piece, or waits for the client to take the last ones.
    pub(super) fn handed_out(&self) {
        if self.waits_for_client().is_none() {
            self.turn.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The number of the turn, if it is the client's.
    fn waits_for_client(&self) -> Option<u32> {
        Some(self.turn.load(Ordering::Relaxed)).filter(|turn| turn % 2 == 1)
    }

    /// Ready when the client has taken all pieces that were counted.
    pub(super) fn poll_taken(&self, cx: &Context<'_>) -> Poll<()> {
        let mut lent = self.lent();
        if lent.pieces == 0 {
            return Poll::Ready(());
        }
        let replaced = remember(&mut lent.end, cx);
        drop(lent);
        drop(replaced);
        Poll::Pending
    }

    pub(super) fn has_untaken(&self) -> bool {
        self.lent().pieces > 0
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Goes with a piece, which the connection drops when the client has taken it or the stream has been reset.
#[derive(Debug)]
pub(super) struct Untaken(Arc<Turns>);

impl Untaken {
    pub(super) fn new(turns: &Arc<Turns>) -> Self {
        turns.lent().pieces += 1;
        Self(Arc::clone(turns))
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        // What is left has the whole time from now on. Whose turn it is stays, and the timer sees the change when it is over.
        self.0.turn.fetch_add(2, Ordering::Relaxed);
        let mut lent = self.0.lent();
        lent.pieces = lent.pieces.saturating_sub(1);
        let end = match lent.pieces {
            0 => lent.end.take(),
            _ => None,
        };
        drop(lent);
        wake(end);
    }
}

/// Spawns the tasks of one HTTP/2 connection for hyper.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    link: Arc<Link>,
    registry: Arc<Registry>,
}

impl Streams {
    pub(super) const fn new(link: Arc<Link>, registry: Arc<Registry>) -> Self {
        Self { link, registry }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        // hyper calls the service and spawns the task for its answer in one go, so what the service has just
        // announced belongs to this task. Other tasks (of CONNECT tunnels) are not announced.
        match self.link.take_stream() {
            Some(turns) => drop(tokio::spawn(StreamTask {
                task: future,
                turns,
                registry: Arc::clone(&self.registry),
                timer: None,
                timed: None,
            })),
            None => drop(tokio::spawn(future)),
        }
    }
}

pin_project! {
    /// Runs a request's task, and drops it when the client does not take its answer. hyper resets the stream then.
    struct StreamTask<F> {
        #[pin]
        task: F,
        turns: Arc<Turns>,
        registry: Arc<Registry>,
        // Made only once an answer has to wait.
        timer: Option<Pin<Box<Sleep>>>,
        // The turn that the timer runs for.
        timed: Option<u32>,
    }
}

impl<F: Future<Output = ()>> Future for StreamTask<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.task.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let turn = this.turns.waits_for_client();
        if turn.is_none() {
            // A timer that still runs is left alone: its wake-up finds nothing to do.
            *this.timed = None;
            return Poll::Pending;
        }
        let limit: Duration = this.registry.config.timers.write_stall;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if *this.timed != turn {
            *this.timed = turn;
            timer.as_mut().reset(Instant::now() + limit);
        }
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Counters::count(&this.registry.counters.stalled_streams);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::ServerConfig;

    /// A task that never ends, and drops a token when it is dropped.
    fn stuck(
        turns: &Arc<Turns>,
    ) -> (
        Pin<Box<StreamTask<impl Future<Output = ()>>>>,
        Arc<Registry>,
    ) {
        let registry = Arc::new(Registry::new(ServerConfig::default()));
        let task = StreamTask {
            task: std::future::pending(),
            turns: Arc::clone(turns),
            registry: Arc::clone(&registry),
            timer: None,
            timed: None,
        };
        (Box::pin(task), registry)
    }

    fn poll(task: &mut Pin<Box<StreamTask<impl Future<Output = ()>>>>) -> Poll<()> {
        task.as_mut()
            .poll(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_upstream_is_never_the_clients_fault() {
        let turns = Arc::new(Turns::default());
        let (mut task, _) = stuck(&turns);
        turns.asked();
        for _ in 0..10 {
            assert!(poll(&mut task).is_pending());
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert!(task.timer.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_not_taken_in_time_ends_the_stream() {
        let turns = Arc::new(Turns::default());
        let (mut task, registry) = stuck(&turns);
        for _ in 0..3 {
            turns.asked();
            turns.handed_out();
            assert!(poll(&mut task).is_pending());
            tokio::time::advance(Duration::from_secs(9)).await;
            assert!(poll(&mut task).is_pending(), "each piece has its own time");
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(poll(&mut task).is_ready());
        assert_eq!(registry.counters.stalled_streams.load(Ordering::Relaxed), 1);
    }

    /// Story: the end of an answer had one time for all that had not been taken, and who read slowly and steadily was cut.
    #[tokio::test(start_paused = true)]
    async fn each_of_the_last_pieces_has_its_own_time() {
        let turns = Arc::new(Turns::default());
        let (mut task, registry) = stuck(&turns);
        let pieces = [(); 3].map(|()| Untaken::new(&turns));
        turns.handed_out();
        for piece in pieces {
            assert!(poll(&mut task).is_pending());
            tokio::time::advance(Duration::from_secs(9)).await;
            drop(piece);
            tokio::time::advance(Duration::from_secs(2)).await;
        }
        assert!(poll(&mut task).is_pending());
        tokio::time::advance(Duration::from_secs(11)).await;
        assert!(poll(&mut task).is_ready());
        assert_eq!(registry.counters.stalled_streams.load(Ordering::Relaxed), 1);
    }
}
