//! A rate limit on an axum service of your own: each client may call ten times at once, then twice a second.
//!
//! Try: `for i in $(seq 12); do curl -s -o /dev/null -w '%{http_code}\n' http://127.0.0.1:3000/; done`

use std::net::SocketAddr;

use axum::{Router, routing::get, serve};
use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let per_client = Policy::new("per_client", Quota::per_second(2).burst(10)).key(ClientIp::new());
    let limit = RateLimitLayer::builder().policy(per_client).build()?;

    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(limit);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    serve(TcpListener::bind("127.0.0.1:3000").await?, app).await?;
    Ok(())
}
