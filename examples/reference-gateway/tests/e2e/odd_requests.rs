//! HTTP/1 that no well-behaved client sends: it is refused, or goes on without what is odd in it.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Received, Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config};
use crate::http::get;

/// What stands behind a message that another reader may take to have ended before it.
const BEHIND: &str = "GET /behind HTTP/1.1\r\nhost: a\r\n\r\n";

/// The most that a client sends here.
const MUCH: usize = 1024 * 1024;

/// A gateway whose breaker opens at the first failure that it takes for the upstream's.
async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let breaker = "breaker = { consecutive = 1, open = \"60s\" }\nendpoints = ";
    let tables = all_to(&upstream.url(), "").replace("endpoints = ", breaker);
    let gateway = Gateway::serve(&config("", &tables)).await;
    (gateway, upstream)
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}")
}

/// A chunked body. Its trailers are announced, or hyper would not pass them on anyway.
fn chunked(chunks: &str) -> String {
    let fields = "transfer-encoding: chunked\r\ntrailer: x, host, authorization\r\n";
    post(fields, chunks)
}

/// Refused as the client's fault, and the connection ends: what stands behind is no request.
async fn is_refused(gateway: &Gateway, request: &str) {
    let shown: String = request.escape_debug().take(200).collect();
    let mut client = Client::connect(gateway.traffic).await;
    // The gateway need not take all of it.
    _ = client.try_send(&format!("{request}{BEHIND}")).await;
    let answer = client.read_answer().await;
    assert!(answer.head.is_some(), "{shown}: {answer:?}");
    assert!(
        matches!(answer.status(), 400 | 413 | 431 | 501 | 505),
        "{shown}: {answer:?}"
    );
    assert!(client.read_rest().await.bytes.is_empty(), "{shown}");
}

/// The upstream has had part of a refused request at most, and none was held against it: it is asked still.
async fn nothing_is_whole(gateway: &Gateway, upstream: &Upstream) {
    assert_eq!(get(gateway.traffic, "/last").await.status(), 200);
    gateway.is_idle().await;
    for request in upstream.requests() {
        let last = request.target == "/last";
        assert_eq!(request.complete, last, "{request:?}");
    }
}

/// One request goes on, and another one behind it on the same connection; returns the first.
async fn goes_on(gateway: &Gateway, upstream: &Upstream, request: &str) -> Received {
    let shown: String = request.escape_debug().take(200).collect();
    let before = upstream.requests().len();
    let mut client = Client::connect(gateway.traffic).await;
    client.send(&format!("{request}{BEHIND}")).await;
    assert_eq!(client.read_answer().await.status(), 200, "{shown}");
    assert_eq!(client.read_answer().await.status(), 200, "{shown}");
    let mut reached = upstream.requests().split_off(before);
    let behind = reached.pop().unwrap();
    assert_eq!(
        (&*behind.target, &*behind.method),
        ("/behind", "GET"),
        "{shown}"
    );
    assert_eq!(reached.len(), 1, "{shown}: {reached:?}");
    let first = reached.pop().unwrap();
    assert!(first.complete, "{shown}: {first:?}");
    first
}

#[tokio::test]
async fn a_control_byte_in_a_head_is_refused() {
    let (gateway, upstream) = start().await;
    let controls = (0..0x20_u8).chain([0x7f]).map(char::from);
    for byte in controls.filter(|byte| !"\t\r\n".contains(*byte)) {
        for request in [
            post(&format!("x: a{byte}b\r\n"), ""),
            post(&format!("x: {byte}a\r\n"), ""),
            post(&format!("x: a{byte}\r\n"), ""),
            post(&format!("x{byte}y: a\r\n"), ""),
            post(&format!("{byte}x: a\r\n"), ""),
            post(&format!("x{byte}: a\r\n"), ""),
            format!("GET /a{byte}b HTTP/1.1\r\nhost: a\r\n\r\n"),
            format!("GE{byte}T / HTTP/1.1\r\nhost: a\r\n\r\n"),
        ] {
            is_refused(&gateway, &request).await;
        }
    }
    for field in [
        "x: a\rb",
        "x: a\r",
        "x\r: a",
        "\rx: a",
        "x\ny: a",
        "x\ty: a",
        "x\t: a",
        "x y: a",
        "x(y): a",
        "x\u{e4}: a",
        ": a",
        "x",
    ] {
        is_refused(&gateway, &post(&format!("{field}\r\n"), "")).await;
    }
    nothing_is_whole(&gateway, &upstream).await;
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn a_version_that_is_not_spoken_is_refused() {
    let (gateway, upstream) = start().await;
    for version in [
        " HTTP/2.0",
        " HTTP/3.0",
        " HTTP/9.9",
        " HTTP/0.9",
        " HTTP/1.2",
        " HTTP/1.10",
        " HTTP/1.01",
        " HTTP/01.1",
        " HTTP/11",
        " HTTP/1.",
        " HTTP/1",
        " HTTP/1,1",
        " HTTP/-1.1",
        " HTTP/1.1x",
        " HTTP/1.1 ",
        " HTTP/1.1\0",
        " http/1.1",
        " Http/1.1",
        " HTTPS/1.1",
        " HTTP 1.1",
        " ",
        "",
    ] {
        let request = format!("GET /{version}\r\nhost: a\r\n\r\n");
        is_refused(&gateway, &request).await;
    }
    // It begins as HTTP/2 does, and goes on as something else.
    is_refused(&gateway, "PRI * HTTP/2.0\r\n\r\n").await;
    nothing_is_whole(&gateway, &upstream).await;
    assert_eq!(upstream.requests().len(), 1);
}

/// RFC 9112, section 6.1: whoever sent it may not know what it is, and has ended the message elsewhere.
#[tokio::test]
async fn a_coding_on_http_1_0_is_refused() {
    let (gateway, upstream) = start().await;
    for fields in [
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: chunked\r\nconnection: keep-alive\r\n",
        "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
    ] {
        let request = format!("POST / HTTP/1.0\r\nhost: a\r\n{fields}\r\n0\r\n\r\n");
        is_refused(&gateway, &request).await;
    }
    nothing_is_whole(&gateway, &upstream).await;
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn odd_sizes_and_extensions_of_chunks_end_here() {
    let (gateway, upstream) = start().await;
    let one = format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(MUCH));
    let small = format!("1;{}\r\nx\r\n", "a".repeat(33));
    let many = small.repeat(MUCH / 2 / small.len()) + "0\r\n\r\n";
    for chunks in [
        "0x\r\n\r\n",
        "0x0\r\n\r\n",
        "x\r\n\r\n",
        "1g\r\nx\r\n0\r\n\r\n",
        "1.0\r\nx\r\n0\r\n\r\n",
        "1 0\r\nx\r\n0\r\n\r\n",
        "\u{0}1\r\nx\r\n0\r\n\r\n",
        "\t1\r\nx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "1;a\rb\r\nx\r\n0\r\n\r\n",
        "1;a=\"\n\"\r\nx\r\n0\r\n\r\n",
        "0;a\n\r\n\r\n",
        &one,
        &many,
    ] {
        is_refused(&gateway, &chunked(chunks)).await;
    }
    nothing_is_whole(&gateway, &upstream).await;
    let zeros = "0".repeat(MUCH);
    let padded = format!("{zeros}1\r\nx\r\n{zeros}\r\n\r\n");
    for chunks in [
        "1;a=b\r\nx\r\n0\r\n\r\n",
        "1;a=\"b;c\"\r\nx\r\n0;d\r\n\r\n",
        "1 ;a\r\nx\r\n0 \r\n\r\n",
        &padded,
    ] {
        let request = goes_on(&gateway, &upstream, &chunked(chunks)).await;
        assert_eq!(request.body, "x");
        assert!(request.trailers.is_empty(), "{request:?}");
    }
}

/// A chunk of 16 EiB and no more of it: what comes is the body's, and never whole.
#[tokio::test]
async fn the_largest_size_of_a_chunk_hides_nothing() {
    let (gateway, upstream) = start().await;
    let request = chunked("ffffffffffffffff\r\nx\r\n0\r\n\r\n") + BEHIND;
    let mut client = Client::connect(gateway.traffic).await;
    client.send(&request).await;
    upstream.arrived(1).await;
    client.finish_sending().await;
    client.read_rest().await;
    nothing_is_whole(&gateway, &upstream).await;
}

/// No stage has checked the fields behind a body, so none of them is the upstream's to read.
#[tokio::test]
async fn trailers_of_a_request_end_here() {
    let (gateway, upstream) = start().await;
    for fields in [
        "x: y\r\n",
        "content-length: 5\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: identity\r\ncontent-length: 0\r\n",
        "host: b\r\nauthorization: secret\r\n",
        "x-forwarded-for: 192.0.2.1\r\nx-user-id: 7\r\n",
        "connection: close\r\ntrailer: x\r\n",
        "x_y: z\r\nx: \u{e4}\r\n",
    ] {
        let request = chunked(&format!("1\r\nx\r\n0\r\n{fields}\r\n"));
        let request = goes_on(&gateway, &upstream, &request).await;
        assert_eq!(request.body, "x");
        assert!(request.trailers.is_empty(), "{request:?}");
        assert_eq!(request.header("host"), Some("a"));
        for name in ["x", "authorization", "x-user-id", "x_y"] {
            assert_eq!(request.header(name), None, "{fields:?}");
        }
        let codings = request.headers.count("transfer-encoding");
        assert_eq!(codings + request.headers.count("content-length"), 1);
        let forwarded = request.header("x-forwarded-for").unwrap_or_default();
        assert!(!forwarded.contains("192.0.2.1"), "{request:?}");
    }
}

#[tokio::test]
async fn trailers_that_are_none_or_too_many_are_refused() {
    let (gateway, upstream) = start().await;
    let large = format!("x: {}\r\n", "a".repeat(MUCH));
    let many = "x: y\r\n".repeat(MUCH / 6);
    let framing = "content-length: 5\r\n".repeat(200);
    for fields in [
        "x\r\n",
        ": y\r\n",
        "x : y\r\n",
        " x: y\r\n",
        "x y: z\r\n",
        "x: y\r\n z\r\n",
        "x\0: y\r\n",
        "x: a\0b\r\n",
        "x: a\u{7f}b\r\n",
        "x: a\rb\r\n",
        "x: y\nz: 1\r\n",
        &large,
        &many,
        &framing,
    ] {
        let request = chunked(&format!("1\r\nx\r\n0\r\n{fields}\r\n"));
        is_refused(&gateway, &request).await;
    }
    nothing_is_whole(&gateway, &upstream).await;
}

/// The parser looks for the end of the trailers at CRLF, then reads them by LF too: what is between the two ends is nobody's.
#[tokio::test]
async fn a_bare_line_feed_in_trailers_lets_nothing_through() {
    let (gateway, upstream) = start().await;
    for fields in ["x: y\n\n", "\n"] {
        let request = chunked(&format!(
            "1\r\nx\r\n0\r\n{fields}GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        let request = goes_on(&gateway, &upstream, &request).await;
        assert_eq!((&*request.target, &*request.body), ("/", &b"x"[..]));
        assert!(request.trailers.is_empty(), "{request:?}");
    }
}
