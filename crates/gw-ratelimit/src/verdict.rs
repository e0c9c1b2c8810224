//! What an algorithm says of a request and of a key.

/// What a request may do. Each variant holds the key's state from here on: changed only if the request is allowed.
///
/// A state is a number that only the algorithm can read which made it; 0 stands for a key that was never seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Allow {
        /// The new state.
        state: u64,
    },
    /// It may not pass now.
    Deny {
        /// The state as it was.
        state: u64,
        /// How long until it could pass, in nanoseconds, if nothing else is charged in between.
        wait: u64,
    },
    /// It costs more than can ever be spent at once, and will never pass.
    DenyForever {
        /// The state as it was.
        state: u64,
    },
}

/// What a key has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balance {
    /// The cells that could be spent at once.
    pub remaining: u32,
    /// The time within which no more than `remaining` should be spent so as not to be refused, in nanoseconds; if
    /// nothing remains, the time to the next cell.
    pub window: u64,
    /// The time until everything is back, in nanoseconds.
    pub reset_after: u64,
}
