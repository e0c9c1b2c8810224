//! Where events go that the sink will never take.
//!
//! A store is bounded, and so is what one client may take of it: as much as is free, as in a queue. At a client's bound the
//! client's batches wait in the queue and the others go on; at the bound of the store the consumer pauses. Either way the
//! events stay in the queue, it fills, and the intake says so, to that client or to all. Nothing is lost silently, and somebody
//! has to look at the letters.

mod accounts;
mod file;
mod queue;

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

pub use self::file::DeadLetterFile;
pub use self::queue::DeadLetterQueue;

use crate::batch::Event;
use crate::json::write_string;
use crate::sink::Reason;

/// Keeps dead letters so that they survive what the queue survives.
pub trait DeadLetters: Send + Sync + 'static {
    /// Keeps those of these that it can, and returns what became of each, in their order, once what is kept is durable.
    /// Letters without an entry count as not kept.
    ///
    /// A letter that is not kept comes again, and may have been kept all the same: a store may hold it twice.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, any of the letters may have been kept; they will come again.
    fn keep(
        &self,
        letters: &[DeadLetter],
    ) -> impl Future<Output = Vec<Result<(), KeepError>>> + Send;
}

/// An event that the sink will never take, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    event: Event,
    reason: Reason,
}

/// Why a dead letter was not kept.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum KeepError {
    /// The store holds as much as it may. Nothing is delivered until there is room.
    Full,
    /// The store holds as much of this client's letters as it may, or the letter is larger than what it ever takes. Nothing
    /// of this client is delivered until there is room; the others go on.
    OverShare,
    /// The store cannot write. Nothing is delivered until it can.
    Failed(Arc<io::Error>),
}

impl DeadLetter {
    /// A letter.
    pub const fn new(event: Event, reason: Reason) -> Self {
        Self { event, reason }
    }

    /// The event.
    pub const fn event(&self) -> &Event {
        &self.event
    }

    /// Why it is here.
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// The letter as one JSON object without a line break:
    /// `{"reason":{"status":400,"kind":"..","message":".."},"client":"..","batch":"..","_id":"..","_source":{..}}`.
    pub fn to_json(&self) -> Vec<u8> {
        let Self { event, reason } = self;
        let status = reason
            .status()
            .map_or_else(|| "null".to_owned(), |status| status.to_string());
        let mut json = format!("{{\"reason\":{{\"status\":{status}").into_bytes();
        for (name, text) in [
            (",\"kind\":", reason.kind()),
            (",\"message\":", reason.message()),
            ("},\"client\":", event.client().as_str()),
            (",\"batch\":", &event.batch().to_string()),
            (",\"_id\":", &event.id()),
        ] {
            json.extend_from_slice(name.as_bytes());
            write_string(&mut json, text);
        }
        json.extend_from_slice(b",\"_source\":");
        json.extend_from_slice(event.json());
        json.push(b'}');
        json
    }
}

impl fmt::Display for KeepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the dead letters fill their store"),
            Self::OverShare => {
                f.write_str("the client's dead letters fill its share of their store")
            }
            Self::Failed(_) => f.write_str("the store of the dead letters cannot write"),
        }
    }
}

impl Error for KeepError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Full | Self::OverShare => None,
            Self::Failed(error) => Some(&**error),
        }
    }
}

impl<D: DeadLetters> DeadLetters for Arc<D> {
    fn keep(
        &self,
        letters: &[DeadLetter],
    ) -> impl Future<Output = Vec<Result<(), KeepError>>> + Send {
        D::keep(self, letters)
    }
}
