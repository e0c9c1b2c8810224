//! The health listener: for balancers and orchestrators. It shares nothing with the traffic but a flag.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::get;
use gw_core::Respond;

use crate::readiness::{Phase, Readiness};
use crate::refused;

/// `/healthz`, which answers as long as the process lives, and `/readyz`, which fails before the listener closes.
pub fn router(readiness: Readiness, respond: Respond) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(readiness)
        .layer(middleware::from_fn_with_state(respond, refused::say))
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    let phase = readiness.phase();
    let status = match phase {
        Phase::Ready => StatusCode::OK,
        Phase::Starting | Phase::Draining => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{}\n", phase.as_str()))
}
