//! Requests and answers on HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use gw_core::context::PeerAddr;
use gw_pipeline::Body;
use gw_pipeline::server::CloseReason;
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use gw_testkit::within;
use http::{Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;

use crate::support::{
    HTTP2_PREFACE, Running, echo_path, frame, http2_client, http2_client_over, http2_client_with,
    http2_get, http2_send, ok, outcome,
};

#[tokio::test]
async fn both_protocols_are_served_on_one_listener() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    let (mut http2, _connection) = http2_client(running.addr).await;
    let mut http1 = Client::connect(running.addr).await;
    for path in ["/1", "/2"] {
        let sent = http2_send(&mut http2, http2_get(path));
        let answer = outcome("an answer", sent).await.unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), path);
        http1.get(path).await;
        assert_eq!(http1.read_answer().await.text(), path);
    }
}

#[tokio::test]
async fn sixteen_requests_are_served_at_once_on_one_connection() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let sent: Vec<_> = (0..16)
        .map(|n| http2_send(&mut client, http2_get(&format!("/{n}"))))
        .collect();
    running.service.flying(16).await;
    for _ in 0..16 {
        let call = running.service.next_call().await;
        assert!(call.request().extensions().get::<PeerAddr>().is_some());
        let path = call.request().uri().path().to_owned();
        call.respond(Response::new(Body::from(path)));
    }
    for (n, sent) in sent.into_iter().enumerate() {
        let answer = outcome("an answer", sent).await.unwrap();
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            format!("/{n}")
        );
    }
    assert!(running.service.violations().is_empty());
    assert_eq!(running.snapshot().active, 1);
}

#[tokio::test]
async fn uploads_large_answers_and_trailers_pass() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let upload = Bytes::from(vec![b'u'; 3_000_000]);
    let request = Request::post("http://gateway.example/")
        .body(Full::new(upload.clone()))
        .unwrap();
    let sent = http2_send(&mut client, request);
    let (request, reply) = running.service.next_call().await.into_parts();
    assert_eq!(
        request.into_body().collect().await.unwrap().to_bytes(),
        upload
    );
    let (body, _) = ScriptedBody::script()
        .data(upload.clone())
        .trailers([("x", "y")])
        .build();
    reply.respond(Response::new(Body::new(body)));
    let answer = outcome("an answer", sent).await.unwrap();
    let collected = answer.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x"], "y");
    assert_eq!(collected.to_bytes(), upload);
}

#[tokio::test]
async fn a_client_that_vanishes_drops_futures_and_bodies() {
    let running = Running::start(|b| b).await;
    // The client's own tasks keep its end open, so that something between has to fail.
    let mut wire = TcpStream::connect(running.addr).await.unwrap();
    let (near, mut far) = tokio::io::duplex(64 * 1024);
    let relay = tokio::spawn(async move { copy_bidirectional(&mut far, &mut wire).await });
    let (mut client, _connection) = http2_client_over(near, |_| {}).await;
    let _first = http2_send(&mut client, http2_get("/"));
    let mut waiting = running.service.next_call().await;
    let second = http2_send(&mut client, http2_get("/"));
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    let _streaming = outcome("an answer", second).await.unwrap();
    relay.abort();
    waiting.abandoned().await;
    handle.dropped().await;
    running.closed(CloseReason::ClientGone, 1).await;
}

#[tokio::test]
async fn a_reset_stream_drops_its_future_and_no_other() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let given_up = http2_send(&mut client, http2_get("/"));
    let mut abandoned = running.service.next_call().await;
    let kept = http2_send(&mut client, http2_get("/"));
    let call = running.service.next_call().await;
    given_up.abort();
    abandoned.abandoned().await;
    assert!(!call.is_abandoned());
    call.respond(ok("kept"));
    assert_eq!(outcome("an answer", kept).await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_panic_ends_its_stream_only() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let doomed = http2_send(&mut client, http2_get("/"));
    let panicking = running.service.next_call().await;
    let kept = http2_send(&mut client, http2_get("/"));
    let call = running.service.next_call().await;
    panicking.panic("of the test");
    outcome("the stream to fail", doomed).await.unwrap_err();
    call.respond(ok("kept"));
    assert_eq!(outcome("an answer", kept).await.unwrap().status(), 200);
    let after = http2_send(&mut client, http2_get("/"));
    running.service.next_call().await.respond(ok("after"));
    assert_eq!(outcome("an answer", after).await.unwrap().status(), 200);
    assert_eq!(running.snapshot().active, 1);
}

/// Story: the service is called on the connection's task, so a panic in the call itself ended all streams.
#[tokio::test]
async fn a_panic_in_the_call_ends_its_stream_only() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let kept = http2_send(&mut client, http2_get("/"));
    let call = running.service.next_call().await;
    running.service.answer_with(|_| panic!("of the test"));
    let doomed = http2_send(&mut client, http2_get("/"));
    outcome("the stream to fail", doomed).await.unwrap_err();
    call.respond(ok("kept"));
    assert_eq!(outcome("an answer", kept).await.unwrap().status(), 200);
    echo_path(&running.service);
    let after = http2_send(&mut client, http2_get("/"));
    assert_eq!(outcome("an answer", after).await.unwrap().status(), 200);
    assert_eq!(running.snapshot().active, 1);
}

#[tokio::test]
async fn an_idle_connection_says_goodbye() {
    let running = Running::start(|b| b.keep_alive_timeout(Duration::from_millis(100))).await;
    echo_path(&running.service);
    let (mut client, connection) = http2_client(running.addr).await;
    let sent = http2_send(&mut client, http2_get("/"));
    assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
    outcome("the connection to end", connection).await.unwrap();
    running.closed(CloseReason::KeepAliveTimeout, 1).await;
}

/// A closed window is invisible at the socket. It costs the stream, and no other.
#[tokio::test]
async fn a_stream_whose_answer_is_not_taken_is_reset() {
    let running = Running::start(|b| b.write_stall_timeout(Duration::from_millis(100))).await;
    let (mut client, _connection) = http2_client_with(running.addr, |b| {
        _ = b.initial_stream_window_size(16 * 1024)
    })
    .await;
    let sent = http2_send(&mut client, http2_get("/stalled"));
    let chunk = Bytes::from(vec![b'x'; 200 * 1024]);
    let (body, handle) = ScriptedBody::script()
        .data(chunk.clone())
        .data(chunk)
        .build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    let unread = outcome("an answer", sent).await.unwrap();
    handle.dropped().await;
    assert_eq!(handle.frames(), 1, "the second piece was never asked for");

    let other = http2_send(&mut client, http2_get("/other"));
    running.service.next_call().await.respond(ok("other"));
    let other = outcome("an answer", other).await.unwrap();
    assert_eq!(
        other.into_body().collect().await.unwrap().to_bytes(),
        "other"
    );
    within("the stalled answer to fail", unread.into_body().collect())
        .await
        .unwrap_err();
    assert_eq!(running.snapshot().stalled_streams, 1);
    assert_eq!(running.snapshot().active, 1);
}

#[tokio::test]
async fn a_socket_that_takes_nothing_is_reset() {
    let running = Running::start(|b| b.write_stall_timeout(Duration::from_millis(100))).await;
    let mut client = Client::connect(running.addr).await;
    let mut bytes = HTTP2_PREFACE.to_vec();
    // The widest windows for streams and connection, and GET http://a/. Then the client reads nothing.
    bytes.extend(frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]));
    bytes.extend(frame(8, 0, 0, &0x7fff_0000_u32.to_be_bytes()));
    bytes.extend(frame(1, 0x5, 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
    client.send(&bytes).await;
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    let script = (0..60).fold(ScriptedBody::script(), |script, _| {
        script.data(chunk.clone())
    });
    let (body, handle) = script.build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    handle.dropped().await;
    assert!(!handle.is_finished());
    running.closed(CloseReason::WriteStall, 1).await;
    assert!(client.read_rest().await.reset);
}

/// Rapid reset (CVE-2023-44487): a request that is taken back at once must not be worth much work.
#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let running = Running::start(|b| b.http2_max_pending_resets(20)).await;
    let mut client = Client::connect(running.addr).await;
    let mut bytes = HTTP2_PREFACE.to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for n in 0..500 {
        bytes.extend(frame(1, 0x5, 2 * n + 1, &[0x82, 0x86, 0x84, 0x41, 1, b'a']));
        bytes.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    client.send(&bytes).await;
    let rest = client.read_rest().await;
    let enhance_your_calm = 0xb_u32.to_be_bytes();
    assert!(
        rest.bytes
            .windows(4)
            .any(|window| window == enhance_your_calm),
        "{rest:?}"
    );
    running.closed(CloseReason::Malformed, 1).await;
    assert!(
        running.service.calls() <= 40,
        "{} requests reached the service",
        running.service.calls()
    );
    assert_eq!(running.service.in_flight(), 0);
}

#[tokio::test]
async fn one_connection_has_so_many_requests_at_a_time() {
    let running = Running::start(|b| b.http2_max_concurrent_streams(2)).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    // The first answer shows that the client has the server's settings.
    let sent = http2_send(&mut client, http2_get("/"));
    running.service.next_call().await.respond(ok("first"));
    assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
    let sent: Vec<_> = (0..6)
        .map(|_| http2_send(&mut client, http2_get("/")))
        .collect();
    for _ in 0..6 {
        let call = running.service.next_call().await;
        assert!(running.service.in_flight() <= 2);
        call.respond(ok("later"));
    }
    for sent in sent {
        assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
    }
    assert_eq!(running.service.peak_in_flight(), 2);
}

/// Clients take a frame of data behind such a head for an error of the stream.
#[tokio::test]
async fn answers_without_a_body_have_none_whatever_the_service_says() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    for (method, status, stated, length) in [
        ("HEAD", 200, None, Some("5")),
        ("HEAD", 200, Some("7"), Some("7")),
        ("HEAD", 304, Some("7"), Some("7")),
        ("GET", 204, Some("5"), None),
        ("GET", 304, None, None),
        ("GET", 304, Some("7"), Some("7")),
    ] {
        let request = Request::builder().method(method);
        let request = request.uri("http://gateway.example/");
        let sent = http2_send(&mut client, request.body(Full::default()).unwrap());
        let mut answer = Response::builder().status(status);
        if let Some(stated) = stated {
            answer = answer.header("content-length", stated);
        }
        let answer = answer.body(Body::from("hello")).unwrap();
        running.service.next_call().await.respond(answer);
        let answer = outcome("an answer", sent).await.unwrap();
        let row = format!("{method} {status} {stated:?}");
        let got = answer.headers().get("content-length");
        assert_eq!(got.map(|it| it.to_str().unwrap()), length, "{row}");
        let mut body = answer.into_body();
        assert!(body.frame().await.is_none(), "{row}");
    }
    assert_eq!(running.snapshot().active, 1);
}

/// Story: each stream had a window as large as the connection's. One upload that waited in a queue had all of it, and the uploads to
/// healthy upstreams stood still.
#[tokio::test]
async fn uploads_that_nobody_reads_leave_room_for_others() {
    let running = Running::start(|b| b).await;
    let (mut client, _connection) = http2_client(running.addr).await;
    let upload = Bytes::from(vec![b'u'; 2 * 1024 * 1024]);
    let post = || Request::post("http://gateway.example/").body(Full::new(upload.clone()));
    let mut unread = Vec::new();
    for _ in 0..15 {
        let sent = http2_send(&mut client, post().unwrap());
        unread.push((running.service.next_call().await, sent));
    }
    let sent = http2_send(&mut client, post().unwrap());
    let (request, reply) = running.service.next_call().await.into_parts();
    let read = within("the upload", request.into_body().collect());
    assert_eq!(read.await.unwrap().to_bytes(), upload);
    reply.respond(ok("read"));
    assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
}
