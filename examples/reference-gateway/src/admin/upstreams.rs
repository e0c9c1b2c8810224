//! `/upstreams`: the connections of each, whether it is asked, and which of its endpoints are.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use gw_breaker::Snapshot;
use gw_breaker::outlier::{EndpointSnapshot, EndpointState, OutlierSnapshot};
use gw_retry::RetrySnapshot;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Admin, json_page};
use crate::assembly::UpstreamControls;

pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let upstreams: Vec<_> = admin.controls.upstreams.iter().map(upstream).collect();
    json_page(&json!({ "upstreams": upstreams }))
}

fn upstream(controls: &UpstreamControls) -> Value {
    let connections = controls.upstream.snapshot();
    json!({
        "name": connections.name.as_str(),
        "open_connections": connections.open_connections,
        "idle_connections": connections.idle_connections,
        "in_flight": connections.in_flight,
        "queued": connections.queued,
        "tunnels": connections.tunnels,
        "breaker": breaker(&controls.breaker.snapshot()),
        "eject": eject(&controls.outliers.snapshot()),
        "retry": retry(&controls.retries.snapshot()),
    })
}

/// Times in milliseconds.
fn breaker(breaker: &Snapshot) -> Value {
    json!({
        "state": breaker.state.as_str(),
        "mode": breaker.mode.as_str(),
        "lasted_ms": millis(breaker.lasted),
        "open_for_ms": breaker.open_for.map(millis),
        "opened_again": breaker.opened,
        "probes": breaker.probes,
        "probes_succeeded": breaker.probes_succeeded,
        "consecutive_failures": breaker.consecutive_failures,
        "calls": breaker.calls,
        "failed": breaker.failed,
        "slow": breaker.slow,
    })
}

fn retry(retry: &RetrySnapshot) -> Value {
    json!({
        "budget_available": retry.budget_available,
        // Of all upstreams together.
        "replay_bytes": retry.replay_bytes,
    })
}

fn eject(outliers: &OutlierSnapshot) -> Value {
    let endpoints: Vec<_> = outliers.endpoints.iter().map(endpoint).collect();
    json!({
        "mode": outliers.mode.as_str(),
        "panicking": outliers.panicking,
        "endpoints": endpoints,
    })
}

fn endpoint(endpoint: &EndpointSnapshot) -> Value {
    let (state, reason, out_for) = match endpoint.state {
        EndpointState::In => ("in", None, None),
        EndpointState::Ejected { until, reason } => {
            let left = until.saturating_duration_since(Instant::now());
            ("ejected", Some(reason.as_str()), Some(millis(left)))
        }
        EndpointState::Unhealthy => ("unhealthy", None, None),
        EndpointState::ForcedOut => ("forced_out", None, None),
        // A state of a later version.
        _ => ("unknown", None, None),
    };
    json!({
        "name": &*endpoint.name,
        "state": state,
        "reason": reason,
        "out_for_ms": out_for,
        "ejections": endpoint.ejections,
        "consecutive_failures": endpoint.consecutive,
        "requests": endpoint.requests,
        "failures": endpoint.failures,
        "throttled": endpoint.throttled,
        "latency_ms": endpoint.latency.map(|latency| latency.as_secs_f64() * 1e3),
    })
}

fn millis(time: Duration) -> u128 {
    time.as_millis()
}
