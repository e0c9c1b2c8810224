//! Through a real server, which makes a service per connection: the lanes are shared by all of them.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use axum::{Extension, Router};
use gw_bulkhead::limit::{Aimd, Limit};
use gw_bulkhead::{BulkheadHandle, BulkheadLayer, LaneConfig, Sample, UpgradePermit};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use gw_testkit::{Gate, within};
use http::{StatusCode, header};
use http_body::SizeHint;
use hyper_util::rt::TokioIo;
use support::{first_lane, in_flight, one_lane};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

async fn settles_at(handle: &BulkheadHandle, expected: u32) {
    within("the requests in flight to be as many as expected", {
        let handle = handle.clone();
        async move {
            while in_flight(&handle) != expected {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_connections_share_two_places() {
    let layer = one_lane(
        2,
        LaneConfig::new("core")
            .queue(16)
            .queue_timeout(std::time::Duration::from_secs(60)),
    );
    let handle = layer.handle();
    let (gate, running, peak) = (
        Gate::new(),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let app = {
        let (gate, running, peak) = (gate.clone(), Arc::clone(&running), Arc::clone(&peak));
        let handler = move || async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            gate.pass().await;
            running.fetch_sub(1, Ordering::SeqCst);
            "done"
        };
        Router::new().route("/", get(handler)).layer(layer)
    };
    let address = serve(app).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(address).await;
        client.get("/").await;
        clients.push(client);
    }
    gate.reached(2).await;
    within("all others to wait", {
        let handle = handle.clone();
        async move {
            while first_lane(&handle).queued != 14 {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    assert_eq!(in_flight(&handle), 2);
    gate.open();
    for client in &mut clients {
        let answer = client.read_answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "done"));
    }
    assert_eq!(peak.load(Ordering::SeqCst), 2);
    // The connections are idle now, and hold nothing.
    settles_at(&handle, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_gives_its_place_back() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move || async move { held.pass().await };
    let address = serve(Router::new().route("/", get(handler)).layer(layer)).await;
    let mut client = Client::connect(address).await;
    client.get("/").await;
    gate.reached(1).await;
    assert_eq!(in_flight(&handle), 1);
    client.reset();
    settles_at(&handle, 0).await;
}

/// Switches protocols and echoes. The permit is held by the task that copies the bytes.
async fn echo(Extension(permit): Extension<UpgradePermit>, request: Request) -> Response {
    tokio::spawn(async move {
        let connection = hyper::upgrade::on(request).await.unwrap();
        let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
        _ = tokio::io::copy(&mut read, &mut write).await;
        drop(permit);
    });
    (
        StatusCode::SWITCHING_PROTOCOLS,
        [(header::UPGRADE, "echo"), (header::CONNECTION, "upgrade")],
    )
        .into_response()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_stays_in_its_lane() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let handle = layer.handle();
    let address = serve(Router::new().route("/", any(echo)).layer(layer)).await;
    let mut tunnel = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    tunnel.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tunnel.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    tunnel.write_all(b"ping").await.unwrap();
    let mut echoed = [0; 4];
    tunnel.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"ping");

    let mut other = Client::connect(address).await;
    other.get("/").await;
    assert_eq!(other.read_answer().await.status(), 503);
    drop(tunnel);
    settles_at(&handle, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_with_a_stated_length_is_a_sample() {
    // Story: hyper drops a body once it has written the length that was said, over HTTP/1, and does not ask for its end. A
    // lane that is measured by its bodies had not one sample of such answers, and kept the limit it had begun with.
    let chunks = || [Ok::<_, Infallible>("al"), Ok("l")].into_iter();
    let sized = move || {
        let (body, _) = ScriptedBody::script()
            .data("al")
            .data("l")
            .claim_size(SizeHint::with_exact(3))
            .claim_end(false)
            .build();
        Response::new(Body::new(body))
    };
    let stated = move || {
        let body = Body::from_stream(futures_util::stream::iter(chunks()));
        ([(header::CONTENT_LENGTH, "3")], body).into_response()
    };
    let app = Router::new()
        .route("/sized", get(async move || sized()))
        .route("/stated", get(async move || stated()));
    for path in ["/sized", "/stated"] {
        let limit = Limit::adaptive(Aimd::default()).shortest(Duration::ZERO);
        let layer = BulkheadLayer::builder(limit.window(Duration::from_millis(1)))
            .lane(LaneConfig::new("core").sample(Sample::Body))
            .build()
            .unwrap();
        let handle = layer.handle();
        let address = serve(app.clone().layer(layer)).await;
        let mut client = Client::connect(address).await;
        for _ in 0..200 {
            client.get(path).await;
            let answer = client.read_answer().await;
            assert_eq!(answer.header("content-length"), Some("3"));
            assert_eq!(answer.text(), "all");
        }
        settles_at(&handle, 0).await;
        let adaptive = first_lane(&handle).adaptive.unwrap();
        assert!(adaptive.answered >= 10, "{path}: {adaptive:?}");
    }
}
