use std::net::SocketAddr;

use gw_testkit::elasticsearch::{Behaviour, Config, Elasticsearch};

use super::Capacity;
use crate::scenario::{SINK_DOCUMENTS, SINK_QUEUE};

/// The search node, simulated: it indexes so many documents a second, lets some wait, and rejects the rest with 429.
#[derive(Debug)]
pub(super) struct Sink {
    node: Elasticsearch,
}

impl Sink {
    pub(super) async fn start(capacity: Capacity) -> Self {
        let node = Elasticsearch::start(Config::elasticsearch()).await;
        node.behave(match capacity {
            Capacity::Endless => Behaviour::healthy(),
            Capacity::Scarce => Behaviour::saturated(SINK_QUEUE, SINK_DOCUMENTS),
        });
        Self { node }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.node.addr()
    }

    /// Documents indexed, and rejected for want of room.
    pub(super) fn counts(&self) -> (u64, u64) {
        let count = |documents| u64::try_from(documents).unwrap_or(u64::MAX);
        (
            count(self.node.indexed()),
            count(self.node.requests().rejected),
        )
    }
}
