//! Clients that take their time.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config};
use crate::http::is_refusal;

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

#[tokio::test]
async fn a_head_that_does_not_come_is_closed() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let server = "header_timeout = \"1s\"\nkeep_alive_timeout = \"200ms\"";
    let gateway = Gateway::serve(&config(server, &all_to(&upstream.url(), ""))).await;
    let mut half = Client::connect(gateway.traffic).await;
    half.send("GET / HTTP/1.1\r\nhos").await;
    let answer = half.read_answer().await;
    assert_eq!(answer.status(), 408, "{answer:?}");
    assert!(answer.text().contains("\"CLIENT_TIMEOUT\""), "{answer:?}");
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
