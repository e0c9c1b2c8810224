//! Tries to make a connection, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::OwnedMutexGuard;

use super::Place;
use crate::upstream::error::{Error, ErrorKind};
use crate::upstream::http2::{Http2, Shared};

/// The last try to connect that failed by no doing of who made it, and how.
pub(super) type Failed = Option<(u64, ErrorKind)>;

/// Tries to connect, by number: an odd one is under way, with room for its socket; an even one lies between two tries.
#[derive(Debug, Default)]
pub(super) struct Tries(AtomicU64);

impl Tries {
    /// The current number. Whoever comes to hold the lock sees what its last holder has counted; others may see it late.
    pub(super) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn are_under_way(&self) -> bool {
        self.now() % 2 == 1
    }

    /// One begins, or ends.
    fn step(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }
}

/// A try that is under way until this is dropped. Then all who wait look again.
pub(super) struct Try {
    place: Arc<Place>,
    number: u64,
    failed: OwnedMutexGuard<Failed>,
}

impl Try {
    pub(super) fn begin(place: &Arc<Place>, failed: OwnedMutexGuard<Failed>) -> Self {
        Self {
            place: Arc::clone(place),
            number: place.tries.step(),
            failed,
        }
    }

    /// Tries for all who wait. Who has come here would leave with the first stream that is free: a connection that takes longer
    /// would never be made.
    pub(super) async fn further(
        mut self,
        connecting: impl Future<Output = Result<(Shared, Http2), Error>>,
    ) {
        match connecting.await {
            Ok((shared, _)) => self.made(shared),
            Err(error) => self.failed(error.kind()),
        }
    }

    pub(super) fn made(&mut self, shared: Shared) {
        let mut connections = self.place.connections();
        connections.retain(Shared::is_live);
        connections.push(shared);
        *self.failed = None;
    }

    pub(super) fn failed(&mut self, kind: ErrorKind) {
        *self.failed = Some((self.number, kind));
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.place.tries.step();
        self.place.streams.freed.notify_waiters();
    }
}
