//! Through a real server, with sockets.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use gw_observe::{AccessLog, ObserveLayer};
use gw_testkit::client::Client;
use gw_testkit::{Gate, within};
use static_assertions::assert_impl_all;
use support::{Pipe, every_request, flushed};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

assert_impl_all!(ObserveLayer: Clone, Send, Sync);
assert_impl_all!(AccessLog: Send, Sync);
assert_impl_all!(gw_observe::AccessLogHandle: Clone, Send, Sync);
assert_impl_all!(gw_observe::Observe<()>: Clone, Send, Sync);

async fn serve(log: &AccessLog, gate: &Gate) -> SocketAddr {
    let gate = gate.clone();
    let layer = ObserveLayer::builder().access_log(log).build().unwrap();
    let app = Router::new()
        .route("/", get(async || "hello"))
        .route("/echo", post(async |body: String| body))
        .route("/gate", get(async move || gate.pass().await))
        .layer(layer);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

/// Requests over sixteen connections at once, all of them answered.
async fn load(address: SocketAddr, each: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            for _ in 0..each {
                client.get("/").await;
                let answer = client.read_answer().await;
                assert_eq!((answer.status(), answer.text()), (200, "hello"));
            }
        });
    }
    clients.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_do_not_notice_a_stuck_pipe() {
    let pipe = Pipe::stuck();
    let log = every_request(&pipe)
        .buffer_bytes(32 * 1024)
        .start()
        .unwrap();
    let gate = Gate::new();
    let address = serve(&log, &gate).await;
    // That they are answered at all is the point: a log that waited for its reader would answer none.
    within("all answers", load(address, 200)).await;
    let handle = log.handle();
    let counts = handle.counts();
    assert_eq!(counts.requests(), 3_200, "{counts:?}");
    assert_eq!((counts.written, counts.sampled_out), (0, 0));
    assert!(counts.lost_full > 2_000, "{counts:?}");

    pipe.unstick();
    flushed(&handle);
    // Sampled from here on: all ways that a line can go at once.
    handle.set_share(gw_observe::Class::Normal, 0.5).unwrap();
    within("all answers", load(address, 20)).await;
    flushed(&handle);
    drop(log);
    let counts = handle.counts();
    assert_eq!(counts.requests(), 3_200 + 320);
    assert_eq!(
        counts.written + counts.lost() + counts.sampled_out,
        3_200 + 320
    );
    assert!(counts.sampled_out > 50, "{counts:?}");
    assert_eq!(pipe.lines().len() as u64, counts.written);
}

#[tokio::test]
async fn lines_say_what_went_over_the_wire() {
    let pipe = Pipe::default();
    let log = every_request(&pipe).start().unwrap();
    let gate = Gate::new();
    let address = serve(&log, &gate).await;
    let mut client = Client::connect(address).await;
    client
        .send("POST /echo?secret HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nuser-agent: test\r\n\r\n12345")
        .await;
    assert_eq!(client.read_answer().await.text(), "12345");
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.read_answer_to("HEAD").await;
    client.get("/gate").await;
    gate.reached(1).await;
    client.reset();
    let handle = log.handle();
    within("the line of the request that was given up", async {
        while handle.counts().requests() < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    flushed(&handle);
    let lines = pipe.lines();
    let [echo, head, gated] = &lines[..] else {
        unreachable!("{lines:?}")
    };
    assert_eq!(echo["path"], "/echo");
    assert_eq!(
        (&echo["request_size"], &echo["response_size"]),
        (&5.into(), &5.into())
    );
    assert_eq!(echo["user_agent"], "test");
    assert_eq!(echo["client_ip"], "127.0.0.1");
    assert_eq!(head["ended_by"], "completed");
    assert_eq!(
        (&gated["ended_by"], &gated["phase"]),
        (&"client".into(), &"request".into())
    );
    assert_ne!(echo["trace_id"], head["trace_id"]);
}
