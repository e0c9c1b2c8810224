//! Limits and lanes.

use std::io;
use std::time::Duration;

use gw_bulkhead::threads::Threads;
use gw_bulkhead::{BulkheadLayer, Criticality, LaneConfig};
use gw_core::context::RouteMatch;
use gw_core::key::ClientIp;
use gw_ratelimit::{Mode, Policy, Quota, RateLimitLayer};

use crate::scenario::{WORKER_WAIT, WORKERS};

/// Twice what a noisy device sends when its uploads are answered. If it is left out, it is switched off, as an operator
/// would.
pub(super) fn rate_limit(left_out: bool) -> io::Result<RateLimitLayer<(ClientIp, ())>> {
    let device = Policy::new("per_device", Quota::per_second(12).burst(24))
        .key(ClientIp::new())
        .when(|head| {
            let route = head.extensions.get::<RouteMatch>();
            route.is_some_and(|route| route.name() == "logs")
        })
        .mode(if left_out { Mode::Off } else { Mode::Enforce });
    RateLimitLayer::builder()
        .policy(device)
        .build()
        .map_err(io::Error::other)
}

/// As many places as the unprotected gateway has workers, but not all of them for logs. If they are left out, all routes
/// share one pool, as there.
pub(super) fn lanes(left_out: bool) -> io::Result<BulkheadLayer<Threads>> {
    let builder = BulkheadLayer::builder(WORKERS);
    let builder = if left_out {
        builder.lane(
            LaneConfig::new("all")
                .queue(10_000)
                .queue_timeout(WORKER_WAIT),
        )
    } else {
        builder
            .lane(
                LaneConfig::new("auth")
                    .guaranteed(0.40)
                    .queue(64)
                    .criticality(Criticality::CriticalPlus),
            )
            .lane(
                LaneConfig::new("logs")
                    .guaranteed(0.05)
                    .cap(0.15)
                    .queue(64)
                    .queue_timeout(Duration::from_secs(1))
                    .max_hold(Duration::from_secs(10))
                    .criticality(Criticality::Sheddable)
                    .threads(1),
            )
    };
    builder.with_threads().build().map_err(io::Error::other)
}
