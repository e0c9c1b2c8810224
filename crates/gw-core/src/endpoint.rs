//! What a balancer asks about the endpoints of a set, and tells of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::classify::Outcome;

/// Knows which endpoints of a set are fit for use. The endpoints are numbered from 0, in the set's order.
///
/// A balancer asks before it picks, and reports what came of each request that it sent. Neither may wait, and both must
/// be cheap: they are on the path of each request.
pub trait EndpointHealth: Send + Sync {
    /// Whether endpoint `endpoint` may be picked now. If no endpoint may be, a balancer picks among all of them.
    fn is_usable(&self, endpoint: usize, now: Instant) -> bool;

    /// A request to `endpoint` ended with `outcome` after `latency`, at `now`.
    ///
    /// A request that was dropped before it ended is reported as [`Outcome::Ignored`], with the time it had.
    fn report(&self, endpoint: usize, outcome: Outcome, latency: Duration, now: Instant);
}
