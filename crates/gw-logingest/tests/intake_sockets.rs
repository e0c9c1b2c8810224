//! The intake behind real sockets: as a layer of an axum router, and on its own.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use gw_logingest::queue::{Leased, Want};
use gw_logingest::{IngestHandle, LogIngest, MemoryQueue, Queue as _};
use gw_testkit::client::{Client, Ended};
use intake_support::{array, event};
use tokio::net::TcpListener;

async fn serve(queue: &MemoryQueue) -> (SocketAddr, IngestHandle) {
    let ingest = LogIngest::builder(queue.clone())
        .max_body_bytes(10_000)
        .build()
        .unwrap();
    let handle = ingest.handle();
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .layer(ingest.layer("/api/logs").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    (addr, handle)
}

fn head(length: usize) -> String {
    format!(
        "POST /api/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn upload(body: &str) -> String {
    head(body.len()) + body
}

fn queue() -> MemoryQueue {
    MemoryQueue::builder().build().unwrap()
}

async fn lease(queue: &MemoryQueue) -> Vec<Leased> {
    let want = Want {
        bytes: usize::MAX,
        events: usize::MAX,
    };
    queue.lease(want).await
}

/// Waits for a fact, with the limit that the test tools set.
async fn until(what: &str, fact: impl Fn() -> bool) {
    let fact = async {
        while !fact() {
            tokio::task::yield_now().await;
        }
    };
    gw_testkit::within(what, fact).await;
}

#[tokio::test]
async fn events_go_in_and_come_out() {
    let queue = queue();
    let (addr, handle) = serve(&queue).await;
    let mut client = Client::connect(addr).await;
    client.send(&upload(&array(2))).await;
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.status(), answer.header("x-gw-log-durability")),
        (202, Some("memory"))
    );
    // The same connection serves the rest of the router.
    client.get("/hello").await;
    assert_eq!(client.read_answer().await.text(), "hello");
    client.get("/api/logs").await;
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.status(), answer.header("allow")),
        (405, Some("POST"))
    );
    let leased = lease(&queue).await;
    assert_eq!(
        (leased[0].batch().len(), leased[0].batch().client().as_str()),
        (2, "ip:127.0.0.1")
    );
    assert_eq!(handle.snapshot().counts.accepted, 2);
}

#[tokio::test]
async fn chunks_pipelines_and_expectations() {
    let queue = queue();
    let (addr, handle) = serve(&queue).await;
    let mut client = Client::connect(addr).await;
    let body = event("info", "in pieces");
    let chunked: String = body
        .as_bytes()
        .chunks(7)
        .map(|chunk| {
            format!(
                "{:x}\r\n{}\r\n",
                chunk.len(),
                std::str::from_utf8(chunk).unwrap()
            )
        })
        .collect();
    client
        .send(&format!("POST /api/logs HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n{chunked}0\r\n\r\n"))
        .await;
    assert_eq!(client.read_answer().await.status(), 202);
    client.send(&(upload(&array(1)) + &upload(&array(1)))).await;
    assert_eq!(client.read_answer().await.status(), 202);
    assert_eq!(client.read_answer().await.status(), 202);
    assert_eq!(handle.snapshot().counts.accepted, 3);
}

/// Who is still sending sees why it may stop.
#[tokio::test]
async fn a_body_for_which_there_is_no_room_is_answered_while_it_is_sent() {
    let queue = MemoryQueue::builder().max_bytes(20_000).build().unwrap();
    let (addr, handle) = serve(&queue).await;
    let mut client = Client::connect(addr).await;
    loop {
        client
            .send(&upload(&event("info", &"x".repeat(2_000))))
            .await;
        if client.read_answer().await.status() != 202 {
            break;
        }
    }
    let taken = handle.snapshot().counts.accepted;
    client
        .send(&(head(9_000) + "[" + &event("info", &"x".repeat(2_000)) + ","))
        .await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 429);
    assert!(answer.header("retry-after").is_some());
    let counts = handle.snapshot().counts;
    assert_eq!((counts.accepted, counts.imbalance()), (taken, 0));
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_body_leaves_nothing() {
    let queue = queue();
    let (addr, handle) = serve(&queue).await;
    let mut client = Client::connect(addr).await;
    let body = array(3);
    client
        .send(&(head(body.len()) + &body[..body.len() - 2]))
        .await;
    // All three events are in what was sent, the third one without its end.
    until("two events in progress", || {
        handle.snapshot().counts.in_progress >= 2
    })
    .await;
    client.reset();
    until("no event in progress", || {
        handle.snapshot().counts.in_progress == 0
    })
    .await;
    let counts = handle.snapshot().counts;
    assert_eq!(
        (counts.accepted, counts.refused, counts.imbalance()),
        (0, 2, 0)
    );
    assert_eq!(queue.status().batches, 0);
}

#[tokio::test]
async fn too_large_is_told_before_the_body_is_sent() {
    let (addr, _) = serve(&queue()).await;
    let mut client = Client::connect(addr).await;
    client.send(&head(10_001)).await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 413);
    assert!(
        answer.text().contains(r#""maximum":10000"#),
        "{}",
        answer.text()
    );
    assert_eq!(answer.ended, Ended::Complete);
}

/// Sixteen connections share one set of counts.
#[tokio::test]
async fn connections_share_the_state() {
    let queue = queue();
    let (addr, handle) = serve(&queue).await;
    let uploads = (0..16).map(|_| {
        tokio::spawn(async move {
            let mut client = Client::connect(addr).await;
            for _ in 0..10 {
                client.send(&upload(&array(5))).await;
                assert_eq!(client.read_answer().await.status(), 202);
            }
        })
    });
    for upload in uploads.collect::<Vec<_>>() {
        upload.await.unwrap();
    }
    let counts = handle.snapshot().counts;
    assert_eq!(
        (counts.received, counts.accepted, counts.imbalance()),
        (800, 800, 0)
    );
    assert_eq!(queue.status().events, 800);
}
