//! The services behind the demo's gateway: small, on loopback, and one of them broken.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::Path;
use axum::http::StatusCode;
use axum::routing::{any, get};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;

/// Where the demo's services listen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upstreams {
    pub(super) auth: SocketAddr,
    pub(super) orders: SocketAddr,
    pub(super) logs: SocketAddr,
}

/// Starts all of them on free ports of the current runtime.
pub(super) async fn start() -> std::io::Result<Upstreams> {
    let auth = Router::new().route(
        "/api/auth/login",
        any(|| async { Json(json!({ "token": "demo" })) }),
    );
    let orders = Router::new()
        .route("/api/orders/{id}", get(order))
        .route("/api/orders/broken", get(broken));
    // As in the incident: a log service that takes for ever.
    let logs = Router::new().route("/api/old-logs", any(hang));
    Ok(Upstreams {
        auth: serve(auth).await?,
        orders: serve(orders).await?,
        logs: serve(logs).await?,
    })
}

async fn serve(router: Router) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}

async fn order(Path(id): Path<String>) -> Json<serde_json::Value> {
    Json(json!({ "id": id, "state": "shipped" }))
}

async fn broken() -> (StatusCode, &'static str) {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        "panic at db.rs:42: cannot reach 10.0.0.7:5432 as admin",
    )
}

async fn hang() -> StatusCode {
    tokio::time::sleep(Duration::from_secs(3600)).await;
    StatusCode::OK
}
