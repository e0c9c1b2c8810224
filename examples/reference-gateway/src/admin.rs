//! The admin listener: what an operator reads. It runs on a thread and a runtime of its own, so it answers whatever the
//! traffic does.

mod access;
mod limits;
mod logs;
mod upstreams;

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gw_bulkhead::{AdaptiveSnapshot, LaneSnapshot};
use gw_observe::AccessLogHandle;
use gw_pipeline::server::ServerHandle;
use serde_json::{Value, json};

pub use self::access::Token;
use crate::assembly::{Controls, LimitControls};
use crate::gateway::Metrics;
use crate::readiness::Readiness;

/// What the admin listener shows.
#[derive(Clone)]
pub struct Admin {
    /// Where the gateway is in its life.
    pub readiness: Readiness,
    /// The registry behind `/metrics`.
    pub metrics: Metrics,
    /// What is behind `/access-log`.
    pub log: AccessLogHandle,
    /// What is behind `/lanes`, `/limits`, `/upstreams` and `/logs`.
    pub controls: Controls,
    /// The connections behind `/`.
    pub server: ServerHandle,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// The pages of the admin listener. With a `token`, each request must carry it.
pub fn router(admin: Admin, token: Option<Token>) -> Router {
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/lanes", get(lanes))
        .route("/limits", get(limits::page))
        .route("/upstreams", get(upstreams::page))
        .route("/access-log", get(access_log))
        .route("/logs", get(logs::page))
        .with_state(admin);
    match token {
        Some(token) => router.layer(middleware::from_fn_with_state(token, access::require)),
        None => router,
    }
}

async fn index(State(admin): State<Admin>) -> Response {
    let server = admin.server.snapshot();
    json_page(&json!({
        "phase": admin.readiness.phase().as_str(),
        "connections": { "active": server.active, "accepted": server.accepted },
        "pages": ["/metrics", "/lanes", "/limits", "/upstreams", "/logs", "/access-log"],
    }))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    // What is open and waiting is read when somebody asks, not counted with each request.
    admin
        .controls
        .upstreams
        .iter()
        .for_each(|it| it.upstream.record_gauges());
    let limits = admin.controls.limits.iter();
    limits
        .flat_map(LimitControls::handles)
        .for_each(|(handle, _)| handle.record_gauges());
    if let Some(logs) = &admin.controls.logs {
        logs.per_client.record_gauges();
    }
    let text = admin.metrics.render();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, format), NO_STORE], text).into_response()
}

async fn lanes(State(admin): State<Admin>) -> Response {
    let snapshot = admin.controls.lanes.snapshot();
    let lanes: Vec<_> = snapshot.lanes.iter().map(lane).collect();
    let load = format!("{:?}", snapshot.load).to_lowercase();
    json_page(&json!({
        "total": snapshot.total,
        "in_flight": snapshot.in_flight,
        "load": load,
        "lanes": lanes,
    }))
}

fn lane(lane: &LaneSnapshot) -> Value {
    let rejected = lane.rejected;
    let per_key = lane.per_key.map(
        |counted| json!({ "max": counted.max, "keys": counted.keys, "busiest": counted.busiest }),
    );
    json!({
        "name": lane.name.as_str(),
        "in_flight": lane.in_flight,
        "limit": lane.limit,
        "guaranteed": lane.guaranteed,
        "adaptive": lane.adaptive.as_ref().map(adaptive),
        "queued": lane.queued,
        "admitted": lane.admitted,
        "rejected": {
            "lane_full": rejected.lane_full,
            "queue_full": rejected.queue_full,
            "queue_timeout": rejected.queue_timeout,
            "draining": rejected.draining,
            "max_hold": rejected.max_hold,
            "per_key": rejected.per_key,
            "pressure": rejected.pressure,
        },
        "per_key": per_key,
    })
}

/// How a limit is found; times in milliseconds.
fn adaptive(adaptive: &AdaptiveSnapshot) -> Value {
    let report = adaptive.report;
    let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1e3);
    json!({
        "algorithm": adaptive.algorithm,
        "min": adaptive.min,
        "max": adaptive.max,
        "state": report.state,
        "latency_ms": millis(report.latency),
        "baseline_ms": millis(report.baseline),
        "gradient_percent": report.gradient_percent,
        "windows": adaptive.windows,
        "answered": adaptive.answered,
        "dropped": adaptive.dropped,
    })
}

/// What has become of the line of each request that has ended. The entries but for `requests` add up to it.
async fn access_log(State(admin): State<Admin>) -> Response {
    let counts = admin.log.counts();
    json_page(&json!({
        "requests": counts.requests(),
        "written": counts.written,
        "sampled_out": counts.sampled_out,
        "over_budget": counts.over_budget,
        "lost_full": counts.lost_full,
        "lost_write": counts.lost_write,
        "lost_closed": counts.lost_closed,
        "queued": counts.queued,
    }))
}

const NO_STORE: (header::HeaderName, HeaderValue) =
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

fn json_page(page: &serde_json::Value) -> Response {
    let format = HeaderValue::from_static("application/json");
    (
        [(header::CONTENT_TYPE, format), NO_STORE],
        format!("{page:#}\n"),
    )
        .into_response()
}
