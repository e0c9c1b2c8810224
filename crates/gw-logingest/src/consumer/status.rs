use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sink::Reason;

/// Shows how delivery stands. Clones show the same.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
}

/// How delivery stands: numbers of events since the start, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStatus {
    /// Taken from the queue.
    pub leased: u64,
    /// In the sink since.
    pub delivered: u64,
    /// In the sink before.
    pub duplicates: u64,
    /// Put aside by the sink on its own side.
    pub redirected: u64,
    /// Durably among the dead letters.
    pub dead: u64,
    /// Given back to the queue undone.
    pub returned: u64,
    /// In hand now.
    pub in_hand: u64,
    /// Clients of which nothing is delivered for now, because their dead letters take all that they may, or because their batches
    /// filled the consumer's hands and the sink took nothing of what was left of them.
    pub held_clients: usize,
    /// How often an event was not taken and is tried again.
    pub retried: u64,
    /// Requests to the sink that have ended.
    pub requests: u64,
    /// How many requests may run at once now.
    pub concurrency: usize,
    /// The most bytes of a request now.
    pub max_bytes: usize,
    /// What it does now.
    pub state: ConsumerState,
    /// Why it is [`ConsumerState::Blocked`].
    pub reason: Option<Reason>,
}

/// What a consumer does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConsumerState {
    /// Delivers, or waits for something to deliver.
    #[default]
    Delivering,
    /// The sink took nothing; it is tried again soon.
    BackingOff,
    /// The sink needs another configuration; it is tried rarely.
    Blocked,
    /// The dead letters cannot be kept; nothing is sent.
    DeadLettersStuck,
    /// The run is over.
    Stopped,
}

#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<ConsumerStatus>);

impl ConsumerHandle {
    pub(super) const fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How delivery stands now.
    pub fn status(&self) -> ConsumerStatus {
        self.shared.status().clone()
    }
}

impl ConsumerStatus {
    /// What was leased, less all that became of it. Always zero.
    pub const fn imbalance(&self) -> i128 {
        let settled = self.delivered + self.duplicates + self.redirected + self.dead;
        self.leased as i128 - (settled + self.returned + self.in_hand) as i128
    }
}

impl ConsumerState {
    /// The name: `delivering`, `backing_off`, `blocked`, `dead_letters_stuck` or `stopped`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivering => "delivering",
            Self::BackingOff => "backing_off",
            Self::Blocked => "blocked",
            Self::DeadLettersStuck => "dead_letters_stuck",
            Self::Stopped => "stopped",
        }
    }
}

impl Shared {
    /// Held for a few additions only.
    pub(super) fn status(&self) -> MutexGuard<'_, ConsumerStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConsumerHandle")
            .field(&self.status())
            .finish()
    }
}
