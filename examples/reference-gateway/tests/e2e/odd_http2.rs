//! HTTP/2 says how long a name or value is, so anything can be in one; in HTTP/1 some of it would be the end of a line.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PROTOCOL_ERROR: u32 = 1;

/// The static table's entries for two statuses (RFC 7541, appendix A), as an indexed field.
const STATUS_200: u8 = 0x80 | 8;
const STATUS_400: u8 = 0x80 | 12;

/// How the gateway has taken a request.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// The first byte of the answer's fields.
    Answered(u8),
    /// The error of a stream or connection.
    Ended(u32),
}

pub(crate) type Fields<'a> = [(&'a str, &'a str)];

const PLAIN: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "a"),
    (":path", "/"),
];

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [
        length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
    ];
    [&head, payload].concat()
}

/// Literal fields, neither indexed nor Huffman-coded: the bytes as they are.
fn block(fields: &Fields<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte for the length");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

async fn ask(gateway: &Gateway, fields: &Fields<'_>) -> Outcome {
    let flags = END_STREAM | END_HEADERS;
    ask_with(gateway, &frame(HEADERS, flags, 1, &block(fields))).await
}

/// Sends a request whose body does not come, and waits for its answer.
pub(crate) async fn begin(gateway: &Gateway, fields: &Fields<'_>) {
    ask_with(gateway, &frame(HEADERS, END_HEADERS, 1, &block(fields))).await;
}

async fn ask_with(gateway: &Gateway, request: &[u8]) -> Outcome {
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), request].concat())
        .await;
    loop {
        let head = client.read_exact(9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = client.read_exact(length as usize).await;
        let error = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
        match head[3] {
            HEADERS => return Outcome::Answered(payload[0]),
            RST_STREAM => return Outcome::Ended(error(0)),
            GOAWAY => return Outcome::Ended(error(4)),
            _ => {}
        }
    }
}

/// RFC 9113, section 8.1.1: the stream or its connection ends with this error, or the answer is 400.
const REFUSED: [Outcome; 2] = [
    Outcome::Ended(PROTOCOL_ERROR),
    Outcome::Answered(STATUS_400),
];

async fn is_refused(gateway: &Gateway, fields: &Fields<'_>) {
    let outcome = ask(gateway, fields).await;
    assert!(REFUSED.contains(&outcome), "{fields:?}: {outcome:?}");
}

async fn is_refused_beside_others(gateway: &Gateway, name: &str, value: &str) {
    is_refused(gateway, &[&PLAIN[..], &[(name, value)]].concat()).await;
}

/// A gateway whose breaker opens at the first failure that it takes for the upstream's.
async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let breaker = "breaker = { consecutive = 1, open = \"60s\" }\nendpoints = ";
    let tables = all_to(&upstream.url(), "").replace("endpoints = ", breaker);
    (Gateway::serve(&config("", &tables)).await, upstream)
}

/// Of all that was asked, the upstream has seen none, and is asked still.
async fn none_arrived(gateway: &Gateway, upstream: &Upstream) {
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(ask(gateway, &PLAIN).await, Outcome::Answered(STATUS_200));
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn what_would_end_a_line_is_refused_wherever_it_is() {
    let (gateway, upstream) = start().await;
    let hidden = "\r\n\r\nGET /behind HTTP/1.1\r\nhost: a\r\n\r\n";
    for odd in [
        "\r", "\n", "\0", "\r\n", "\u{1}", "\u{7f}", "\r\nx: y", hidden,
    ] {
        for text in [format!("a{odd}b"), format!("a{odd}"), format!("{odd}a")] {
            is_refused_beside_others(&gateway, &text, "x").await;
            for name in ["x", "cookie", "host"] {
                is_refused_beside_others(&gateway, name, &text).await;
            }
            for at in 0..PLAIN.len() {
                let mut fields = PLAIN;
                let path = format!("/{text}");
                fields[at].1 = if fields[at].0 == ":path" {
                    &path
                } else {
                    &text
                };
                is_refused(&gateway, &fields).await;
            }
        }
    }
    none_arrived(&gateway, &upstream).await;
}

#[tokio::test]
async fn fields_that_http2_has_no_use_for_are_refused() {
    let (gateway, upstream) = start().await;
    for (name, value) in [
        ("x y", "z"),
        ("x:y", "z"),
        ("X", "y"),
        ("", "y"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("content-length", "5"),
        ("content-length", "+0"),
        (":path", "/b"),
        (":method", "POST"),
        (":authority", "b"),
        (":unknown", "b"),
        ("host", "b"),
    ] {
        is_refused_beside_others(&gateway, name, value).await;
    }
    none_arrived(&gateway, &upstream).await;
}

#[tokio::test]
async fn trailers_of_a_request_end_here() {
    let (gateway, upstream) = start().await;
    let with_trailers = |fields: &Fields<'_>| {
        // Announced, or hyper would not pass them on anyway.
        let announced = [&PLAIN[..], &[("trailer", "x, host")]].concat();
        let head = frame(HEADERS, END_HEADERS, 1, &block(&announced));
        let trailers = frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(fields));
        [head, frame(DATA, 0, 1, b"x"), trailers].concat()
    };
    // A pseudo-field among them makes a message malformed, which h2 overlooks; it drops the field.
    let pseudo = [(":path", "/b")];
    for fields in [
        &[("x", "y"), ("content-length", "5"), ("host", "b")][..],
        &pseudo,
    ] {
        let outcome = ask_with(&gateway, &with_trailers(fields)).await;
        assert_eq!(outcome, Outcome::Answered(STATUS_200));
        let request = upstream.requests().pop().unwrap();
        assert_eq!((&*request.target, &*request.body), ("/", &b"x"[..]));
        assert!(request.complete && request.trailers.is_empty());
        assert_eq!(request.header("host"), Some("a"));
        assert_eq!(request.header("x"), None);
    }
    for field in [("x", "a\r\nb"), ("x\r\ny", "a"), ("x", "\0")] {
        let outcome = ask_with(&gateway, &with_trailers(&[field])).await;
        assert!(REFUSED.contains(&outcome), "{field:?}: {outcome:?}");
    }
    assert_eq!(ask(&gateway, &PLAIN).await, Outcome::Answered(STATUS_200));
    gateway.is_idle().await;
    let whole = upstream.requests().iter().filter(|it| it.complete).count();
    assert_eq!(whole, 3);
}
