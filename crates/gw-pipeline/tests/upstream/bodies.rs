//! Request bodies and trailers, and who wins when an answer comes early.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::record::Record;
use gw_pipeline::Timeouts;
use gw_pipeline::inbound::{ClientFault, Fault};
use gw_pipeline::upstream::ErrorKind;
use gw_testkit::Gate;
use gw_testkit::body::{BodyHandle, ScriptedBody};
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Progress, ReadBody, Reply, Upstream, always};
use http_body::SizeHint;
use http_body_util::BodyExt as _;

use crate::support::*;

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let reply = Reply::ok()
        .header("trailer", "x-sum")
        .chunks(["a", "b"])
        .trailer("x-sum", "ab");
    let upstream = Upstream::start(always(reply)).await;
    let gateway = plain(&upstream);
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    let head = "POST /up HTTP/1.1\r\nhost: a\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\nte: trailers\r\n\r\n";
    client
        .send(&format!(
            "{head}3\r\nabc\r\n2\r\nde\r\n0\r\nx-check: 5\r\n\r\n"
        ))
        .await;
    let answer = client.read_answer().await;
    assert_eq!((answer.status(), answer.text()), (200, "ab"));
    assert_eq!(answer.trailers.get("x-sum"), Some("ab"));
    let received = upstream.requests().remove(0);
    assert_eq!(received.body, "abcde");
    assert_eq!(received.trailers.get("x-check"), Some("5"));
    assert_eq!(received.header("transfer-encoding"), Some("chunked"));
    assert_eq!(received.header("content-length"), None);
    assert_eq!(gateway.snapshot().in_flight, 0);
}

/// Story: fields of a connection that an upstream sends behind its answer made HTTP/2 reset the whole answer.
#[tokio::test]
async fn trailers_of_answers_lose_what_is_for_a_connection_or_a_head() {
    let reply = MIXED_TRAILERS
        .into_iter()
        .fold(Reply::ok().chunks(["a", "b"]), |reply, (name, value)| {
            reply.trailer(name, value)
        });
    let upstream = Upstream::start(always(reply)).await;
    let response = send(&forward(&plain(&upstream)), get("/")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
    assert_eq!(collected.to_bytes(), "ab");
}

/// RFC 9110 section 7.6.1: what the head's `Connection` names is for that connection, wherever in the message it stands.
#[tokio::test]
async fn what_the_head_of_an_answer_names_is_not_in_its_trailers() {
    let reply = Reply::ok()
        .header("connection", "x-mine, cookie")
        .chunks(["a"])
        .trailer("x-mine", "1")
        .trailer("cookie", "2")
        .trailer("x-sum", "3");
    let upstream = Upstream::start(always(reply)).await;
    let response = send(&forward(&plain(&upstream)), get("/")).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().unwrap();
    // Nobody can have anything removed that is relied on.
    assert!(trailers.contains_key("cookie") && trailers.contains_key("x-sum"));
    assert_eq!(trailers.len(), 2);
}

#[tokio::test]
async fn a_get_with_a_body_keeps_it() {
    // Story: hyper takes a GET without a length for one without a body, and drops what the client sent.
    let upstream = Upstream::start(always(Reply::ok())).await;
    let front = Front::start(forward(&plain(&upstream))).await;
    let mut client = Client::connect(front.addr).await;
    client
        .send(
            "GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
    assert_eq!(client.read_answer().await.status(), 200);
    assert_eq!(upstream.requests()[0].body, "abc");
    assert_eq!(upstream.malformed(), [""; 0]);
}

#[tokio::test]
async fn the_length_that_goes_on_is_that_of_the_body() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = forward(&plain(&upstream));
    for body in ["", "abc"] {
        // What a stage leaves that replaces the body and forgets the field.
        let mut replaced = request("POST", "/", body);
        replaced.headers_mut().insert("content-length", 99.into());
        assert_eq!(fetch(&forward, replaced).await.0, 200);
    }
    let lengths: Vec<_> = upstream.requests().iter().map(|it| it.body_len).collect();
    assert_eq!(lengths, [0, 3]);
    // Over HTTP/2 a client need not say that there is nothing (RFC 9110 section 8.6).
    for (method, length) in [("POST", Some("0")), ("PATCH", Some("0")), ("DELETE", None)] {
        assert_eq!(fetch(&forward, request(method, "/", "")).await.0, 200);
        let received = upstream.requests().pop().unwrap();
        assert_eq!(received.header("content-length"), length, "{method}");
    }
    assert_eq!(upstream.malformed(), [""; 0]);
}

/// Of unknown length, so that its end is not known before it comes.
fn failing_body() -> (ScriptedBody, BodyHandle) {
    let script = ScriptedBody::script().data("abc").hold().error("over");
    script.claim_size(SizeHint::default()).build()
}

#[tokio::test]
async fn a_client_at_fault_is_told_so() {
    for (fault, code, kind) in [
        (
            Some(Fault::TooLarge { limit_bytes: 2 }),
            "BODY_TOO_LARGE",
            ErrorKind::Request,
        ),
        (Some(Fault::TooSlow), "CLIENT_TIMEOUT", ErrorKind::Request),
        // Nobody noted one: a stage of the gateway has failed, and neither client nor upstream is to blame.
        (None, "INTERNAL", ErrorKind::RequestBody),
    ] {
        let upstream = Upstream::start(always(Reply::ok())).await;
        let gateway = plain(&upstream);
        let (body, handle) = failing_body();
        let mut faulty = post(body);
        let note = ClientFault::default();
        faulty.extensions_mut().insert(note.clone());
        let failing = tokio::spawn({
            let forward = forward(&gateway);
            async move { refused(&forward, faulty).await }
        });
        handle.held().await;
        upstream.arrived(1).await;
        if let Some(fault) = fault {
            note.set(fault);
        }
        handle.resume();
        assert_eq!(failing.await.unwrap(), (code, kind));
        upstream.ended(1).await;
        let received = upstream.requests().remove(0);
        assert!(!received.complete, "the upstream took a part for the whole");
        is_quiet(&gateway).await;
    }
}

#[tokio::test]
async fn a_body_that_the_server_cannot_read_is_the_clients_fault() {
    // Without the stage that notes it: the error itself tells.
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = plain(&upstream);
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n")
        .await;
    assert_eq!(client.read_answer().await.status(), 400);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn a_body_that_fails_within_its_answer_ends_the_answer() {
    // Story: the upstream waited for the rest of the request, and the gateway for the rest of the answer, until the
    // answer's idle timer fired and blamed the upstream.
    let patient = Timeouts::new().idle(Duration::from_secs(3600));
    for (fault, kind, code) in [
        (Some(Fault::TooSlow), ErrorKind::Request, "CLIENT_TIMEOUT"),
        (None, ErrorKind::RequestBody, "INTERNAL"),
    ] {
        let gate = Gate::new();
        let reply = Reply::ok()
            .body("hello")
            .read_body(ReadBody::After)
            .hold(At::Body(2), &gate);
        let upstream = Upstream::start(always(reply)).await;
        let gateway = plain(&upstream);
        let (body, handle) = failing_body();
        let mut faulty = post(body);
        let note = ClientFault::default();
        faulty.extensions_mut().insert(note.clone());
        faulty.extensions_mut().insert(patient);
        let record = Record::default();
        faulty.extensions_mut().insert(record.clone());
        let response = send(&forward(&gateway), faulty).await.unwrap();
        handle.held().await;
        if let Some(fault) = fault {
            note.set(fault);
        }
        handle.resume();
        let collecting = gw_testkit::within("the answer to end", response.into_body().collect());
        let error = collecting.await.unwrap_err();
        assert_eq!((error.kind(), blamed(&error)), (kind, Some(Failure::Local)));
        assert_eq!(record.exchange().code.unwrap().name(), code);
        // The connection is of no use any more: the request on it never ends.
        is_quiet(&gateway).await;
        upstream.ended(1).await;
        assert!(!upstream.requests()[0].complete);
    }
}

/// With a length in its fields that the body, of unknown size, is to be held to: that of `abcde`, or another one.
fn stated(length: u64) -> (http::Request<gw_core::Body>, BodyHandle) {
    let script = ScriptedBody::script().data("abc").hold().data("de");
    let (body, handle) = script.claim_size(SizeHint::default()).build();
    let mut request = post(body);
    let headers = request.headers_mut();
    headers.insert("content-length", length.into());
    (request, handle)
}

/// Story: it looked at what the upstream had got before that was there, and found nothing amiss with nothing.
#[tokio::test]
async fn a_body_of_another_length_than_stated_is_never_whole() {
    // With three, the stated length is full before what is too much comes.
    for length in [6, 4, 3] {
        let upstream = Upstream::start(always(Reply::ok())).await;
        let gateway = plain(&upstream);
        let (request, handle) = stated(length);
        let failing = tokio::spawn({
            let forward = forward(&gateway);
            async move { refused(&forward, request).await }
        });
        upstream.arrived(1).await;
        handle.resume();
        let refusal = failing.await.unwrap();
        assert_eq!(refusal, ("INTERNAL", ErrorKind::RequestBody), "{length}");
        is_quiet(&gateway).await;
        upstream.ended(1).await;
        assert!(!upstream.requests()[0].complete, "{length}");
    }
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = forward(&plain(&upstream));
    let (request, handle) = stated(5);
    handle.resume();
    assert_eq!(fetch(&forward, request).await.0, 200);
    let received = upstream.requests().remove(0);
    assert!(received.complete);
    assert_eq!(received.body, "abcde");
    assert_eq!(received.header("content-length"), Some("5"));
}

#[tokio::test]
async fn after_an_early_answer_the_upload_keeps_its_slot() {
    let upstream = Upstream::start(always(Reply::ok().body("ok").read_body(ReadBody::After))).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    let (body, handle) = ScriptedBody::script()
        .data("abc")
        .hold()
        .data("def")
        .build();
    assert_eq!(fetch(&forward, post(body)).await, (200, "ok".to_owned()));
    handle.held().await;
    assert_eq!(gateway.snapshot().in_flight, 1);
    // Meanwhile the connection is no good for others.
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    handle.resume();
    upstream.ended(2).await;
    handle.dropped().await;
    until("the slot to be free", &gateway, |it| {
        it.snapshot().in_flight == 0
    })
    .await;
    let received = upstream.requests();
    assert_eq!(received[0].body, "abcdef");
    assert_eq!((received[0].connection, received[1].connection), (0, 1));
    assert_eq!(gateway.snapshot().open_connections, 2);
}

/// Story: see `an_answer_outlives_the_connection` of the sockets.
#[tokio::test]
async fn an_upstream_may_answer_and_close_before_it_has_read_all() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = builder(listener.local_addr().unwrap()).build().unwrap();
    let upstream = thread::spawn(move || {
        let (mut io, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            io.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        // Unread, and so the system resets the connection.
        io.peek(&mut [0]).unwrap();
        let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 5\r\n\r\nlarge";
        io.write_all(answer).unwrap();
    });
    let (body, handle) = ScriptedBody::script()
        .data("abc")
        .hold()
        .data("def")
        .build();
    let answer = tokio::spawn({
        let forward = forward(&gateway);
        async move { fetch(&forward, post(body)).await }
    });
    handle.held().await;
    // Without a turn of this thread's runtime, which so has not heard of the answer when the next piece goes out.
    upstream.join().unwrap();
    handle.resume();
    assert_eq!(answer.await.unwrap(), (413, "large".to_owned()));
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn an_upload_after_its_answer_is_not_waited_for_long() {
    // Story: a client that never sent the rest kept the connection for ever.
    let upstream = Upstream::start(always(Reply::ok().body("ok").read_body(ReadBody::After))).await;
    let gateway = plain(&upstream);
    let (body, handle) = ScriptedBody::script()
        .data("abc")
        .hold()
        .claim_size(SizeHint::with_exact(10))
        .build();
    let mut endless = post(body);
    endless.extensions_mut().insert(PATIENT);
    let answer = fetch(&forward(&gateway), endless).await;
    assert_eq!(answer, (200, "ok".to_owned()));
    assert!(!handle.is_dropped());
    pass(HOUR).await;
    handle.dropped().await;
    until("the slot to be free", &gateway, |it| {
        it.snapshot().in_flight == 0
    })
    .await;
    is_quiet(&gateway).await;
    assert!(!upstream.requests()[0].complete);
}

#[tokio::test]
async fn a_client_that_leaves_in_its_upload_ends_it() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = plain(&upstream);
    let (body, handle) = ScriptedBody::script()
        .data("abc")
        .hold()
        .claim_size(SizeHint::with_exact(10))
        .build();
    let sending = tokio::spawn({
        let forward = forward(&gateway);
        async move { send(&forward, post(body)).await }
    });
    handle.held().await;
    upstream.arrived(1).await;
    sending.abort();
    handle.dropped().await;
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn what_was_read_is_as_large_as_was_said() {
    let upstream = Upstream::start(always(Reply::ok().body("0123456789"))).await;
    let response = send(&forward(&plain(&upstream)), get("/")).await.unwrap();
    let body = response.into_body();
    assert_eq!(http_body::Body::size_hint(&body).exact(), Some(10));
    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 10);
}
