//! The same places for logs, by three ways to protect a server.

use axum::Router;
use axum::error_handling::HandleErrorLayer;
use axum::http::StatusCode;
use clap::ValueEnum;
use gw_bulkhead::{BulkheadLayer, Criticality, LaneConfig};
use gw_tests::bench::Result;
use std::num::NonZeroU32;
use tower::ServiceBuilder;
use tower::limit::GlobalConcurrencyLimitLayer;

/// Places of all lanes together, where there are lanes.
pub const TOTAL: NonZeroU32 = NonZeroU32::new(512).unwrap();

/// The share of them that logs may have.
pub const SHARE: f64 = 0.05;

/// What it comes to, rounded up: how many requests for logs may run at once.
pub const PLACES: usize = 26;

/// What stands in front of the handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protection {
    /// Lanes, of which that of logs has a thread.
    Gw,
    /// tower's semaphore on the routes of logs, shared by all connections, and load shedding.
    Tower,
    /// The same with tower-resilience.
    TowerResilience,
    /// Nothing: an upstream.
    Nothing,
}

impl Protection {
    /// Logins and logs in one application, logs limited to [`PLACES`].
    ///
    /// # Errors
    ///
    /// If a layer refuses its configuration.
    pub fn protect(self, logins: Router, logs: Router) -> Result<Router> {
        Ok(match self {
            Self::Gw => logins.merge(logs).layer(lanes()?),
            Self::Tower => {
                let semaphore = ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(overloaded))
                    .load_shed()
                    .layer(GlobalConcurrencyLimitLayer::new(PLACES));
                logins.merge(logs.layer(semaphore))
            }
            Self::TowerResilience => {
                let bulkhead = tower_resilience_bulkhead::BulkheadLayer::builder()
                    .max_concurrent_calls(PLACES)
                    .reject_when_full();
                let (bulkhead, _handle) = bulkhead.build_with_handle()?;
                let bulkhead = ServiceBuilder::new()
                    .layer(HandleErrorLayer::new(overloaded))
                    .layer(bulkhead);
                logins.merge(logs.layer(bulkhead))
            }
            Self::Nothing => logins.merge(logs),
        })
    }
}

fn lanes() -> Result<BulkheadLayer<gw_bulkhead::threads::Threads>> {
    let auth = LaneConfig::new("auth")
        .guaranteed(0.4)
        .criticality(Criticality::CriticalPlus);
    let logs = LaneConfig::new("logs")
        .guaranteed(SHARE)
        .cap(SHARE)
        .criticality(Criticality::Sheddable)
        .threads(1);
    let layer = BulkheadLayer::builder(TOTAL)
        .lane(auth)
        .lane(logs)
        .classify(|parts, lanes| match parts.uri.path() {
            path if path.starts_with("/logs") => lanes.find("logs"),
            _ => None,
        })
        .with_threads()
        .build()?;
    Ok(layer)
}

async fn overloaded<E>(_: E) -> StatusCode {
    StatusCode::SERVICE_UNAVAILABLE
}
