//! The unit of the queue: the accepted events of one request, as the very bytes that go to disk.

mod builder;
mod event;
mod id;

use std::fmt;
use std::str;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};

pub use self::builder::BatchBuilder;
pub use self::event::{Class, Event, Events};
pub use self::id::{BatchId, ClientId, InvalidClientId};

/// The first byte of each encoded batch.
const VERSION: u8 = 1;
/// Version, length of the client, number of events, id, time of receipt.
const HEAD: usize = 1 + 1 + 8 + 16 + 8;
/// Class, length of the id, length of the JSON text.
const EVENT_HEAD: usize = 1 + 2 + 8;

/// Events that were accepted together. Cheap to clone: the clones share one piece of memory.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    encoded: Bytes,
    id: BatchId,
    client: ClientId,
    received: SystemTime,
    len: usize,
    /// Where the events begin in `encoded`.
    events_at: usize,
}

/// Bytes that are not an encoded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corrupt {
    what: &'static str,
}

impl Batch {
    /// A batch that is filled event by event. Of `received` the milliseconds since 1970 are kept.
    pub fn builder(id: BatchId, client: ClientId, received: SystemTime) -> BatchBuilder {
        BatchBuilder::new(id, client, received)
    }

    /// Reads what [`Batch::encoded`] gave. Everything is checked, so that reading the events cannot fail later. Whether
    /// the JSON texts are JSON is not checked.
    ///
    /// # Errors
    ///
    /// If the bytes are not exactly one encoded batch.
    pub fn decode(encoded: Bytes) -> Result<Self, Corrupt> {
        let mut rest: &[u8] = &encoded;
        if rest.len() < HEAD {
            return Err(Corrupt::new("too short for a batch"));
        }
        if rest.get_u8() != VERSION {
            return Err(Corrupt::new("unknown version of the batch format"));
        }
        let client = usize::from(rest.get_u8());
        let len = usize::try_from(rest.get_u64_le())
            .map_err(|_| Corrupt::new("more events than fit in memory"))?;
        let id = BatchId::from_u128(rest.get_u128());
        let received = UNIX_EPOCH
            .checked_add(Duration::from_millis(rest.get_u64_le()))
            .ok_or(Corrupt::new("time of receipt out of range"))?;
        let client = rest
            .split_off(..client)
            .and_then(|client| str::from_utf8(client).ok())
            .and_then(|client| ClientId::new(client).ok())
            .ok_or(Corrupt::new("broken client id"))?;
        for _ in 0..len {
            event::split(&mut rest).ok_or(Corrupt::new("broken event"))?;
        }
        if !rest.is_empty() {
            return Err(Corrupt::new("bytes after the last event"));
        }
        let events_at = HEAD + client.as_str().len();
        Ok(Self {
            encoded,
            id,
            client,
            received,
            len,
            events_at,
        })
    }

    /// The bytes that go to disk.
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// The id, which is also that of the receipt.
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// Who sent it.
    pub const fn client(&self) -> &ClientId {
        &self.client
    }

    /// When it was received, to the millisecond.
    pub const fn received(&self) -> SystemTime {
        self.received
    }

    /// The number of events.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The events, in the order in which they were sent.
    pub fn events(&self) -> Events<'_> {
        Events::new(self)
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("id", &self.id)
            .field("client", &self.client)
            .field("len", &self.len)
            .field("bytes", &self.encoded.len())
            .finish_non_exhaustive()
    }
}

impl Corrupt {
    pub(crate) const fn new(what: &'static str) -> Self {
        Self { what }
    }
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Corrupt {}

#[cfg(test)]
mod tests;
