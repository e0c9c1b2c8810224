//! Upstreams that have timers for uploads, too.

use std::time::Duration;

use gw_core::attempt::Failure;
use gw_pipeline::upstream::{ErrorKind, Protocol};
use gw_testkit::body::ScriptedBody;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::support::*;

/// SETTINGS without any, and the confirmation of the peer's.
const HELLO: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
const RESET: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
const SECOND: Duration = Duration::from_secs(1);

/// What becomes of an upload of which no more has come for so long when the upstream says this as its last word.
async fn tires(
    protocol: Protocol,
    hello: &'static [u8],
    after: Duration,
    last: &'static [u8],
) -> (&'static str, ErrorKind, Failure) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = builder(listener.local_addr().unwrap()).protocol(protocol);
    let gateway = gateway.build().unwrap();
    let (tired, tires) = oneshot::channel();
    let upstream = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The beginning of either protocol's request is longer.
        stream.read_exact(&mut [0; 24]).await.unwrap();
        stream.write_all(hello).await.unwrap();
        let mut bytes = [0; 1024];
        let reading = async { while stream.read(&mut bytes).await.unwrap() > 0 {} };
        tokio::select! {
            () = reading => panic!("the gateway has closed"),
            tired = tires => tired.unwrap(),
        }
        stream.write_all(last).await.unwrap();
    });
    let (body, sender) = ScriptedBody::script()
        .data("slow")
        .hold()
        .data("ly")
        .build();
    let sending = tokio::spawn(forward(&gateway).oneshot(post(body)));
    sender.held().await;
    pass(after).await;
    tired.send(()).unwrap();
    let rejection = gw_testkit::within("the end of the exchange", sending).await;
    let rejection = rejection.unwrap().unwrap_err();
    upstream.await.unwrap();
    is_quiet(&gateway).await;
    let failure = rejection.failure();
    (rejection.code().name(), kind(&rejection), failure)
}

/// Story: an upstream that closes uploads which nobody goes on with does so without an answer. That was its failure, so one client
/// that sent slowly opened its breaker for all.
#[tokio::test]
async fn an_upstream_that_tires_of_a_slow_client_has_not_failed() {
    let client = ("CLIENT_TIMEOUT", ErrorKind::UploadTimeout, Failure::Local);
    let upstream = ("BAD_GATEWAY", ErrorKind::Answer, Failure::Unknown);
    for (protocol, hello, last) in [
        (Protocol::Http1, &b""[..], &b""[..]),
        (Protocol::Http2, HELLO, b""),
        (Protocol::Http2, HELLO, RESET),
    ] {
        let ends = async |after| tires(protocol, hello, after, last).await;
        assert_eq!(ends(5 * SECOND).await, client, "{protocol:?} {last:?}");
        assert_eq!(
            ends(Duration::ZERO).await,
            upstream,
            "{protocol:?} {last:?}"
        );
    }
}

/// What it says wrongly is its failure, whoever is slow.
#[tokio::test]
async fn an_upstream_that_breaks_the_rules_has_failed() {
    let upstream = ("BAD_GATEWAY", ErrorKind::Answer, Failure::Unknown);
    // HEADERS of stream 1 without a status.
    let no_head: &[u8] = &[0, 0, 0, 1, 5, 0, 0, 0, 1];
    for (protocol, hello, last) in [
        (Protocol::Http1, &b""[..], &b"SSH-2.0"[..]),
        (Protocol::Http1, b"", b"HTTP/1.1 200 OK\r\nx"),
        (Protocol::Http2, HELLO, no_head),
    ] {
        let ended = tires(protocol, hello, 5 * SECOND, last).await;
        assert_eq!(ended, upstream, "{protocol:?} {last:?}");
    }
}
