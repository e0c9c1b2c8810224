//! Through a real server, which makes a service per connection: the breaker is shared by all of them.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use gw_breaker::{BreakerConfig, BreakerLayer, State};
use gw_testkit::client::Client;
use http::StatusCode;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_connections_share_one_breaker() {
    let config = BreakerConfig::without_policies().consecutive_failures(16);
    let layer = BreakerLayer::builder("orders")
        .config(config)
        .build()
        .unwrap();
    let handle = layer.handle();
    let calls = Arc::new(AtomicUsize::new(0));
    let app = {
        let calls = Arc::clone(&calls);
        let handler = move || async move {
            calls.fetch_add(1, Ordering::Relaxed);
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Router::new().route("/", get(handler)).layer(layer)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());

    // One failure on each connection.
    let mut clients = Vec::new();
    for _ in 0..16 {
        assert_eq!(handle.snapshot().state, State::Closed);
        let mut client = Client::connect(address).await;
        let answer = async {
            client.get("/").await;
            client.read_answer().await
        };
        assert_eq!(answer.await.status(), 500);
        clients.push(client);
    }
    assert_eq!(handle.snapshot().state, State::Open);
    // And all of them are refused.
    for client in &mut clients {
        let answer = async {
            client.get("/").await;
            client.read_answer().await
        };
        let answer = answer.await;
        assert_eq!(answer.status(), 503);
        assert!(answer.header("retry-after").is_some());
        assert!(answer.text().contains("CIRCUIT_OPEN"));
    }
    assert_eq!(calls.load(Ordering::Relaxed), 16);
}
