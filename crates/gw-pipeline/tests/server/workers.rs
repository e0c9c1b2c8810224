//! Connections on threads of their own.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use gw_pipeline::Body;
use gw_pipeline::server::{Server, ServerConfig, ServerConfigBuilder, Workers};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use http::Response;

use crate::support::{Running, http2_client, http2_get, http2_send, ok, outcome};

async fn start(set: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder) -> Running {
    let workers = Workers::start("worker", 2).unwrap();
    let config = set(ServerConfig::builder()).build().unwrap();
    Running::start_on(Server::new(config).workers(workers)).await
}

#[tokio::test]
async fn a_connection_stays_on_its_thread() {
    let mut running = start(|b| b).await;
    running.service.answer_with(|_| {
        let name = thread::current().name().unwrap_or_default().to_owned();
        Ok(Response::new(Body::from(name)))
    });
    let mut clients = Vec::new();
    for _ in 0..4 {
        clients.push(Client::connect(running.addr).await);
    }
    running.active(4).await;
    let mut threads = Vec::new();
    for client in &mut clients {
        client.get("/").await;
        let thread = client.read_answer().await.text().to_owned();
        client.get("/").await;
        assert_eq!(client.read_answer().await.text(), thread);
        threads.push(thread);
    }
    let different: HashSet<_> = threads.iter().map(String::as_str).collect();
    assert_eq!(different, HashSet::from(["worker-0", "worker-1"]));
    running.stop();
    assert!(running.stopped().await.is_clean());
}

#[tokio::test]
async fn what_is_in_flight_has_the_grace() {
    let mut running = start(|b| b.shutdown_grace(Duration::from_secs(3600))).await;
    let mut quick = Client::connect(running.addr).await;
    quick.get("/").await;
    let call = running.service.next_call().await;
    running.stop();
    call.respond(ok("finished"));
    assert_eq!(quick.read_answer().await.text(), "finished");
    assert!(running.stopped().await.is_clean());
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut() {
    let mut running = start(|b| b.shutdown_grace(Duration::from_millis(100))).await;
    let mut streaming = Client::connect(running.addr).await;
    streaming.get("/").await;
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    let answer = Response::new(Body::new(body));
    running.service.next_call().await.respond(answer);
    streaming.read_head().await;
    let (mut http2, _connection) = http2_client(running.addr).await;
    let stream = http2_send(&mut http2, http2_get("/"));
    let mut doomed = running.service.next_call().await;

    running.stop();
    let drained = running.stopped().await;
    assert_eq!((drained.connections_cut, drained.requests_cut), (2, 2));
    handle.dropped().await;
    doomed.abandoned().await;
    outcome("the stream to fail", stream).await.unwrap_err();
    assert!(streaming.read_rest().await.reset);
}

#[tokio::test]
async fn the_threads_take_what_is_open_along() {
    let running = start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let mut call = running.service.next_call().await;
    running.abort().await;
    call.abandoned().await;
    assert!(client.read_rest().await.reset);
}
