use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::closed::Closed;
use super::registry::Registry;

/// Reads what a [`Server`](super::Server) is doing, and prepares its end. Cheap to clone; keeps no connection alive.
#[derive(Debug, Clone)]
pub struct ServerHandle {
    registry: Arc<Registry>,
}

/// A server's numbers at one moment.
///
/// Each is exact. They are read one after another, so sums over them may be off by what happened meanwhile; on a server
/// at rest, `accepted` is `active` plus all that were closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// Connections that are open now, upgraded ones included.
    pub active: usize,
    /// Connections accepted so far, those included that were refused at once.
    pub accepted: u64,
    /// Failures to accept.
    pub accept_errors: u64,
    /// HTTP/2 streams that were reset because their client did not take its answer.
    pub stalled_streams: u64,
    /// Connections closed so far, by reason.
    pub closed: Closed,
    /// The listeners that are being served, in the order in which they were added.
    pub listeners: Vec<ListenerSnapshot>,
}

/// A listener's numbers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerSnapshot {
    /// Where it listens, if that could be found out.
    pub local_addr: Option<SocketAddr>,
    /// Its connections that are open now.
    pub active: usize,
    /// Its connections accepted so far.
    pub accepted: u64,
}

impl ServerHandle {
    pub(super) const fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Sets the gauge of open connections, and the counters of those that were closed, of failures to accept and of stalled
    /// streams, to what they are now, under this name of what the server listens on: one out of few, since it is a label, and
    /// of no other server, since counters never go back. To be called when metrics are read, or at intervals. It does nothing
    /// without the feature `metrics`.
    pub fn record_gauges(&self, listener: &str) {
        super::telemetry::record(listener, &self.snapshot());
    }

    /// From now on each answer over HTTP/1 is the last one on its connection, and says so with `connection: close`. New
    /// connections are accepted and served as before, one request each; HTTP/2 is told by GOAWAY at the end.
    ///
    /// To be called some time before the signal that ends [`serve`](super::Server::serve), while balancers look elsewhere.
    /// Connections that are idle when that signal comes are closed, and a client that sends its next request at this very
    /// moment loses it: HTTP/1 cannot tell it in time. Those that were told before have left by then. Takes the lock of the
    /// connection table for a moment; cannot be taken back.
    pub fn announce_close(&self) {
        self.registry.announce_close();
    }

    /// The numbers now. Takes the lock of the connection table for a moment.
    pub fn snapshot(&self) -> Snapshot {
        let counters = &self.registry.counters;
        let listeners = self.registry.listeners();
        Snapshot {
            active: self.registry.active(),
            accepted: counters.accepted.load(Ordering::Relaxed),
            accept_errors: counters.accept_errors.load(Ordering::Relaxed),
            stalled_streams: counters.stalled_streams.load(Ordering::Relaxed),
            closed: counters.closed_so_far(),
            listeners: listeners
                .iter()
                .map(|listener| ListenerSnapshot {
                    local_addr: listener.local_addr,
                    active: listener.active.load(Ordering::Relaxed),
                    accepted: listener.accepted.load(Ordering::Relaxed),
                })
                .collect(),
        }
    }
}
