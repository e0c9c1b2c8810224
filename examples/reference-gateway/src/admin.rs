//! The admin listener: what an operator reads. It runs on a thread and a runtime of its own, so it answers whatever the
//! traffic does.

mod access;
mod host;
mod lanes;
mod limits;
mod logs;
mod upstreams;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use gw_core::Respond;
use gw_logingest::Queue as _;
use gw_observe::AccessLogHandle;
use serde_json::{Map, json};

pub use self::access::Token;
use crate::assembly::{Controls, LimitControls};
use crate::gateway::{Addresses, Connections, Metrics};
use crate::readiness::Readiness;
use crate::refused;

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
    /// The connections behind `/` and `/lanes`.
    pub connections: Connections,
    /// Where the gateway listens.
    pub addresses: Addresses,
    /// The threads of lanes, those that have any.
    pub lane_threads: Arc<BTreeMap<String, OwnThreads>>,
}

/// Threads of a lane's own.
#[derive(Debug, Clone, Copy)]
pub struct OwnThreads {
    pub number: NonZeroU32,
    /// How nice they are.
    pub nice: u8,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// The pages of the admin listener. With a `token`, each request must carry it; without one, each must name this machine as its
/// host, since web pages in a browser on the machine reach the listener, too.
pub fn router(admin: Admin, token: Option<Token>, respond: Respond) -> Router {
    let router = Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/lanes", get(lanes::page))
        .route("/limits", get(limits::page))
        .route("/upstreams", get(upstreams::page))
        .route("/access-log", get(access_log))
        .route("/logs", get(logs::page))
        .with_state(admin)
        .layer(middleware::from_fn_with_state(
            respond.clone(),
            refused::say,
        ));
    match token {
        Some(token) => router.layer(middleware::from_fn_with_state(
            (token, respond),
            access::require,
        )),
        None => router.layer(middleware::from_fn_with_state(respond, host::require)),
    }
}

async fn index(State(admin): State<Admin>) -> Response {
    let (mut active, mut accepted, mut listeners) = (0, 0, Map::new());
    for listening in admin.connections.iter() {
        let numbers = listening.handle.snapshot();
        active += numbers.active;
        accepted += numbers.accepted;
        let closed = numbers.closed.iter();
        let closed: Map<_, _> = closed
            .map(|(reason, count)| (reason.as_str().to_owned(), count.into()))
            .collect();
        let numbers = json!({
            "active": numbers.active,
            "accepted": numbers.accepted,
            "closed": closed,
            "accept_errors": numbers.accept_errors,
            "stalled_streams": numbers.stalled_streams,
        });
        listeners.insert(listening.name.clone(), numbers);
    }
    json_page(&json!({
        "phase": admin.readiness.phase().as_str(),
        "connections": { "active": active, "accepted": accepted, "listeners": listeners },
        "pages": ["/metrics", "/lanes", "/limits", "/upstreams", "/logs", "/access-log"],
    }))
}

async fn metrics(State(admin): State<Admin>) -> Response {
    // What is open and waiting is read when somebody asks, not counted with each request.
    for it in admin.controls.upstreams.iter() {
        it.upstream.record_gauges();
        it.breaker.record_gauges();
        it.outliers.record_gauges();
    }
    admin
        .connections
        .iter()
        .for_each(|listening| listening.handle.record_gauges(&listening.name));
    admin.controls.lanes.record_gauges();
    let limits = admin.controls.limits.iter();
    limits
        .flat_map(LimitControls::handles)
        .for_each(|(handle, _)| handle.record_gauges());
    if let Some(logs) = &admin.controls.logs {
        logs.per_client.record_gauges();
        // Which measures it.
        let _ = logs.queue.status();
    }
    let text = admin.metrics.render();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, format), NO_STORE], text).into_response()
}

/// What has become of the line of each request that has ended. The numbers but for `requests` add up to it.
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
        "reopening_fails": admin.log.is_reopening_failing(),
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
