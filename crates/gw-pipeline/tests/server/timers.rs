//! Clients that take their time.

use std::time::Duration;

use bytes::Bytes;
use gw_pipeline::Body;
use gw_pipeline::server::{CloseReason, Server, ServerConfig};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use http::{Response, StatusCode};

use crate::support::{Running, echo_path, http2_client, http2_get, http2_send, ok, outcome};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_silently() {
    let running = Running::start(|b| b.header_timeout(SHORT)).await;
    let mut client = Client::connect(running.addr).await;
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
    running.closed(CloseReason::HeaderTimeout, 1).await;
}

#[tokio::test]
async fn a_slow_head_is_answered_408_and_closed() {
    // With the very first byte the protocol is not known yet, with the others it is.
    for part in ["P", "POST / HTTP/1.1\r\nhost: a\r\nx-slow"] {
        let running = Running::start(|b| b.header_timeout(SHORT)).await;
        let mut client = Client::connect(running.addr).await;
        client.send(part).await;
        let answer = client.read_answer().await;
        assert_eq!(answer.status(), 408);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let envelope: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
        assert_eq!(envelope["error"]["code"], "CLIENT_TIMEOUT");
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty() && !rest.reset);
        drop(client);
        running.closed(CloseReason::HeaderTimeout, 1).await;
        assert_eq!(running.service.calls(), 0);
    }
}

#[tokio::test]
async fn who_serves_says_what_is_answered_to_a_slow_head() {
    let config = ServerConfig::builder().header_timeout(SHORT).build();
    let server = Server::new(config.unwrap()).on_slow_head(|| {
        let answer = Response::builder().status(408).header("x-request-id", "7");
        answer.body(Bytes::from_static(b"late")).unwrap()
    });
    let running = Running::start_on(server).await;
    echo_path(&running.service);
    for before in ["", "GET /one HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let mut client = Client::connect(running.addr).await;
        if !before.is_empty() {
            client.send(before).await;
            assert_eq!(client.read_answer().await.text(), "/one");
        }
        client.send("GET /two HTTP/1.1\r\n").await;
        let answer = client.read_answer().await;
        assert_eq!((answer.status(), answer.text()), (408, "late"));
        assert_eq!(answer.header("x-request-id"), Some("7"));
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn a_later_slow_head_is_answered_408_too() {
    let running = Running::start(|b| b.header_timeout(SHORT)).await;
    echo_path(&running.service);
    let mut client = Client::connect(running.addr).await;
    client.send("GET /one HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(client.read_answer().await.text(), "/one");
    client.send("GET /two HTTP/1.1\r\n").await;
    assert_eq!(client.read_answer().await.status(), 408);
}

/// Story: the connection closed behind such an answer, and the answer did not say so.
#[tokio::test]
async fn an_answer_408_says_that_it_is_the_last_one() {
    let late = || {
        let mut late = ok("too slow");
        *late.status_mut() = StatusCode::REQUEST_TIMEOUT;
        late
    };
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        .await;
    // The body is still there when the answer is given.
    let (request, reply) = running.service.next_call().await.into_parts();
    reply.respond(late());
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (408, Some("close"))
    );
    drop(request);
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);

    running.service.answer_with(move |_| Ok(late()));
    let (mut http2, _connection) = http2_client(running.addr).await;
    for _ in 0..2 {
        let sent = http2_send(&mut http2, http2_get("/"));
        let answer = outcome("an answer", sent).await.unwrap();
        assert_eq!(answer.status(), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test]
async fn a_dripping_head_gains_nothing() {
    let running = Running::start(|b| b.header_timeout(SHORT)).await;
    let mut client = Client::connect(running.addr).await;
    client.send("GET / HTTP/1.1\r\nx: ").await;
    while client.try_send("a").await.is_ok() && running.snapshot().active == 1 {
        // The drip: many bytes in the time for a head.
        tokio::time::sleep(SHORT / 10).await;
    }
    running.closed(CloseReason::HeaderTimeout, 1).await;
    assert_eq!(running.service.calls(), 0);
}

/// After an upload, bytes that come late may be the rest of it, and an answer to them would be a lie.
#[tokio::test]
async fn bytes_that_may_belong_to_an_upload_are_not_answered() {
    let running = Running::start(|b| b.header_timeout(SHORT)).await;
    echo_path(&running.service);
    let mut client = Client::connect(running.addr).await;
    client
        .send("POST /one HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab")
        .await;
    assert_eq!(client.read_answer().await.text(), "/one");
    client.send("GET /tw").await;
    assert!(client.read_rest().await.bytes.is_empty());
    running.closed(CloseReason::HeaderTimeout, 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_silently() {
    let running = Running::start(|b| b.keep_alive_timeout(SHORT)).await;
    // One request alone: where the machine halts, a second one comes too late.
    running.idle_time().await;
}

#[tokio::test]
async fn waiting_for_the_service_is_not_the_clients_fault() {
    let short = Duration::from_millis(20);
    let running = Running::start(|b| b.keep_alive_timeout(short).write_stall_timeout(short)).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let call = running.service.next_call().await;
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    // As long as either of the timers.
    running.idle_time().await;
    call.respond(Response::new(Body::new(body)));
    let head = client.read_head().await;
    handle.held().await;
    running.idle_time().await;
    handle.resume();
    let answer = client.read_body_of(head).await;
    assert_eq!(answer.text(), "ab");
}

#[tokio::test]
async fn a_slow_upload_is_left_to_the_pipeline() {
    let short = Duration::from_millis(50);
    let running = Running::start(|b| b.header_timeout(short).keep_alive_timeout(short)).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        .await;
    let call = running.service.next_call().await;
    // As long as either of the timers.
    running.idle_time().await;
    client.send("cd").await;
    call.respond(ok("patient"));
    assert_eq!(client.read_answer().await.text(), "patient");
}

#[tokio::test]
async fn a_client_that_stops_reading_is_reset_and_its_answer_dropped() {
    let running = Running::start(|b| b.write_stall_timeout(SHORT)).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
    let script = (0..64).fold(ScriptedBody::script(), |script, _| {
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

/// The same when the body is one large piece, which has ended as soon as it was handed over.
#[tokio::test]
async fn a_body_of_one_piece_stalls_too() {
    let running = Running::start(|b| b.write_stall_timeout(SHORT)).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let whole = Body::from(vec![b'x'; 64 * 1024 * 1024]);
    running
        .service
        .next_call()
        .await
        .respond(Response::new(whole));
    running.closed(CloseReason::WriteStall, 1).await;
    assert!(client.read_rest().await.reset);
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_its_answer() {
    let running = Running::start(|b| {
        b.write_stall_timeout(Duration::from_secs(1))
            .keep_alive_timeout(SHORT)
    })
    .await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let length = 24 * 1024 * 1024;
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::from(vec![b'x'; length])));
    client.read_head().await;
    let mut left = length;
    // Each pause is as long as the idle time, and all of them are longer than the stall time.
    while left > 0 {
        let now = left.min(2 * 1024 * 1024);
        client.read_exact(now).await;
        left -= now;
        tokio::time::sleep(SHORT).await;
    }
    running.closed(CloseReason::KeepAliveTimeout, 1).await;
}

#[tokio::test]
async fn an_http2_client_without_a_request_is_closed() {
    let running = Running::start(|b| b.header_timeout(SHORT)).await;
    let mut client = Client::connect(running.addr).await;
    // The preface and an empty SETTINGS frame.
    client
        .send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    let rest = client.read_rest().await;
    assert!(
        !rest.bytes.starts_with(b"HTTP/1.1"),
        "no answer of the wrong protocol"
    );
    running.closed(CloseReason::HeaderTimeout, 1).await;
}
