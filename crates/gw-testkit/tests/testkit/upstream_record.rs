//! What the upstream records and counts.

use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Progress, Reply, Upstream, always};

async fn pair() -> (Upstream, Client) {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let client = Client::connect(upstream.addr()).await;
    (upstream, client)
}

#[tokio::test]
async fn requests_are_recorded_as_sent() {
    let (upstream, mut client) = pair().await;
    client.send("POST /p/a?q=1 HTTP/1.1\r\nHost: h\r\nX-B: 1\r\nx-a: 2\r\nX-B: 3\r\nContent-Length: 5\r\n\r\nhello").await;
    assert!(client.read_answer().await.is_complete());
    let request = upstream.requests().remove(0);
    assert_eq!(
        (request.method.as_str(), request.target.as_str()),
        ("POST", "/p/a?q=1")
    );
    assert_eq!((request.path(), request.minor_version), ("/p/a", 1));
    let fields: Vec<_> = request
        .headers
        .iter()
        .map(|(name, value)| (name, &value[..]))
        .collect();
    assert_eq!(
        fields,
        [
            ("Host", &b"h"[..]),
            ("X-B", b"1"),
            ("x-a", b"2"),
            ("X-B", b"3"),
            ("Content-Length", b"5"),
        ]
    );
    assert_eq!(
        (request.header("x-b"), request.headers.count("x-b")),
        (Some("1"), 2)
    );
    assert_eq!((&request.body[..], request.body_len), (&b"hello"[..], 5));
    assert!(request.complete);
}

#[tokio::test]
async fn chunked_bodies_are_decoded_with_their_trailers() {
    let (upstream, mut client) = pair().await;
    client
        .send("POST / HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab")
        .await;
    upstream.arrived(1).await;
    assert!(!upstream.requests()[0].complete);
    client
        .send("c\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 7\r\n\r\n")
        .await;
    assert!(client.read_answer().await.is_complete());
    let request = upstream.requests().remove(0);
    assert_eq!((&request.body[..], request.body_len), (&b"abcde"[..], 5));
    assert_eq!(request.trailers.get("x-sum"), Some("7"));
    assert!(request.complete);
}

#[tokio::test]
async fn of_a_large_body_a_part_is_kept_and_all_is_counted() {
    let (upstream, mut client) = pair().await;
    let length = 3 * 1024 * 1024;
    client
        .send(&format!(
            "PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n"
        ))
        .await;
    client.send(&vec![b'x'; length]).await;
    assert!(client.read_answer().await.is_complete());
    let request = upstream.requests().remove(0);
    assert_eq!(
        (request.body.len(), request.body_len),
        (1024 * 1024, length as u64)
    );
}

#[tokio::test]
async fn a_request_that_breaks_off_is_recorded_as_incomplete() {
    let (upstream, mut client) = pair().await;
    client
        .send("PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\n\r\nhel")
        .await;
    upstream.arrived(1).await;
    drop(client);
    upstream.ended(1).await;
    let request = upstream.requests().remove(0);
    assert_eq!((&request.body[..], request.complete), (&b"hel"[..], false));
    assert_eq!(request.progress, Progress::ClientLeft);
    assert!(upstream.malformed().is_empty());
}

#[tokio::test]
async fn requests_carry_their_ordinals() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let mut first = Client::connect(upstream.addr()).await;
    let mut second = Client::connect(upstream.addr()).await;
    upstream.open_connections(2).await;
    for client in [&mut first, &mut second] {
        client.get("/").await;
        assert!(client.read_answer().await.is_complete());
    }
    first.get("/").await;
    assert!(first.read_answer().await.is_complete());
    let ordinals: Vec<_> = upstream
        .requests()
        .iter()
        .map(|request| (request.index, request.connection, request.on_connection))
        .collect();
    assert_eq!(ordinals, [(0, 0, 0), (1, 1, 0), (2, 0, 1)]);
}

#[tokio::test]
async fn connections_are_counted() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let first = Client::connect(upstream.addr()).await;
    let second = Client::connect(upstream.addr()).await;
    upstream.open_connections(2).await;
    drop((first, second));
    upstream.open_connections(0).await;
    let _third = Client::connect(upstream.addr()).await;
    upstream.open_connections(1).await;
    let connections = upstream.connections();
    assert_eq!(
        (connections.open, connections.total, connections.peak),
        (1, 3, 2)
    );
}

#[tokio::test]
async fn a_request_is_in_flight_until_its_answer_is_out() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::End, &gate))).await;
    let mut client = Client::connect(upstream.addr()).await;
    client.get("/").await;
    assert!(client.read_answer().await.is_complete());
    assert_eq!(upstream.in_flight(), 1);
    gate.open();
    upstream.ended(1).await;
    assert_eq!((upstream.in_flight(), upstream.peak_in_flight()), (0, 1));
}

#[tokio::test]
async fn what_is_not_http_is_noted_and_closes_the_connection() {
    for (bytes, note) in [
        ("\x16\x03\x01\r\n\r\n", "not an HTTP/1.1 head"),
        ("GET / HTTP/1.1\r\nhost: h\n\r\n", "bare line feed"),
        (
            "PUT / HTTP/1.1\r\ncontent-length: +1\r\n\r\n",
            "content-length",
        ),
        (
            "PUT / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
            "together",
        ),
        (
            "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\r\n",
            "without a size",
        ),
    ] {
        let (upstream, mut client) = pair().await;
        client.send(bytes).await;
        assert!(client.read_rest().await.bytes.is_empty());
        let notes = upstream.malformed();
        assert!(
            notes.len() == 1 && notes[0].contains(note),
            "{bytes:?}: {notes:?}"
        );
    }
    let (upstream, mut client) = pair().await;
    client.send("GET / HT").await;
    drop(client);
    upstream.open_connections(1).await;
    upstream.open_connections(0).await;
    assert_eq!(upstream.malformed(), ["the connection ended inside a head"]);
}

#[tokio::test]
async fn an_idle_connection_that_closes_is_no_fault() {
    let (upstream, mut client) = pair().await;
    client.get("/").await;
    assert!(client.read_answer().await.is_complete());
    drop(client);
    upstream.open_connections(0).await;
    assert!(upstream.malformed().is_empty());
}
