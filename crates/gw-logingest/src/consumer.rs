//! The consumer: leases batches from the queue and hands their events to a sink until each is settled.
//!
//! A batch is acknowledged only when all of its events are in the sink or durably among the dead letters. What the sink
//! refuses for now is tried again alone, without its neighbours. A request that it refuses whole, for what is in it, is cut in halves
//! until what is to blame is alone, unless nothing else passes either. When the sink takes nothing, one request at a time probes
//! it; when the configuration is wrong, or the dead letters fill their store, the consumer pauses and loses nothing. A client
//! whose dead letters take all that one client may, or whose batches fill the consumer's hands while what is left of them is refused, is
//! left alone for a while, and tried again; its batches are in the queue.
//!
//! # Metrics
//!
//! With the feature `metrics`, all with the label `queue` besides if the queue has a name:
//!
//! | name (prefix `gateway_logingest_`) | kind | labels | what |
//! |---|---|---|---|
//! | `sink_requests_total` | counter | `code` | requests to the sink, by the class of the answer: `2xx`, `413`, `429`, `4xx`, `5xx`, `timeout`, `error` for a connection that failed, `other` |
//! | `sink_items_total` | counter | `outcome` | events, by what became of them: `delivered` (what the sink put aside as well), `duplicate`, `dead`; `retried` each time that one is tried again |
//! | `sink_rtt_seconds` | histogram | | time from a request to its answer |
//! | `sink_concurrency_limit` | gauge | | the most requests at once |
//! | `sink_paused` | gauge | | 1 while [blocked](ConsumerState::Blocked) or [stuck](ConsumerState::DeadLettersStuck), else 0 |
//! | `dlq_events_total` | counter | `reason` | events that became dead letters: `rejected`, `too_large` |
//! | `dlq_held_clients` | gauge | | clients that are left alone for a while |

mod backlog;
mod backoff;
mod builder;
mod concurrency;
mod desk;
mod held;
mod judge;
mod pace;
mod size;
mod status;
mod telemetry;

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

pub use self::builder::ConsumerBuilder;
pub use self::status::{ConsumerHandle, ConsumerState, ConsumerStatus};

use self::builder::Settings;
use self::desk::{Desk, Ended};
use self::held::Held;
use self::status::Shared;
use crate::dead_letter::DeadLetters;
use crate::queue::{Leased, Queue};
use crate::sink::Sink;
use crate::telemetry::meter::QueueLabel;

/// How often the consumer looks at its queue, so that the metrics of one without a thread are true while nothing moves.
const LOOK: Duration = Duration::from_secs(5);

/// Delivers from a queue to a sink. See the [module](self).
pub struct Consumer<Q, S, D> {
    queue: Q,
    sink: Arc<S>,
    dead_letters: Arc<D>,
    settings: Settings,
    shared: Arc<Shared>,
}

impl Consumer<(), (), ()> {
    /// A consumer between this queue and this sink. It also needs a place for
    /// [dead letters](ConsumerBuilder::dead_letters).
    pub fn builder<Q, S>(queue: Q, sink: S) -> ConsumerBuilder<Q, S, ()> {
        ConsumerBuilder::new(queue, sink)
    }
}

impl<Q: Queue, S: Sink, D: DeadLetters> Consumer<Q, S, D> {
    /// Shows how delivery stands, during [`run`](Self::run) and after.
    pub fn handle(&self) -> ConsumerHandle {
        ConsumerHandle::new(self.shared.clone())
    }

    /// Delivers until `shutdown` is ready, or the queue is closed and empty. On shutdown it starts nothing new, waits a
    /// bounded time for the requests under way, and gives batches that are not done back to the queue.
    ///
    /// The sink is called in tasks of the current runtime.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, requests under way are abandoned and all batches that are not done go back to the queue.
    /// Their events may be in the sink already and will be sent again under the same ids.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        // Kept over the rounds of the loop, so that no round throws away what the queue has begun to read.
        let mut leasing = pin!(None);
        let mut drained = false;
        let mut look_at = Instant::now() + LOOK;
        let measured = QueueLabel::named(self.queue.name());
        let mut desk = Desk::new(
            self.sink,
            self.dead_letters,
            self.settings,
            self.shared,
            &measured,
        );
        let mut held = Held::new(&self.queue);
        loop {
            let now = Instant::now();
            held.release(now);
            for client in desk.take_to_hold() {
                held.hold(client, now + desk.pause());
            }
            desk.held_clients(held.len());
            desk.start_what_may(now);
            if look_at <= now {
                let _ = self.queue.status();
                look_at = now + LOOK;
            }
            if drained && desk.is_idle() {
                break;
            }
            if leasing.is_none() && !drained {
                leasing.set(desk.wants().map(|want| self.queue.lease(want)));
            }
            let times = [desk.next_time(now), held.next_time()];
            let wake_at = times.into_iter().flatten().fold(look_at, Instant::min);
            let mut wake = pin!(sleep_until(wake_at));
            let next = poll_fn(|cx| {
                if shutdown.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Shutdown);
                }
                // Before what has ended, or requests that end together would find one request's worth to go on with.
                if let Some(leasing) = leasing.as_mut().as_pin_mut()
                    && let Poll::Ready(leased) = leasing.poll(cx)
                {
                    return Poll::Ready(Next::Leased(leased));
                }
                // Without tasks this is ready at once, with nothing.
                if let Poll::Ready(Some(ended)) = desk.poll_ended(cx) {
                    return Poll::Ready(Next::Ended(ended));
                }
                wake.as_mut().poll(cx).map(|()| Next::Time)
            });
            match next.await {
                Next::Shutdown => break,
                Next::Ended(ended) => desk.settle(ended, Instant::now()),
                Next::Leased(leased) => {
                    leasing.set(None);
                    drained = leased.is_empty();
                    desk.take_in(leased, Instant::now());
                }
                Next::Time => {}
            }
        }
        let grace = desk.stop();
        let finish = async {
            while let Some(ended) = poll_fn(|cx| desk.poll_ended(cx)).await {
                desk.settle(ended, Instant::now());
                desk.start_what_may(Instant::now());
            }
        };
        // What does not end in time is abandoned: its batches go back with the desk.
        let _in_time = timeout(grace, finish).await.is_ok();
    }
}

/// What the consumer waited for.
enum Next {
    Shutdown,
    Ended(Ended),
    Leased(Vec<Leased>),
    Time,
}

impl<Q, S, D> fmt::Debug for Consumer<Q, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
