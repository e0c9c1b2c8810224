//! Where events are delivered to: the trait, a search cluster, and a file.
//!
//! A sink tries once and says what became of each event. Whether and when to try again is decided by the
//! [`Consumer`](crate::consumer::Consumer).

#[cfg(feature = "elasticsearch")]
#[cfg_attr(docsrs, doc(cfg(feature = "elasticsearch")))]
pub mod elasticsearch;
mod file;
mod lines;
mod reason;

use std::sync::Arc;
use std::time::Duration;

pub use self::file::FileSink;
pub(crate) use self::lines::{LinesFile, SharedLines};
pub use self::reason::Reason;

use crate::batch::Event;

/// Takes events out of the house.
pub trait Sink: Send + Sync + 'static {
    /// Tries once to deliver these events, and returns within a time of its own.
    ///
    /// An event may be offered again with the same id after a delivery whose answer was lost: a sink that can tell
    /// says [`Item::Duplicate`] then.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, any of the events may have been delivered; they will be offered again.
    fn deliver(&self, events: &[Event]) -> impl Future<Output = Delivery> + Send;
}

/// What became of a request to the sink.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery {
    /// What became of each event, in the order of the events. Events without an entry are tried again.
    Items(Vec<Item>),
    /// The request is larger than the sink takes; nothing was delivered. The next ones are smaller, and from time to time a single
    /// one is larger, to see whether the sink takes more by now.
    TooLarge,
    /// The sink understands none of the request because of something in it; nothing was delivered. It is cut in halves until the
    /// event that is to blame is alone.
    Refused(Reason),
    /// Try all again. Some may have been delivered.
    Retry {
        /// Not before this time has passed; the sink asked for it. At most an hour is heeded.
        after: Option<Duration>,
        /// What went wrong.
        fault: Fault,
    },
    /// The sink takes nothing until somebody changes its configuration or ours; nothing was delivered.
    Blocked(Reason),
}

/// What became of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// The sink has it.
    Delivered,
    /// The sink had it before.
    Duplicate,
    /// The sink put it aside on its own side, because it does not fit.
    Redirected,
    /// Not now.
    Retry,
    /// Never: it does not fit.
    Rejected(Reason),
    /// Not until somebody changes the configuration.
    Blocked(Reason),
}

/// Why a whole request is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// It is asked too much (429).
    Throttled,
    /// It cannot at present (5xx).
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// There was no connection, or it broke.
    Connection,
    /// What it answered makes no sense.
    Garbled,
}

impl Fault {
    /// The name: `throttled`, `unavailable`, `timeout`, `connection` or `garbled`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Garbled => "garbled",
        }
    }
}

impl<S: Sink> Sink for Arc<S> {
    fn deliver(&self, events: &[Event]) -> impl Future<Output = Delivery> + Send {
        S::deliver(self, events)
    }
}
