//! Stopping without losing a request.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use bytes::Bytes;
use gw_pipeline::Body;
use gw_pipeline::server::CloseReason;
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;

use crate::support::{Running, echo_path, http2_client, http2_get, http2_send, ok, outcome};

/// RFC 9110 section 7.8: who sends `Upgrade` says so in `Connection`.
#[tokio::test]
async fn the_last_answer_may_name_protocols() {
    let running = Running::start(|b| b).await;
    running.service.answer_with(|_| {
        let required = Response::builder().status(StatusCode::UPGRADE_REQUIRED);
        let required = required.header("connection", "upgrade");
        let required = required.header("upgrade", "websocket");
        Ok(required.body(Body::empty()).unwrap())
    });
    running.server.handle().announce_close();
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.header("connection"), Some("upgrade, close"));
    assert!(client.read_rest().await.bytes.is_empty());
}

/// Story: a client sent a request each 20 ms over one connection. When the server stopped, the connection was idle, as it was
/// nearly always, and was closed; the request that came at this moment was lost.
#[tokio::test]
async fn who_keeps_a_connection_is_told_ahead() {
    let mut running = Running::start(|b| b).await;
    let mut before = running.idle().await;
    running.service.answer_with(|_| Ok(ok("hello")));
    running.server.handle().announce_close();
    let mut after = Client::connect(running.addr).await;
    for client in [&mut before, &mut after] {
        client.get("/").await;
        let answer = client.read_answer().await;
        assert_eq!(
            (answer.text(), answer.header("connection")),
            ("hello", Some("close"))
        );
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty() && !rest.reset);
    }
    let (mut http2, _connection) = http2_client(running.addr).await;
    for _ in 0..2 {
        let sent = http2_send(&mut http2, http2_get("/"));
        let answer = outcome("an answer", sent).await.unwrap();
        assert_eq!(
            answer.into_body().collect().await.unwrap().to_bytes(),
            "hello"
        );
    }
    running.stop();
    assert!(running.stopped().await.is_clean());
}

/// Story: where a client had asked for another protocol, the end of its connection counted as that of a tunnel.
#[tokio::test]
async fn a_tunnel_that_was_not_opened_is_none() {
    let mut running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n")
        .await;
    let call = running.service.next_call().await;
    let mut idle = running.idle().await;
    running.stop();
    assert!(idle.read_rest().await.bytes.is_empty());
    call.respond(ok("no tunnel"));
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.text(), answer.header("connection")),
        ("no tunnel", Some("close"))
    );
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
    running.closed(CloseReason::Shutdown, 2).await;
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_what_is_idle_closes() {
    let mut running = Running::start(|b| b).await;
    let mut waiting = Vec::new();
    let mut streaming = Vec::new();
    let mut uploading = Vec::new();
    for _ in 0..10 {
        let mut client = Client::connect(running.addr).await;
        client.get("/waiting").await;
        waiting.push((client, running.service.next_call().await));

        let mut client = Client::connect(running.addr).await;
        client.get("/streaming").await;
        let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
        running
            .service
            .next_call()
            .await
            .respond(Response::new(Body::new(body)));
        let head = client.read_head().await;
        handle.held().await;
        streaming.push((client, head, handle));

        let mut client = Client::connect(running.addr).await;
        client
            .send("POST /uploading HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
            .await;
        uploading.push((client, running.service.next_call().await));
    }
    let mut idle = running.idle().await;

    running.stop();
    let rest = idle.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
    running.closed(CloseReason::Shutdown, 1).await;
    assert_eq!(running.snapshot().active, 30);

    for (mut client, call) in waiting {
        call.respond(ok("waited"));
        let answer = client.read_answer().await;
        assert_eq!(
            (answer.text(), answer.header("connection")),
            ("waited", Some("close"))
        );
        assert!(!client.read_rest().await.reset);
    }
    for (mut client, head, handle) in streaming {
        handle.resume();
        assert_eq!(client.read_body_of(head).await.text(), "ab");
        assert!(!client.read_rest().await.reset);
    }
    for (mut client, call) in uploading {
        let (request, reply) = call.into_parts();
        client.send("cd").await;
        assert_eq!(
            request.into_body().collect().await.unwrap().to_bytes(),
            "abcd"
        );
        reply.respond(ok("uploaded"));
        assert_eq!(client.read_answer().await.text(), "uploaded");
    }
    let server = running.server.clone();
    assert!(running.stopped().await.is_clean());
    // Without the feature `metrics` as well: callers have no `cfg`.
    server.handle().record_gauges("public");
    let snapshot = server.handle().snapshot();
    assert_eq!(
        (
            snapshot.active,
            snapshot.closed.count(CloseReason::Shutdown)
        ),
        (0, 31)
    );
    assert!(snapshot.listeners.is_empty());
}

#[tokio::test]
async fn http2_finishes_its_streams_and_says_goodbye() {
    let mut running = Running::start(|b| b).await;
    let (mut busy, busy_connection) = http2_client(running.addr).await;
    let sent = http2_send(&mut busy, http2_get("/"));
    let call = running.service.next_call().await;
    let streamed = http2_send(&mut busy, http2_get("/"));
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    let streamed = outcome("an answer", streamed).await.unwrap();
    let (mut idle, idle_connection) = http2_client(running.addr).await;
    let first = http2_send(&mut idle, http2_get("/"));
    running.service.next_call().await.respond(ok("first"));
    assert_eq!(outcome("an answer", first).await.unwrap().status(), 200);

    running.stop();
    outcome("the idle connection to end", idle_connection)
        .await
        .unwrap();
    call.respond(ok("waited"));
    assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
    handle.resume();
    assert_eq!(
        streamed.into_body().collect().await.unwrap().to_bytes(),
        "ab"
    );
    outcome("the busy connection to end", busy_connection)
        .await
        .unwrap();
    assert!(running.stopped().await.is_clean());
}

/// The runtime has one thread, and the test does not let go of it: the kernel has accepted these connections, and the
/// server knows of none of them when it is told to stop.
#[tokio::test]
async fn connections_in_the_kernels_queue_are_served() {
    let mut running = Running::start(|b| b).await;
    echo_path(&running.service);
    tokio::task::yield_now().await;
    let clients: Vec<_> = (0..5)
        .map(|n| {
            let mut client = TcpStream::connect(running.addr).unwrap();
            write!(client, "GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            client
        })
        .collect();
    running.stop();
    let addr = running.addr;
    assert!(running.stopped().await.is_clean());
    for (n, mut client) in clients.into_iter().enumerate() {
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
        assert!(answer.ends_with(&format!("/{n}")), "{answer}");
    }
    assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
}

#[tokio::test]
async fn requests_that_have_begun_are_served() {
    let mut running = Running::start(|b| b).await;
    let mut idle = running.idle().await;
    echo_path(&running.service);
    let mut silent = Client::connect(running.addr).await;
    let mut fresh = Client::connect(running.addr).await;
    let mut begun = Client::connect(running.addr).await;
    begun.send("GET /begun HT").await;
    let mut again = Client::connect(running.addr).await;
    again.get("/first").await;
    assert_eq!(again.read_answer().await.text(), "/first");
    again.send("GET /again HTTP/1.1\r\n").await;
    running.active(5).await;
    // There is one thread, which has seen the partial heads before it sees a request that comes after them.
    idle.get("/seen").await;
    assert_eq!(idle.read_answer().await.text(), "/seen");

    running.stop();
    // All connections learn of it at once.
    assert!(idle.read_rest().await.bytes.is_empty());
    fresh.get("/fresh").await;
    begun.send("TP/1.1\r\nhost: a\r\n\r\n").await;
    again.send("host: a\r\n\r\n").await;
    for (client, path) in [
        (&mut fresh, "/fresh"),
        (&mut begun, "/begun"),
        (&mut again, "/again"),
    ] {
        let answer = client.read_answer().await;
        assert_eq!(
            (answer.text(), answer.header("connection")),
            (path, Some("close"))
        );
    }
    // The one that has nothing to say is not waited for until the end of the grace.
    assert!(silent.read_rest().await.bytes.is_empty());
    assert!(running.stopped().await.is_clean());
}

#[tokio::test]
async fn what_outlasts_the_grace_is_cut_and_reported() {
    let mut running = Running::start(|b| b.shutdown_grace(Duration::from_millis(100))).await;
    let mut waiting = Client::connect(running.addr).await;
    waiting.get("/").await;
    let mut first = running.service.next_call().await;
    let mut streaming = Client::connect(running.addr).await;
    streaming.get("/").await;
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    streaming.read_head().await;
    let (mut http2, _connection) = http2_client(running.addr).await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let sent = http2_send(&mut http2, http2_get("/"));
        streams.push((sent, running.service.next_call().await));
    }

    running.stop();
    first.abandoned().await;
    handle.dropped().await;
    for (sent, mut call) in streams {
        call.abandoned().await;
        outcome("the stream to fail", sent).await.unwrap_err();
    }
    assert!(waiting.read_rest().await.reset);
    assert!(streaming.read_rest().await.reset);
    running.closed(CloseReason::Cut, 3).await;
    let drained = running.stopped().await;
    assert_eq!((drained.connections_cut, drained.requests_cut), (3, 5));
}

#[tokio::test]
async fn an_upgraded_connection_has_the_grace_and_is_cut_then() {
    let mut running = Running::start(|b| b.shutdown_grace(Duration::from_millis(200))).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await;
    let (mut request, reply) = running.service.next_call().await.into_parts();
    let upgrade = hyper::upgrade::on(&mut request);
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .unwrap();
    reply.respond(switching);
    assert_eq!(client.read_answer().await.status(), 101);
    let mut tunnel = TokioIo::new(upgrade.await.unwrap());
    let reading = tokio::spawn(async move { tunnel.read_to_end(&mut Vec::new()).await });
    tokio::task::yield_now().await;
    running.stop();
    outcome("the tunnel to fail", reading).await.unwrap_err();
    assert!(client.read_rest().await.reset);
    let drained = running.stopped().await;
    assert_eq!((drained.connections_cut, drained.requests_cut), (1, 0));
}

#[tokio::test]
async fn dropping_the_future_cuts_everything() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let mut call = running.service.next_call().await;
    let addr = running.addr;
    running.abort().await;
    call.abandoned().await;
    assert!(client.read_rest().await.reset);
    assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
}

#[tokio::test]
async fn one_listener_stops_without_the_other() {
    let mut first = Running::start(|b| b).await;
    let second = Running::start_on(first.server.clone()).await;
    echo_path(&second.service);
    let mut kept = Client::connect(second.addr).await;
    kept.get("/1").await;
    assert_eq!(kept.read_answer().await.text(), "/1");
    first.stop();
    assert!(first.stopped().await.is_clean());
    kept.get("/2").await;
    assert_eq!(kept.read_answer().await.text(), "/2");
    assert_eq!(second.snapshot().listeners.len(), 1);
}

/// A large answer is on its way: what is left of it is sent after its body has ended.
#[tokio::test]
async fn an_answer_is_sent_to_its_last_byte() {
    let mut running = Running::start(|b| b).await;
    let mut idle = running.idle().await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let whole = Bytes::from(vec![b'x'; 24 * 1024 * 1024]);
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::from(whole.clone())));
    let head = client.read_head().await;
    running.stop();
    // All connections learn of it at once.
    assert!(idle.read_rest().await.bytes.is_empty());
    assert_eq!(client.read_body_of(head).await.body, whole);
    assert!(running.stopped().await.is_clean());
}

/// Story: a body of one large piece is handed over at once. Its connection was cut at the end of the grace, with the client still
/// reading, and the server said that every request had been finished.
#[tokio::test]
async fn an_answer_that_is_cut_on_its_way_is_reported() {
    let mut running = Running::start(|b| b.shutdown_grace(Duration::from_millis(100))).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let whole = Body::from(vec![b'x'; 24 * 1024 * 1024]);
    running
        .service
        .next_call()
        .await
        .respond(Response::new(whole));
    client.read_head().await;
    running.stop();
    running.closed(CloseReason::Cut, 1).await;
    let drained = running.stopped().await;
    assert_eq!((drained.connections_cut, drained.requests_cut), (1, 1));
    assert!(client.read_rest().await.reset);
}

/// RFC 9112 section 9.6. Story: hyper reads one request ahead, and the next one waits in the kernel. The connection was closed
/// behind the answer with that unread, and the reset took away what the client had not read yet.
#[tokio::test]
async fn requests_behind_the_last_one_take_nothing_from_its_answer() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/big").await;
    let call = running.service.next_call().await;
    let mut beside = running.idle().await;
    running.service.answer_with(|_| Ok(ok("seen")));
    for target in ["/2", "/3"] {
        client.get(target).await;
        // There is one thread, which has seen what came before.
        beside.get("/").await;
        assert_eq!(beside.read_answer().await.text(), "seen");
    }
    running.server.handle().announce_close();
    let whole = Bytes::from(vec![b'x'; 1024 * 1024]);
    call.respond(Response::new(Body::from(whole.clone())));
    // The answer is on its way, and the client reads none of it yet.
    beside.get("/").await;
    assert_eq!(beside.read_answer().await.text(), "seen");
    let answer = client.read_answer().await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.body == whole, "{} bytes", answer.body.len());
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
}
