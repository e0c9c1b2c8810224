//! Through a real server, which makes a service per connection: the limit is one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::future::IntoFuture as _;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use gw_ratelimit::key::{ClientIp, Global};
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

async fn serve(app: Router) -> (SocketAddr, tokio::task::JoinHandle<std::io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    (
        address,
        tokio::spawn(axum::serve(listener, app).into_future()),
    )
}

/// One request on a connection of its own, answered as text.
async fn fetch(address: SocketAddr, path: &'static str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn fetch_all(address: SocketAddr, path: &'static str, connections: usize) -> Vec<String> {
    let requests: JoinSet<String> = (0..connections).map(|_| fetch(address, path)).collect();
    requests.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_limit_over_sixteen_connections() {
    let limits = RateLimitLayer::builder()
        .policy(Policy::new("per_ip", Quota::per_hour(1).burst(2)).key(ClientIp::new()))
        .build()
        .unwrap();
    let handle = limits.handle();
    let app = Router::new()
        .route("/a", get(|| async { "hello" }))
        .route("/b", get(|| async { "hello" }))
        .layer(limits);
    let (address, server) = serve(app).await;

    let answers = fetch_all(address, "/a", 16).await;
    let (passed, refused): (Vec<_>, Vec<_>) = answers
        .iter()
        .partition(|answer| answer.starts_with("HTTP/1.1 200 "));
    assert_eq!((passed.len(), refused.len()), (2, 14));
    for answer in &passed {
        assert!(
            answer.contains(r#"ratelimit-policy: "per_ip";q=2;w=7200"#),
            "{answer}"
        );
    }
    for answer in &refused {
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert!(answer.contains("\r\nretry-after: "), "{answer}");
        assert!(
            answer.contains(r#"ratelimit: "per_ip";r=0;t=3600"#),
            "{answer}"
        );
        let body = answer.split("\r\n\r\n").nth(1).unwrap();
        let envelope: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(envelope["error"]["code"], "RATE_LIMIT_EXCEEDED");
        assert_eq!(envelope["error"]["details"]["limit"], 2);
    }
    // axum applies the layer once per route: the other one is over the limit as well.
    assert!(fetch(address, "/b").await.starts_with("HTTP/1.1 429 "));
    let snapshot = &handle.snapshot()[0];
    assert_eq!(
        (snapshot.keys, snapshot.allowed, snapshot.limited),
        (1, 2, 15)
    );
    server.abort();
}

#[tokio::test]
async fn layers_in_one_stack_tell_of_both() {
    let outer = RateLimitLayer::builder()
        .policy(Policy::new("outer", Quota::per_hour(1).burst(9)).key(Global))
        .build()
        .unwrap();
    let inner = RateLimitLayer::builder()
        .policy(Policy::new("inner", Quota::per_hour(1).burst(1)).key(Global))
        .build()
        .unwrap();
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(inner)
        .layer(outer);
    let (address, server) = serve(app).await;
    for (status, left) in [("200", 8), ("429", 7)] {
        let answer = fetch(address, "/").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(
            answer.contains(r#"ratelimit: "inner";r=0;t=3600"#),
            "{answer}"
        );
        assert!(
            answer.contains(&format!(r#"ratelimit: "outer";r={left};t="#)),
            "{answer}"
        );
    }
    server.abort();
}
