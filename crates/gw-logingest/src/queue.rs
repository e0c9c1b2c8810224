//! The queue between intake and consumer: the trait, and two engines behind it.
//!
//! # Metrics
//!
//! With the feature `metrics`, all with the label `queue` if the queue has a name. Both engines have the gauges of how it stands:
//!
//! | name (prefix `gateway_logingest_`) | kind | what |
//! |---|---|---|
//! | `queue_bytes` | gauge | bytes that are in use |
//! | `queue_capacity_ratio` | gauge | the part that is in use, 0 to 1: of the bytes, or of the memory if that is fuller |
//! | `queue_events` | gauge | events that are not yet delivered |
//! | `queue_oldest_age_seconds` | gauge | how long ago the oldest batch was received; 0 without any |
//! | `queue_serving` | gauge | 1 while batches are taken, 0 while they cannot be stored and once it is closed |
//!
//! A [`DiskQueue`] has besides:
//!
//! | name (prefix `gateway_logingest_`) | kind | what |
//! |---|---|---|
//! | `commit_duration_seconds` | histogram | how long it took to make a group of batches durable |
//! | `commit_group_size` | histogram | batches that shared a commit |
//! | `storage_failures_total` | counter | writes and syncs that failed, and panics of the threads that write and read |
//! | `segments_broken_total` | counter | segments that were set aside as damaged, or could not be read as a whole |
//! | `unreadable_batches_total` | counter | batches that were stored and could not be read back |
//! | `moved_batches_total` | counter | batches that were copied forward so that a segment could go |
//! | `recovery_seconds` | gauge | how long it took to open the queue |
//! | `recovery_truncated_bytes_total` | counter | bytes found at opening that are no whole records |

mod ages;
pub(crate) mod clients;
mod disk;
mod drain;
mod index;
mod memory;
mod status;
pub(crate) mod telemetry;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::disk::{DiskQueue, DiskQueueBuilder, OpenError};
pub use self::memory::{MemoryQueue, MemoryQueueBuilder};
pub use self::status::{QueueState, QueueStatus};
use crate::batch::{Batch, ClientId};

/// What a stored batch outlives; the strongest is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Nothing: it is in the memory of this process.
    Memory,
    /// The end of this process, `kill -9` included: the kernel has it.
    Process,
    /// Loss of power of this host: the disk has it.
    Host,
    /// Loss of this host: others have it.
    Replicated,
}

/// Keeps batches from acceptance to delivery.
///
/// The unit is the batch. After a crash, a batch that was delivered in part is leased again whole; its events have the
/// same ids as before.
pub trait Queue: Send + Sync + 'static {
    /// Stores a batch, and resolves when the durability in the answer is reached.
    ///
    /// # Errors
    ///
    /// See [`AppendError`]; the batch is then not stored. The one exception is [`AppendError::Failing`], where the
    /// device may have kept what it reported as lost.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the batch may be stored all the same, but never half of it.
    fn append(&self, batch: Batch) -> impl Future<Output = Result<Durability, AppendError>> + Send;

    /// Takes batches for delivery, fairly between the clients; those of one client in the order of acceptance. Waits
    /// for at least one. Empty only once the queue is closed and no batch is left, neither waiting nor leased.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, nothing is taken.
    fn lease(&self, want: Want) -> impl Future<Output = Vec<Leased>> + Send;

    /// Whether it would store a batch of this client with so many encoded bytes now. Nothing is promised. The intake asks while a body
    /// arrives, so that one for which there is no room is not read to its end, and asks often: it must not block.
    ///
    /// # Errors
    ///
    /// What [`append`](Self::append) would say, but for what is over in a moment. An engine that cannot tell without the batch says yes, as
    /// this does by default.
    fn has_room(&self, client: &ClientId, bytes: usize) -> Result<(), AppendError> {
        let _ = (client, bytes);
        Ok(())
    }

    /// How it stands. An engine brings its gauges up to date with it.
    fn status(&self) -> QueueStatus;

    /// Leases nothing of this client until it is [released](Self::release). Its batches keep their places and count as
    /// before, so that a client that goes on sending meets its share. The others are leased from as before.
    fn hold(&self, client: &ClientId);

    /// Leases from this client again.
    fn release(&self, client: &ClientId);

    /// Takes no more batches. Those that are in go on being leased.
    fn close(&self);

    /// The label `queue` of all that is measured of it, of its intake and of its consumer. None unless it has a name: then there is
    /// no such label.
    fn name(&self) -> Option<&str> {
        None
    }
}

/// How much to lease. The first batch is leased whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// The most bytes of encoded batches.
    pub bytes: usize,
    /// The most events.
    pub events: usize,
}

/// Why a batch was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// There is no room for anybody, on disk or in the memory for what is known of batches.
    Full {
        /// When there is likely to be room.
        retry_after: Duration,
    },
    /// This client holds its share of the queue.
    OverShare {
        /// When the client is likely to have room.
        retry_after: Duration,
    },
    /// The batch is larger than the queue takes, or than one client may ever hold.
    TooLarge {
        /// The most bytes of an encoded batch.
        limit: usize,
    },
    /// The device does not store, or not as fast as batches come.
    Failing {
        /// When to try again.
        retry_after: Duration,
    },
    /// The queue was closed.
    Closed,
}

/// A batch in delivery. Dropped without [`Leased::acknowledge`], it is available again, in its old place.
#[must_use = "a lease that is dropped gives the batch back"]
pub struct Leased {
    batch: Batch,
    claim: Claim,
}

/// How an engine learns what became of a lease. Called once for each ticket, from any thread; it must not block.
pub trait Settle: Send + Sync {
    /// Ends the lease with this ticket.
    fn settle(&self, ticket: u64, outcome: Outcome);
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Delivered: the batch can be forgotten.
    Acknowledged,
    /// Not delivered: the batch is available again.
    Returned,
}

/// A leased place in the index of an engine; gives it back when dropped.
pub(crate) struct Claim {
    settle: Option<Arc<dyn Settle>>,
    ticket: u64,
}

impl Durability {
    /// The name: `memory`, `process`, `host` or `replicated`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Process => "process",
            Self::Host => "host",
            Self::Replicated => "replicated",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<Q: Queue> Queue for Arc<Q> {
    fn append(&self, batch: Batch) -> impl Future<Output = Result<Durability, AppendError>> + Send {
        Q::append(self, batch)
    }

    fn lease(&self, want: Want) -> impl Future<Output = Vec<Leased>> + Send {
        Q::lease(self, want)
    }

    fn has_room(&self, client: &ClientId, bytes: usize) -> Result<(), AppendError> {
        Q::has_room(self, client, bytes)
    }

    fn status(&self) -> QueueStatus {
        Q::status(self)
    }

    fn hold(&self, client: &ClientId) {
        Q::hold(self, client);
    }

    fn release(&self, client: &ClientId) {
        Q::release(self, client);
    }

    fn close(&self) {
        Q::close(self);
    }

    fn name(&self) -> Option<&str> {
        Q::name(self)
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { .. } => f.write_str("the queue is full"),
            Self::OverShare { .. } => f.write_str("the client holds its share of the queue"),
            Self::TooLarge { limit } => write!(f, "the batch is larger than {limit} bytes"),
            Self::Failing { .. } => f.write_str("the queue cannot store at present"),
            Self::Closed => f.write_str("the queue is closed"),
        }
    }
}

impl std::error::Error for AppendError {}

impl Leased {
    /// A lease of an engine: `settle` is told with `ticket` what becomes of it.
    pub fn new(batch: Batch, settle: Arc<dyn Settle>, ticket: u64) -> Self {
        Self::claimed(batch, Claim::new(settle, ticket))
    }

    pub(crate) const fn claimed(batch: Batch, claim: Claim) -> Self {
        Self { batch, claim }
    }

    /// The batch.
    pub const fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The batch was delivered: the queue forgets it.
    pub fn acknowledge(self) {
        self.claim.acknowledge();
    }
}

impl fmt::Debug for Leased {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leased")
            .field("batch", &self.batch)
            .finish_non_exhaustive()
    }
}

impl Claim {
    pub(crate) fn new(settle: Arc<dyn Settle>, ticket: u64) -> Self {
        let settle = Some(settle);
        Self { settle, ticket }
    }

    fn acknowledge(mut self) {
        self.end(Outcome::Acknowledged);
    }

    /// The ticket; the engine settles it itself.
    pub(crate) fn disarm(mut self) -> u64 {
        self.settle = None;
        self.ticket
    }

    fn end(&mut self, outcome: Outcome) {
        if let Some(settle) = self.settle.take() {
            settle.settle(self.ticket, outcome);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.end(Outcome::Returned);
    }
}

#[cfg(test)]
mod tests;
