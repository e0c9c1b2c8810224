use std::time::Duration;

use super::drain;

/// Whether a queue takes batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum QueueState {
    /// It does.
    #[default]
    Serving,
    /// Nothing can be stored. A device that does not store is tried again from time to time. If the thread that writes has
    /// panicked, this lasts until the queue is opened anew; what is stored can still be leased.
    Failing,
    /// It was closed.
    Closed,
}

/// How a queue stands.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Bytes in use. On disk these are the bytes of files, delivered batches that are not yet removed included.
    pub bytes: u64,
    /// The most bytes.
    pub capacity: u64,
    /// Events that are not yet delivered.
    pub events: u64,
    /// Batches that are not yet delivered, leased ones included.
    pub batches: u64,
    /// Batches in delivery.
    pub leased: u64,
    /// How long ago the oldest batch was received.
    pub oldest: Option<Duration>,
    /// Bytes delivered in a second, of late.
    pub drain_rate: f64,
    /// Whether it takes batches.
    pub state: QueueState,
}

impl QueueStatus {
    /// How long it takes until so many bytes are free, as far as a client is told.
    pub(crate) fn time_to_free(&self, bytes: f64) -> Duration {
        if self.drain_rate > 0.0 {
            drain::wait(bytes, self.drain_rate)
        } else {
            drain::UNKNOWN
        }
    }
}
