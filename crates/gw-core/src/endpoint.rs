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

    /// A request to `endpoint` ended with `outcome` at `now`, having waited `latency` for it.
    ///
    /// A request that was dropped before anything was known of it is reported as [`Outcome::Ignored`], with the time that the
    /// endpoint had been waited for.
    fn report(&self, endpoint: usize, outcome: Outcome, latency: Duration, now: Instant);

    /// The same for a request that was sent to the endpoint at `sent`, which may be longer ago than `latency`: it was
    /// uploaded for long, or its outcome came with the end of a stream. Without an implementation `sent` does not matter.
    fn report_sent(
        &self,
        endpoint: usize,
        outcome: Outcome,
        sent: Instant,
        latency: Duration,
        now: Instant,
    ) {
        let _ = sent;
        self.report(endpoint, outcome, latency, now);
    }
}
