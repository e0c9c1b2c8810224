//! `/upstreams`: the connections of each, whether it is asked, which of its endpoints are, and what is sent more than once.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use gw_breaker::Snapshot;
use gw_breaker::outlier::{EndpointSnapshot, EndpointState, OutlierSnapshot};
use gw_retry::hedge::HedgeHandle;
use serde_json::{Map, Value, json};
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
        "retry": retry(controls),
        "hedge": controls.hedges.iter().map(hedge).collect::<Vec<_>>(),
    })
}

/// Times in milliseconds.
fn breaker(breaker: &Snapshot) -> Value {
    json!({
        "state": breaker.state.as_str(),
        "mode": breaker.mode.as_str(),
        "lasted_ms": millis(breaker.lasted),
        "open_for_ms": breaker.open_for.map(millis),
        "opened_again": breaker.opened.saturating_sub(1),
        "probes": breaker.probes,
        "probes_succeeded": breaker.probes_succeeded,
        "consecutive_failures": breaker.consecutive_failures,
        "calls": breaker.calls,
        "failed": breaker.failed,
        "slow": breaker.slow,
    })
}

fn retry(controls: &UpstreamControls) -> Value {
    let retry = controls.retries.snapshot();
    let budget = controls.retries.budget().snapshot();
    let routes = controls.retried.iter();
    // A layer that does less does so for each route.
    let routes = routes.map(|(name, mode)| (name.clone(), mode.milder(retry.mode).as_str().into()));
    json!({
        "routes": routes.collect::<Map<String, Value>>(),
        "budget": {
            "mode": budget.mode.as_str(),
            "ratio": budget.ratio,
            "min_per_second": budget.min_per_second,
        },
        "budget_available": retry.budget_available,
        // Of all upstreams together.
        "replay_bytes": retry.replay_bytes,
    })
}

fn hedge((route, handle): &(String, HedgeHandle)) -> Value {
    let hedge = handle.snapshot();
    json!({
        "route": route,
        "mode": hedge.mode.as_str(),
        // None while too few answers tell.
        "delay_ms": hedge.delay.map(|delay| delay.as_secs_f64() * 1e3),
        "percentile": hedge.percentile,
        "max_extra_load": hedge.max_extra_load,
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
