//! The end of one listener's connections.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;

use super::activity::FAREWELL;
use super::link::Order;
use super::registry::{Listener, Registry};

/// What was left when the grace was over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Drained {
    /// Connections that were cut while they had a request, waited for their client to take the end of an answer, or had been upgraded.
    pub connections_cut: usize,
    /// The requests on them. Ends of answers count as one for each connection; an upgraded connection has none.
    pub requests_cut: usize,
}

impl Drained {
    /// Whether everything came to its own end.
    pub const fn is_clean(&self) -> bool {
        self.connections_cut == 0
    }
}

/// The connections of one call of `serve`. Dropping it cuts those that are left.
#[derive(Debug)]
pub(super) struct Connections {
    registry: Arc<Registry>,
    pub(super) listener: Arc<Listener>,
}

impl Connections {
    pub(super) const fn new(registry: Arc<Registry>, listener: Arc<Listener>) -> Self {
        Self { registry, listener }
    }

    /// Lets them finish for at most `grace`, then cuts those that have not.
    pub(super) async fn drain(self, grace: Duration) -> Drained {
        self.registry.order(&self.listener, Order::Drain);
        if timeout(grace, self.deserted()).await.is_ok() {
            return Drained::default();
        }
        let mut drained = Drained::default();
        for left in self.registry.in_flight(&self.listener) {
            if left.tunnel || left.requests > 0 {
                drained.connections_cut += 1;
                drained.requests_cut += usize::try_from(left.requests).unwrap_or(usize::MAX);
            }
        }
        self.registry.order(&self.listener, Order::Cut);
        // A connection whose service blocks its thread hears of nothing; it is not waited for.
        _ = timeout(FAREWELL, self.deserted()).await;
        drained
    }

    async fn deserted(&self) {
        loop {
            let mut deserted = std::pin::pin!(self.listener.deserted.notified());
            // Before the look, so that a last connection that goes in between is not missed.
            deserted.as_mut().enable();
            // Acquire: pairs with the release of each place.
            if self.listener.active.load(Ordering::Acquire) == 0 {
                return;
            }
            deserted.await;
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.registry.forget(&self.listener);
        self.registry.order(&self.listener, Order::Cut);
    }
}
