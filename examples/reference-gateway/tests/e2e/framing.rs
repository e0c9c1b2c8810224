//! Requests of which two readers may see two different ends: what one takes for a body is a request to the other.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config};
use crate::http::{get, is_refusal, send};

/// What stands behind a message that may have ended before it.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

const CHUNKED: &str = "transfer-encoding: chunked\r\n";

async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    (gateway, upstream)
}

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n{body}")
}

/// RFC 9112, section 6.3: a length or coding that cannot be relied on is answered 400, and the connection is closed.
#[tokio::test]
async fn an_end_that_is_not_certain_is_refused_and_ends_the_connection() {
    let (gateway, upstream) = start().await;
    let mut fields = Vec::new();
    for length in [
        "4\r\ncontent-length: 5",
        "4, 4",
        "+4",
        "-4",
        "0x4",
        "4.0",
        "4e0",
        "4 4",
        "",
        "18446744073709551620",
        "\u{b}4",
    ] {
        fields.push(format!("content-length: {length}\r\n"));
    }
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "identity",
        "identity, chunked",
        "chunked, chunked",
        "chunked, identity",
        ",chunked",
        "chunked,",
        "chunked;q=1",
        "\"chunked\"",
        "xchunked",
        "\u{b}chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: identity",
        "\r\n chunked",
    ] {
        fields.push(format!("transfer-encoding: {coding}\r\n"));
    }
    fields.push("content-length : 4\r\n".to_owned());
    fields.push("transfer-encoding : chunked\r\n".to_owned());
    fields.push("x: y\r\n transfer-encoding: chunked\r\n".to_owned());
    fields.push("x: y\rtransfer-encoding: chunked\r\n".to_owned());
    for fields in fields {
        let mut client = Client::connect(gateway.traffic).await;
        let request = post(&fields, "0\r\n\r\n") + SMUGGLED;
        client.send(&request).await;
        assert_eq!(client.read_answer().await.status(), 400, "{fields:?}");
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty(), "{fields:?}: {rest:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
}

/// Chunks that the parser reads in one way only are the body's; all others are refused, and nothing behind them is read.
#[tokio::test]
async fn a_chunk_that_is_none_is_the_clients_fault() {
    let (gateway, upstream) = start().await;
    for chunks in [
        "0x1\r\nx\r\n",
        "+1\r\nx\r\n",
        "-1\r\nx\r\n",
        "\r\nx\r\n",
        " 1\r\nx\r\n",
        "1_0\r\nx\r\n",
        "1\nx\n",
        "1\rx\r",
        "1\0\r\nx\r\n",
        "10000000000000001\r\nx\r\n",
        "1\r\nxy\r\n",
        "1\r\nx\n",
        "1;a\nb\r\nx\r\n",
    ] {
        let mut client = Client::connect(gateway.traffic).await;
        client
            .send(&(post(CHUNKED, chunks) + "0\r\n\r\n" + SMUGGLED))
            .await;
        let answer = client.read_answer().await;
        is_refusal(chunks, &answer, 400, "MALFORMED_REQUEST");
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty(), "{chunks:?}: {rest:?}");
    }
    let smuggled = |request: &gw_testkit::upstream::Received| request.target == "/smuggled";
    assert!(!upstream.requests().iter().any(smuggled));
    // What a client does wrong says nothing about the upstream: its breaker has seen nothing.
    assert_eq!(get(gateway.traffic, "/").await.status(), 200);
}

/// What hyper's parser takes although a stricter one would not goes on in one form: the upstream sees one length or none, and
/// the body that the gateway saw.
#[tokio::test]
async fn what_is_taken_goes_on_in_one_form() {
    let (gateway, upstream) = start().await;
    for (fields, sent, body) in [
        (
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            "1\r\nx\r\n0\r\n\r\n",
            "x",
        ),
        (
            "transfer-encoding: chunked\r\ncontent-length: 4\r\n",
            "1\r\nx\r\n0\r\n\r\n",
            "x",
        ),
        ("content-length: 1\r\ncontent-length: 1\r\n", "x", "x"),
        ("content-length: 01\r\n", "x", "x"),
        (
            "x: y\ntransfer-encoding: chunked\r\n",
            "1\r\nx\r\n0\r\n\r\n",
            "x",
        ),
        (
            "connection: close, content-length\r\ncontent-length: 1\r\n",
            "x",
            "x",
        ),
        (
            "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\n",
            "1\r\nx\r\n0\r\n\r\n",
            "x",
        ),
        ("content_length: 9\r\ncontent-length: 1\r\n", "x", "x"),
    ] {
        assert_eq!(
            send(gateway.traffic, post(fields, sent)).await.status(),
            200,
            "{fields:?}"
        );
        let request = upstream.requests().pop().unwrap();
        assert_eq!(request.body, body, "{fields:?}");
        let (lengths, codings) = (
            request.headers.count("content-length"),
            request.headers.count("transfer-encoding"),
        );
        assert_eq!(lengths + codings, 1, "{fields:?}: {request:?}");
        assert!(
            request
                .headers
                .get("content-length")
                .is_none_or(|length| length == "1")
        );
    }
    // A length beside a coding ends the connection, so that nobody waits for what follows.
    let both = post(
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "0\r\n\r\n",
    );
    let mut client = Client::connect(gateway.traffic).await;
    client.send(&(both + SMUGGLED)).await;
    assert_eq!(client.read_answer().await.status(), 200);
    assert!(client.read_rest().await.bytes.is_empty());
    let smuggled = |request: &gw_testkit::upstream::Received| request.target == "/smuggled";
    assert!(!upstream.requests().iter().any(smuggled));
}
