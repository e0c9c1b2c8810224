//! Upstreams that have timers for uploads, too.

use std::time::Duration;

use gw_core::Body;
use gw_core::attempt::Failure;
use gw_pipeline::upstream::{ErrorKind, Protocol};
use gw_testkit::body::{BodyHandle, ScriptedBody};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::support::*;

/// SETTINGS without any, and the confirmation of the peer's.
const HELLO: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
/// The reset of a stream that is not needed any more, and of one whose handler has failed.
const CANCEL: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
const FAILED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 2];
const SECOND: Duration = Duration::from_secs(1);

/// An upload of which the rest does not come, and who tells when that is so.
fn halting() -> (Request<Body>, BodyHandle) {
    let script = ScriptedBody::script().data("slow").hold().data("ly");
    let (body, sender) = script.build();
    (post(body), sender)
}

/// What becomes of an upload of which no more has come for so long when the upstream says this as its last word.
async fn tires(
    protocol: Protocol,
    hello: &'static [u8],
    after: Duration,
    last: &'static [u8],
    content_type: &'static str,
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
    let (mut request, sender) = halting();
    let content_type = HeaderValue::from_static(content_type);
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    let sending = tokio::spawn(forward(&gateway).oneshot(request));
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
        (Protocol::Http2, HELLO, CANCEL),
    ] {
        let ends = async |after| tires(protocol, hello, after, last, "text/plain").await;
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
        (Protocol::Http2, HELLO, FAILED),
    ] {
        let ended = tires(protocol, hello, 5 * SECOND, last, "text/plain").await;
        assert_eq!(ended, upstream, "{protocol:?} {last:?}");
    }
}

/// In a call it may be the client's turn to listen, before there is a head.
#[tokio::test]
async fn a_call_that_breaks_off_has_failed_whoever_was_silent() {
    let upstream = ("BAD_GATEWAY", ErrorKind::Answer, Failure::Unknown);
    for last in [&b""[..], CANCEL] {
        let ended = tires(Protocol::Http2, HELLO, 5 * SECOND, last, "application/grpc");
        assert_eq!(ended.await, upstream, "{last:?}");
    }
}

/// Nor does it tire who is dead, as a ping finds out.
#[tokio::test]
async fn an_upstream_that_is_found_dead_in_an_upload_has_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = builder(listener.local_addr().unwrap()).protocol(Protocol::Http2);
    let gateway = gateway.ping_interval(60 * SECOND).build().unwrap();
    let (mut request, sender) = halting();
    request.extensions_mut().insert(PATIENT);
    let sending = tokio::spawn(forward(&gateway).oneshot(request));
    let (mut stream, _) = listener.accept().await.unwrap();
    stream.write_all(HELLO).await.unwrap();
    sender.held().await;
    let rejection = in_time(sending).await.unwrap().unwrap_err();
    assert_eq!(kind(&rejection), ErrorKind::Answer);
    assert_eq!(rejection.failure(), Failure::Unknown);
}
