use std::borrow::Cow;
use std::fmt;
use std::str;
use std::time::SystemTime;

use bytes::{Buf as _, BufMut as _, Bytes};

use super::{Batch, BatchBuilder, BatchId, ClientId, EVENT_HEAD};

/// What an event is worth when not everything can be kept; the most valuable is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A summary of a client's failed uploads. It is dropped first: it must never feed the failure that it reports.
    Own,
    /// Level debug or trace.
    Debug,
    /// Everything else.
    Normal,
    /// Level error or fatal.
    Error,
    /// An audit record.
    Audit,
}

/// One event of a [`Batch`]. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    batch: BatchId,
    client: ClientId,
    index: usize,
    received: SystemTime,
    class: Class,
    /// UTF-8; empty if the client gave none.
    id: Bytes,
    json: Bytes,
}

/// The events of a batch, see [`Batch::events`].
#[derive(Debug, Clone)]
pub struct Events<'a> {
    batch: &'a Batch,
    index: usize,
    rest: &'a [u8],
}

/// An event as it lies in an encoded batch.
pub(super) struct Raw<'a> {
    class: Class,
    id: &'a str,
    json: &'a [u8],
}

impl Class {
    /// All classes, the most valuable first.
    pub const ALL: [Self; 5] = [
        Self::Audit,
        Self::Error,
        Self::Normal,
        Self::Debug,
        Self::Own,
    ];

    /// The name: `audit`, `error`, `normal`, `debug` or `self`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Error => "error",
            Self::Normal => "normal",
            Self::Debug => "debug",
            Self::Own => "self",
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Own => 0,
            Self::Debug => 1,
            Self::Normal => 2,
            Self::Error => 3,
            Self::Audit => 4,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.code() == code)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Event {
    /// The id under which the sink stores it: the one that it came into the batch with, or else
    /// `<id of the batch>-<place in the batch>`. It is the same each time the batch is leased.
    pub fn id(&self) -> Cow<'_, str> {
        if self.id.is_empty() {
            Cow::Owned(format!("{}-{}", self.batch, self.index))
        } else {
            String::from_utf8_lossy(&self.id)
        }
    }

    /// What it is worth.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// One JSON object, without a line break.
    pub const fn json(&self) -> &Bytes {
        &self.json
    }

    /// The place in the batch, from 0.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The batch that it came with.
    pub const fn batch(&self) -> BatchId {
        self.batch
    }

    /// Who sent it.
    pub const fn client(&self) -> &ClientId {
        &self.client
    }

    /// When its batch was received, to the millisecond.
    pub const fn received(&self) -> SystemTime {
        self.received
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("id", &self.id())
            .field("class", &self.class)
            .field("bytes", &self.json.len())
            .finish_non_exhaustive()
    }
}

impl<'a> Events<'a> {
    pub(super) fn new(batch: &'a Batch) -> Self {
        Self {
            batch,
            index: 0,
            rest: batch.encoded.get(batch.events_at..).unwrap_or_default(),
        }
    }
}

impl Iterator for Events<'_> {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let Raw { class, id, json } = split(&mut self.rest)?;
        let event = Event {
            batch: self.batch.id,
            client: self.batch.client.clone(),
            index: self.index,
            received: self.batch.received,
            class,
            id: self.batch.encoded.slice_ref(id.as_bytes()),
            json: self.batch.encoded.slice_ref(json),
        };
        self.index += 1;
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.batch.len.saturating_sub(self.index);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Events<'_> {}

/// Appends an event; [`split`] is the other half.
pub(super) fn put(encoded: &mut Vec<u8>, id: &str, class: Class, json: &[u8]) {
    encoded.reserve(EVENT_HEAD + id.len() + json.len());
    encoded.put_u8(class.code());
    // At most `BatchBuilder::MAX_ID`.
    encoded.put_u16_le(id.len() as u16);
    encoded.put_u64_le(json.len() as u64);
    encoded.put_slice(id.as_bytes());
    encoded.put_slice(json);
}

/// Takes the next event off the front.
pub(super) fn split<'a>(rest: &mut &'a [u8]) -> Option<Raw<'a>> {
    let mut head = rest.split_off(..EVENT_HEAD)?;
    let class = Class::from_code(head.get_u8())?;
    let id = usize::from(head.get_u16_le());
    let json = usize::try_from(head.get_u64_le()).ok()?;
    if id > BatchBuilder::MAX_ID {
        return None;
    }
    let id = str::from_utf8(rest.split_off(..id)?).ok()?;
    let json = rest.split_off(..json)?;
    Some(Raw { class, id, json })
}
