//! The raw client where the tests of the upstream do not show it already.

use gw_testkit::client::{Client, Ended};
use gw_testkit::upstream::{At, Progress, Reply, Upstream, always};

async fn pair(reply: Reply) -> (Upstream, Client) {
    let upstream = Upstream::start(always(reply)).await;
    let client = Client::connect(upstream.addr()).await;
    (upstream, client)
}

#[tokio::test]
async fn it_sends_exactly_the_bytes_it_is_given() {
    let (upstream, mut client) = pair(Reply::ok()).await;
    for byte in b"gEt /x HTTP/1.1\r\nHOST: a\r\n\r\n" {
        client.send(&[*byte]).await;
    }
    assert!(client.read_answer().await.is_complete());
    let request = upstream.requests().remove(0);
    assert_eq!(request.method, "gEt");
    assert_eq!(request.headers.iter().next().unwrap().0, "HOST");
}

#[tokio::test]
async fn its_address_is_the_peer_s_peer() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::connect(listener.local_addr().unwrap()).await;
    let (_stream, peer) = gw_testkit::within("a connection", listener.accept())
        .await
        .unwrap();
    assert_eq!(client.local_addr(), peer);
}

#[tokio::test]
async fn it_still_reads_after_it_has_finished_sending() {
    let (_upstream, mut client) = pair(Reply::ok().body("x")).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab")
        .await;
    client.finish_sending().await;
    assert_eq!(client.read_answer().await.text(), "x");
}

#[tokio::test]
async fn it_can_leave_with_a_reset_in_the_middle_of_its_request() {
    let (upstream, mut client) = pair(Reply::ok()).await;
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc")
        .await;
    upstream.arrived(1).await;
    client.reset();
    upstream.ended(1).await;
    let request = upstream.requests().remove(0);
    assert_eq!(
        (request.complete, request.progress),
        (false, Progress::ClientLeft)
    );
}

#[tokio::test]
async fn it_can_leave_in_the_middle_of_an_answer() {
    let (upstream, mut client) = pair(Reply::ok().body("0123456789").stall(At::Body(5))).await;
    client.get("/").await;
    client.read_head().await;
    assert_eq!(client.read_exact(2).await, "01");
    drop(client);
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
}

#[tokio::test]
async fn sending_to_a_peer_that_has_reset_is_an_error_and_no_panic() {
    let (_upstream, mut client) = pair(Reply::ok().reset(At::Start)).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.ended, Ended::Reset);
    assert!(client.try_send("GET / HTTP/1.1\r\n\r\n").await.is_err());
}

#[tokio::test]
async fn what_is_malformed_is_said() {
    for (bytes, what) in [
        ("HTTP/1.1 200 OK\ncontent-length: 0\n\n", "bare line feed"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\nx",
            "content-length",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nx",
            "transfer-encoding",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "chunk",
        ),
    ] {
        let (_upstream, mut client) = pair(Reply::raw(bytes)).await;
        client.get("/").await;
        match client.read_answer().await.ended {
            Ended::Malformed(said) => assert!(said.contains(what), "{said}"),
            other => panic!("{bytes:?} ended as {other:?}"),
        }
    }
}

#[tokio::test]
#[should_panic(expected = "after 3 of 4 bytes")]
async fn missing_bytes_are_an_error() {
    let (_upstream, mut client) = pair(Reply::raw("abc")).await;
    client.get("/").await;
    client.read_exact(4).await;
}

#[tokio::test]
#[should_panic(expected = "the connection ended without a head")]
async fn a_missing_head_is_an_error() {
    let (_upstream, mut client) = pair(Reply::raw("")).await;
    client.get("/").await;
    client.read_head().await;
}

#[tokio::test]
#[should_panic(expected = "there is no answer: Cut")]
async fn a_missing_answer_has_no_status() {
    let (_upstream, mut client) = pair(Reply::raw("HTTP/1.1 2")).await;
    client.get("/").await;
    client.read_answer().await.status();
}

#[tokio::test]
#[should_panic(expected = "no connection to 127.0.0.1:")]
async fn a_refused_connection_is_an_error() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let addr = upstream.addr();
    upstream.stop().await;
    Client::connect(addr).await;
}
