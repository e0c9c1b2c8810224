//! What the upstream has seen: requests, counters, and who waits for them.

use std::sync::{Arc, Mutex, MutexGuard};

use super::received::{Progress, Received};
use crate::signal::Signal;
use crate::wire::Payload;

/// A flood must not turn the record into the test's largest user of memory.
const KEPT_REQUESTS: usize = 65_536;

/// Connections accepted by an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connections {
    /// Open now.
    pub open: usize,
    /// Accepted since the start.
    pub total: usize,
    /// The largest number open at once.
    pub peak: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) connections: Connections,
    pub(super) arrived: usize,
    pub(super) in_flight: usize,
    pub(super) peak_in_flight: usize,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Mutex<Entries>,
    changes: Signal,
}

#[derive(Debug, Default)]
struct Entries {
    counts: Counts,
    requests: Vec<Received>,
    malformed: Vec<String>,
    script_panic: Option<String>,
}

/// An open connection; dropping it counts it as closed.
#[derive(Debug)]
pub(super) struct OpenConnection {
    ledger: Arc<Ledger>,
    number: usize,
}

/// A request in flight; dropping it ends the request.
#[derive(Debug)]
pub(super) struct Flight {
    ledger: Arc<Ledger>,
    index: usize,
    end: Progress,
}

impl Ledger {
    pub(super) fn counts(&self) -> Counts {
        self.entries().counts
    }

    pub(super) fn requests(&self) -> Vec<Received> {
        self.entries().requests.clone()
    }

    pub(super) fn malformed(&self) -> Vec<String> {
        self.entries().malformed.clone()
    }

    pub(super) fn note_malformed(&self, what: String) {
        self.change(|entries| entries.malformed.push(what));
    }

    pub(super) fn note_script_panic(&self, message: String) {
        self.change(|entries| entries.script_panic = Some(message));
    }

    pub(super) fn fail_if_script_panicked(&self) {
        // Cloned, so that the lock is not poisoned by the panic.
        let message = self.entries().script_panic.clone();
        if let Some(message) = message {
            panic!("the upstream's script panicked: {message}");
        }
    }

    pub(super) async fn until(&self, so: impl Fn(&Counts) -> bool) {
        let look = || {
            self.fail_if_script_panicked();
            so(&self.counts()).then_some(())
        };
        self.changes.until(look).await;
    }

    pub(super) fn open(self: &Arc<Self>) -> OpenConnection {
        let number = self.change(|entries| {
            let connections = &mut entries.counts.connections;
            connections.open += 1;
            connections.total += 1;
            connections.peak = connections.peak.max(connections.open);
            connections.total - 1
        });
        OpenConnection {
            ledger: self.clone(),
            number,
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries
            .lock()
            .expect("no code panics while it holds the ledger")
    }

    fn change<T>(&self, change: impl FnOnce(&mut Entries) -> T) -> T {
        let result = change(&mut self.entries());
        self.changes.changed();
        result
    }
}

impl OpenConnection {
    /// Records a request whose head has arrived; fills in its numbers.
    pub(super) fn arrived(&self, received: &mut Received) -> Flight {
        let index = self.ledger.change(|entries| {
            let counts = &mut entries.counts;
            received.index = counts.arrived;
            received.connection = self.number;
            counts.arrived += 1;
            counts.in_flight += 1;
            counts.peak_in_flight = counts.peak_in_flight.max(counts.in_flight);
            if entries.requests.len() < KEPT_REQUESTS {
                entries.requests.push(received.clone());
            }
            received.index
        });
        Flight {
            ledger: self.ledger.clone(),
            index,
            end: Progress::Stopped,
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.ledger
            .change(|entries| entries.counts.connections.open -= 1);
    }
}

impl Flight {
    pub(super) fn body(&self, payload: Payload, complete: bool) {
        self.update(|received| received.set_body(payload, complete));
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.update(|received| received.sent += bytes);
    }

    pub(super) fn end(mut self, progress: Progress) {
        self.end = progress;
    }

    fn update(&self, update: impl FnOnce(&mut Received)) {
        self.ledger
            .change(|entries| entries.requests.get_mut(self.index).map(update));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let (index, end) = (self.index, self.end);
        self.ledger.change(|entries| {
            entries.counts.in_flight -= 1;
            if let Some(received) = entries.requests.get_mut(index) {
                received.progress = end;
            }
        });
    }
}
