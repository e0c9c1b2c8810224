//! The engine in memory: nothing outlives the process.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gw_core::ConfigError;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clients::Shares;
use super::index::Index;
use super::telemetry::QueueMetrics;
use super::{
    AppendError, Durability, Leased, Outcome, Queue, QueueState, QueueStatus, Settle, Want,
};
use crate::batch::{Batch, ClientId};
use crate::telemetry::meter::QueueLabel;

/// What a batch takes beside its bytes; rather too much than too little.
const BOOKKEEPING: usize = 256;

/// A queue in memory, for tests and for logs that may be lost. Clones share the batches.
///
/// It has no thread of its own: its metrics are as fresh as the last look at its [status](Queue::status). An intake looks with
/// each request, and a consumer every five seconds. Once it is closed, they are as fresh as its last change.
#[derive(Debug, Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

/// Settings of a [`MemoryQueue`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct MemoryQueueBuilder {
    name: Option<Arc<str>>,
    max_bytes: u64,
    shares: Shares,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    metrics: QueueMetrics,
    /// Those who wait in `lease`.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    index: Index<Batch>,
    last_ticket: u64,
    closed: bool,
}

impl MemoryQueue {
    /// The settings, with defaults.
    pub const fn builder() -> MemoryQueueBuilder {
        MemoryQueueBuilder {
            name: None,
            max_bytes: 64 << 20,
            shares: Shares::DEFAULT,
        }
    }
}

impl MemoryQueueBuilder {
    /// A name, which is the label `queue` of all metrics of the queue, its intake and its consumer. Without names the gauges of several
    /// queues in one process are one, and show whichever was measured last. None by default; not empty.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The most bytes of all batches, 256 for each batch itself included; above 0. 64 MiB by default.
    pub const fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// A client may hold at most this times the free bytes, 0.001 to 1 000 000. 1 by default: one client alone gets half of the
    /// queue, two get a third each.
    pub const fn client_share(mut self, share: f64) -> Self {
        self.shares.share = share;
        self
    }

    /// Bytes that a client may hold however little is free, at most those of the queue. A sixty-fourth of them by default.
    pub const fn client_floor(mut self, bytes: u64) -> Self {
        self.shares.floor = Some(bytes);
        self
    }

    /// The most clients with an account of their own, 1 to 1 000 000, 10 000 by default. Those beyond share one, and what one client may hold:
    /// each until its batches there are gone, if there is room for an account of its own by then.
    pub const fn max_clients(mut self, clients: usize) -> Self {
        self.shares.clients = clients;
        self
    }

    /// The queue.
    ///
    /// # Errors
    ///
    /// Names the setting that cannot be used.
    pub fn build(self) -> Result<MemoryQueue, ConfigError> {
        if self.name.as_deref().is_some_and(str::is_empty) {
            return Err(ConfigError::new("name", "must not be empty"));
        }
        if self.max_bytes == 0 {
            return Err(ConfigError::new("max_bytes", "must be above zero"));
        }
        let limits = self.shares.limits(self.max_bytes)?;
        let state = State {
            index: Index::new(limits, Instant::now()),
            last_ticket: 0,
            closed: false,
        };
        let shared = Shared {
            state: Mutex::new(state),
            metrics: QueueMetrics::new(QueueLabel::named(self.name.as_deref())),
            changed: Notify::new(),
        };
        Ok(MemoryQueue {
            shared: Arc::new(shared),
        })
    }
}

impl State {
    fn status(&self) -> QueueStatus {
        let mut status = self.index.status(SystemTime::now(), Instant::now());
        if self.closed {
            status.state = QueueState::Closed;
        }
        status
    }

    /// The room for a batch of so many bytes, if one of that size is taken at all.
    fn room_of(&self, encoded: usize) -> Result<u64, AppendError> {
        if self.closed {
            return Err(AppendError::Closed);
        }
        let bytes = (encoded + BOOKKEEPING) as u64;
        let limits = self.index.limits();
        let most = limits.most(limits.capacity);
        if bytes > most {
            let limit = usize::try_from(most).unwrap_or(usize::MAX);
            return Err(AppendError::TooLarge {
                limit: limit.saturating_sub(BOOKKEEPING),
            });
        }
        Ok(bytes)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while the lock is held leaves counts that are off by one batch at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        let mut state = self.state();
        let bytes = state.room_of(batch.encoded().len())?;
        let promise = state.index.admit(batch.client(), bytes, Instant::now())?;
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        let (events, received) = (batch.len() as u64, batch.received());
        state.index.insert(promise, ticket, events, received, batch);
        drop(state);
        self.changed.notify_waiters();
        Ok(Durability::Memory)
    }

    fn try_lease(&self, want: Want) -> Option<Vec<(u64, Batch)>> {
        let mut state = self.state();
        let taken = state.index.lease(want);
        let over = state.closed && state.index.is_empty();
        (over || !taken.is_empty()).then_some(taken)
    }
}

impl Settle for Shared {
    fn settle(&self, ticket: u64, outcome: Outcome) {
        let mut state = self.state();
        let changed = match outcome {
            Outcome::Acknowledged => {
                drop(state.index.acknowledge(ticket, Instant::now()));
                // Those who wait to lease learn that nothing is left to wait for.
                state.closed && state.index.is_empty()
            }
            Outcome::Returned => state.index.give_back(ticket),
        };
        if state.closed {
            // Whoever delivers the last batches ends with them: nobody looks any more. Under the lock, so that what is measured
            // last is the last.
            self.metrics.status(&state.status());
        }
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
    }
}

impl Queue for MemoryQueue {
    async fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        self.shared.append(batch)
    }

    async fn lease(&self, want: Want) -> Vec<Leased> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            if let Some(taken) = self.shared.try_lease(want) {
                let lease = |(ticket, batch)| {
                    Leased::new(batch, Arc::<Shared>::clone(&self.shared), ticket)
                };
                return taken.into_iter().map(lease).collect();
            }
            changed.await;
        }
    }

    fn has_room(&self, client: &ClientId, bytes: usize) -> Result<(), AppendError> {
        let state = self.shared.state();
        let bytes = state.room_of(bytes)?;
        state
            .index
            .room_for(client, bytes, Instant::now())
            .map(drop)
    }

    fn status(&self) -> QueueStatus {
        let status = self.shared.state().status();
        self.shared.metrics.status(&status);
        status
    }

    fn hold(&self, client: &ClientId) {
        self.shared.state().index.hold(client);
    }

    fn release(&self, client: &ClientId) {
        self.shared.state().index.release(client);
        self.shared.changed.notify_waiters();
    }

    fn close(&self) {
        let mut state = self.shared.state();
        state.closed = true;
        self.shared.metrics.status(&state.status());
        drop(state);
        self.shared.changed.notify_waiters();
    }

    fn name(&self) -> Option<&str> {
        self.shared.metrics.name()
    }
}
