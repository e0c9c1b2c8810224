//! What a whole gateway refuses while the upload is on its way: the answer says that the connection ends with it.
#![cfg(all(feature = "server", feature = "upstream"))]
#![allow(clippy::unwrap_used, reason = "assertions")]

use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use gw_core::context::UpstreamName;
use gw_pipeline::Pipeline;
use gw_pipeline::inbound::{Route, RouteResolveLayer, RouteTable};
use gw_pipeline::server::{Server, ServerConfig};
use gw_pipeline::upstream::{Forward, PoolConfig, Upstream};
use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{self as testkit, At, Reply, always};
use http::Uri;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A gateway that sends all requests with bodies of up to 8 bytes to the upstream there.
async fn gateway(upstream: SocketAddr, pool: PoolConfig) -> (SocketAddr, JoinHandle<()>) {
    let name = UpstreamName::new("orders");
    let route = Route::prefix("all", "/").upstream(name.clone());
    let routes = RouteTable::builder().route(route.max_body_bytes(8));
    let upstream = Upstream::builder(name)
        .endpoint(Uri::try_from(format!("http://{upstream}")).unwrap())
        .pool(pool)
        .build()
        .unwrap();
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(routes.build().unwrap()))
        .forward(Forward::new([upstream]).unwrap())
        .build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = Server::new(ServerConfig::default());
    let serving = tokio::spawn(async move {
        _ = server.serve(listener, pipeline, pending()).await;
    });
    (addr, serving)
}

/// Sends a part of an upload, and reads an answer that must be the last one.
async fn is_refused(gateway: SocketAddr, part: &str, status: u16) {
    let mut client = Client::connect(gateway).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(&format!("{head}{part}")).await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), status);
    assert_eq!(answer.header("connection"), Some("close"), "{status}");
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
}

#[tokio::test]
async fn the_upstream_is_not_there() {
    let nobody = testkit::Upstream::start(always(Reply::ok())).await;
    let addr = nobody.addr();
    // It keeps the port from others.
    nobody.stop().await;
    let (gateway, serving) = gateway(addr, PoolConfig::default()).await;
    is_refused(gateway, "3\r\nabc\r\n", 502).await;
    serving.abort();
}

/// Story: the task of the upstream's connection has the upload, and may be on another thread, where it gave it up later than the
/// answer began.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_upload_is_too_large() {
    let upstream = testkit::Upstream::start(always(Reply::ok())).await;
    let (gateway, serving) = gateway(upstream.addr(), PoolConfig::default()).await;
    is_refused(gateway, "9\r\nabcdefghi\r\n", 413).await;
    serving.abort();
}

#[tokio::test]
async fn the_queue_does_not_move() {
    let gate = Gate::new();
    let upstream = testkit::Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let pool = PoolConfig::new()
        .max_connections(1)
        .queue_timeout(Duration::from_millis(50));
    let (gateway, serving) = gateway(upstream.addr(), pool).await;
    let mut first = Client::connect(gateway).await;
    first.get("/").await;
    gate.reached(1).await;
    is_refused(gateway, "3\r\nabc\r\n", 503).await;
    gate.open();
    assert_eq!(first.read_answer().await.status(), 200);
    serving.abort();
}
