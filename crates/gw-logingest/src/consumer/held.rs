//! Clients of which nothing is delivered for a while.

use std::collections::{HashSet, VecDeque};

use tokio::time::Instant;

use crate::batch::ClientId;
use crate::queue::Queue;

/// The clients that the queue was told to hold. Dropping it releases them all. Each has a batch in the queue, whose bound is
/// theirs.
pub(super) struct Held<'a, Q: Queue> {
    queue: &'a Q,
    names: HashSet<ClientId>,
    /// In the order of time, since all are held for as long.
    until: VecDeque<(Instant, ClientId)>,
}

impl<'a, Q: Queue> Held<'a, Q> {
    pub(super) fn new(queue: &'a Q) -> Self {
        Self {
            queue,
            names: HashSet::new(),
            until: VecDeque::new(),
        }
    }

    /// Holds a client until then. One that is held stays so for as long as it was to.
    pub(super) fn hold(&mut self, client: ClientId, until: Instant) {
        self.queue.hold(&client);
        if self.names.insert(client.clone()) {
            self.until.push_back((until, client));
        }
    }

    /// Releases those whose time is over.
    pub(super) fn release(&mut self, now: Instant) {
        while self.next_time().is_some_and(|until| until <= now) {
            if let Some((_, client)) = self.until.pop_front() {
                self.names.remove(&client);
                self.queue.release(&client);
            }
        }
    }

    /// When the next one is to be released.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.until.front().map(|(until, _)| *until)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

impl<Q: Queue> Drop for Held<'_, Q> {
    fn drop(&mut self) {
        for (_, client) in &self.until {
            self.queue.release(client);
        }
    }
}
