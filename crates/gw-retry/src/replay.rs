//! Sending a request's body again.

mod body;
mod pool;
mod source;

pub use self::body::ReplayBody;
pub use self::pool::ReplayPool;
pub(crate) use self::source::{Replayable, Slot, Source};
