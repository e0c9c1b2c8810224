use std::time::Duration;

use super::clients::part;
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
    /// Bytes of memory for what is known of batches that are elsewhere, on disk say, and of their clients; rather too many than
    /// too few.
    pub memory: u64,
    /// The most of them, if the queue has a bound for that. At it, it is as full as with all its bytes in use.
    pub max_memory: Option<u64>,
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
    /// The part of the queue that is in use, 0 to 1, or more if it was opened with more than it takes: of its bytes or of its
    /// memory, whichever is the fuller.
    pub fn fullness(&self) -> f64 {
        self.filled() as f64 / self.capacity.max(1) as f64
    }

    /// The bytes in use or, if that is more of the capacity, what the memory in use is worth of it.
    pub(crate) fn filled(&self) -> u64 {
        let worth = |most| part(self.memory, most, self.capacity);
        self.bytes.max(self.max_memory.map_or(0, worth))
    }

    /// How long it takes until there is room for so many more of [`filled`](Self::filled), as far as a client is told. If memory
    /// is short, that is there once its part of the bytes is delivered.
    pub(crate) fn time_to_free(&self, room: u64) -> Duration {
        let bytes = part(room, self.filled(), self.bytes);
        if self.drain_rate > 0.0 {
            drain::wait(bytes as f64, self.drain_rate)
        } else {
            drain::UNKNOWN
        }
    }
}
