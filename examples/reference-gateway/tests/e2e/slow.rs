//! Clients that take their time.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};
use tokio::net::TcpListener;

use crate::gateway::{Gateway, all_to, config, route, upstream};
use crate::http::is_refusal;
use crate::log_lines::to_file;
use crate::odd_http2::begin;

#[tokio::test]
async fn a_body_that_stops_coming_is_408() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config(
        "body_idle_timeout = \"200ms\"",
        &all_to(&upstream.url(), ""),
    ))
    .await;
    for framing in [
        "content-length: 100\r\n\r\nabc",
        "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = Client::connect(gateway.traffic).await;
        client
            .send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}"))
            .await;
        let answer = client.read_answer().await;
        is_refusal(framing, &answer, 408, "CLIENT_TIMEOUT");
        // What may still come cannot be told from a request, so the connection ends, and says so.
        assert_eq!(answer.header("connection"), Some("close"), "{framing}");
        assert!(client.read_rest().await.bytes.is_empty());
    }
    gateway.is_idle().await;
    assert!(upstream.requests().iter().all(|it| !it.complete));
}

/// Story: the field of a gRPC call let any body come as slowly as it liked.
#[tokio::test]
async fn only_what_can_be_a_grpc_call_may_be_silent() {
    // Takes connections, and says nothing.
    let upstreams = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", upstreams.local_addr().unwrap());
    let mut tables = to_file(", normal = 1.0");
    tables += &upstream("plain", &url);
    tables += &upstream("calls", &url);
    tables += "protocol = \"http2\"\n";
    for name in ["plain", "calls"] {
        let timeouts = "timeouts = { request = \"2s\", first_byte = \"2s\" }";
        tables += &route(name, &format!("/{name}"), name, timeouts);
    }
    let gateway = Gateway::serve(&config("body_idle_timeout = \"200ms\"", &tables)).await;

    let mut client = Client::connect(gateway.traffic).await;
    client
        .send(
            "POST /calls HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\
             content-length: 9\r\n\r\n",
        )
        .await;
    client.read_answer().await;
    for (path, method) in [("/plain", "POST"), ("/calls", "PUT"), ("/calls", "POST")] {
        let head = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", path),
            ("content-type", "application/grpc"),
        ];
        begin(&gateway, &head).await;
    }
    let lines = gateway.logged(4).await;
    let causes: Vec<_> = lines.iter().map(|it| it["cause"].as_str()).collect();
    let silent = Some("request");
    // The last one has its route's time.
    let causes_in_order = [silent, silent, silent, Some("call_timeout")];
    assert_eq!(causes, causes_in_order, "{lines:?}");
}

#[tokio::test]
async fn a_head_that_does_not_come_is_closed() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let server = "header_timeout = \"1s\"\nkeep_alive_timeout = \"200ms\"";
    let gateway = Gateway::serve(&config(server, &all_to(&upstream.url(), ""))).await;
    let mut half = Client::connect(gateway.traffic).await;
    half.send("GET / HTTP/1.1\r\nhos").await;
    let answer = half.read_answer().await;
    // No stage has made it, and it has all that theirs have.
    is_refusal("a slow head", &answer, 408, "CLIENT_TIMEOUT");
    assert!(half.read_rest().await.bytes.is_empty());

    // Nothing asked, nothing answered.
    let mut silent = Client::connect(gateway.traffic).await;
    assert!(silent.read_rest().await.bytes.is_empty());
    let mut idle = Client::connect(gateway.traffic).await;
    idle.get("/").await;
    assert_eq!(idle.read_answer().await.status(), 200);
    assert!(idle.read_rest().await.bytes.is_empty());
    gateway.is_idle().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let piece = bytes(1 << 20);
    let pieces = std::iter::repeat_n(piece, 64);
    let upstream = Upstream::start(always(Reply::ok().pieces(pieces))).await;
    let gateway = Gateway::serve(&config(
        "write_stall_timeout = \"200ms\"",
        &all_to(&upstream.url(), ""),
    ))
    .await;
    let mut client = Client::connect(gateway.traffic).await;
    client.get("/").await;
    upstream.arrived(1).await;
    // Not reading is all that this client does.
    upstream.ended(1).await;
    gateway.is_idle().await;
    assert!(!client.read_answer().await.is_complete());
}

#[tokio::test]
async fn a_client_that_leaves_in_the_middle_of_its_upload_leaves_nothing_behind() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    for reset in [true, false] {
        let mut client = Client::connect(gateway.traffic).await;
        client
            .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc")
            .await;
        gateway.lane_holds("core", 1).await;
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        gateway.is_idle().await;
    }
    assert!(upstream.requests().iter().all(|it| !it.complete));
}

fn bytes(count: usize) -> Vec<u8> {
    vec![b'x'; count]
}
