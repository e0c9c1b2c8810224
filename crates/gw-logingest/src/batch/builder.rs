use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{BufMut as _, Bytes};

use super::id::millis;
use super::{Batch, BatchId, Class, ClientId, HEAD, VERSION, event};

/// A batch in the making: events are copied behind one another into one piece of memory.
pub struct BatchBuilder {
    id: BatchId,
    client: ClientId,
    received: SystemTime,
    len: usize,
    /// What [`Batch::encoded`] will be, except for the number of events.
    encoded: Vec<u8>,
}

impl BatchBuilder {
    pub(super) fn new(id: BatchId, client: ClientId, received: SystemTime) -> Self {
        let millis = millis(received);
        let name = client.as_str().as_bytes();
        let mut encoded = Vec::with_capacity(HEAD + name.len());
        encoded.put_u8(VERSION);
        // At most `ClientId::MAX`.
        encoded.put_u8(name.len() as u8);
        encoded.put_u64_le(0);
        encoded.put_u128(id.as_u128());
        encoded.put_u64_le(millis);
        encoded.put_slice(name);
        Self {
            id,
            client,
            received: UNIX_EPOCH + Duration::from_millis(millis),
            len: 0,
            encoded,
        }
    }

    /// Adds an event. `json` is one JSON object without a line break. `id` is what the sink stores it under, so it must not
    /// be what another client's event is stored under. An id that is empty or longer than
    /// [`BatchBuilder::MAX_ID`] bytes counts as none: the event then goes by its place in the batch.
    pub fn push(&mut self, id: Option<&str>, class: Class, json: &[u8]) {
        let id = id.filter(|id| id.len() <= Self::MAX_ID).unwrap_or_default();
        event::put(&mut self.encoded, id, class, json);
        self.len += 1;
    }

    /// The longest id of an event, in bytes; search clusters take no longer ones.
    pub const MAX_ID: usize = 512;

    /// The number of events so far.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no events yet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The length of the encoded batch so far, in bytes.
    pub const fn bytes(&self) -> usize {
        self.encoded.len()
    }

    /// The batch.
    pub fn finish(self) -> Batch {
        let mut encoded = self.encoded;
        if let Some(count) = encoded.get_mut(2..10) {
            count.copy_from_slice(&(self.len as u64).to_le_bytes());
        }
        Batch {
            encoded: Bytes::from(encoded),
            events_at: HEAD + self.client.as_str().len(),
            id: self.id,
            client: self.client,
            received: self.received,
            len: self.len,
        }
    }
}

impl fmt::Debug for BatchBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchBuilder")
            .field("id", &self.id)
            .field("len", &self.len)
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}
