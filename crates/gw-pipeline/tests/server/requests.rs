//! Requests and answers on HTTP/1.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::{pending, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::Rejection;
use gw_core::context::PeerAddr;
use gw_pipeline::Body;
use gw_pipeline::codes::FORBIDDEN;
use gw_pipeline::server::{CloseReason, Incoming, Server, ServerConfig};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::{Client, Ended};
use gw_testkit::within;
use http::{Request, Response, StatusCode};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tower::limit::ConcurrencyLimit;
use tower::{Service, service_fn};

use crate::support::{Running, echo_path, http2_client, http2_get, http2_send, ok, outcome};

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn sixteen_connections_are_served_at_once_and_each_request_has_its_peer() {
    let running = Running::start(|b| b).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        let mut client = Client::connect(running.addr).await;
        client.get("/").await;
        clients.push(client);
    }
    running.service.flying(16).await;
    for _ in 0..16 {
        let call = running.service.next_call().await;
        let PeerAddr(peer) = *call.request().extensions().get::<PeerAddr>().unwrap();
        call.respond(Response::new(Body::from(peer.to_string())));
    }
    for client in &mut clients {
        let local = client.local_addr().to_string();
        let answer = client.read_answer().await;
        assert_eq!((answer.status(), answer.text()), (200, &*local));
    }
    assert!(running.service.violations().is_empty());
    let snapshot = running.snapshot();
    assert_eq!(
        (snapshot.active, snapshot.accepted, snapshot.closed.total()),
        (16, 16, 0)
    );
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    let mut client = Client::connect(running.addr).await;
    let requests: String = (0..50)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    client.send(&requests).await;
    for n in 0..50 {
        assert_eq!(client.read_answer().await.text(), format!("/{n}"));
    }
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_read() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    let mut client = Client::connect(running.addr).await;
    for _ in 0..2 {
        for byte in b"GET /bytes HTTP/1.1\r\nhost: a\r\n\r\n" {
            client.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(client.read_answer().await.text(), "/bytes");
    }
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx: y\r\n\r\n")
        .await;
    let (request, reply) = running.service.next_call().await.into_parts();
    let upload = request.into_body().collect().await.unwrap();
    assert_eq!(upload.trailers().unwrap()["x"], "y");
    let (body, handle) = ScriptedBody::script()
        .data("de")
        .data("f")
        .trailers([("z", "1")])
        .claim_size(SizeHint::default())
        .build();
    let response = Response::builder()
        .header("trailer", "z")
        .body(Body::new(body))
        .unwrap();
    reply.respond(response);
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.text(), answer.trailers.get("z")),
        ("def", Some("1"))
    );
    handle.dropped().await;
}

#[tokio::test]
async fn a_client_that_vanishes_drops_the_services_future() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let mut call = running.service.next_call().await;
    client.reset();
    call.abandoned().await;
    running.closed(CloseReason::ClientGone, 1).await;
}

/// hyper hands out the first of them, and keeps the other one until somebody asks for it.
const TWO_CHUNKS: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                          3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";

/// Story: hyper does not look for who has left while it has bytes that it has no use for yet.
#[tokio::test]
async fn a_client_that_vanishes_after_more_than_was_read_drops_the_services_future() {
    const HOUR: Duration = Duration::from_secs(3600);
    // No timer wakes the connection meanwhile.
    let running = Running::start(|b| {
        b.header_timeout(HOUR)
            .keep_alive_timeout(HOUR)
            .write_stall_timeout(HOUR)
    });
    let running = running.await;
    let begun = "GET / HTTP/1.1\r\nhost: a\r\n\r\nG";
    let pipelined = "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    // As much as hyper reads at once, so that it is not known yet whether there is more.
    let mut full = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10000\r\n\r\n".to_owned();
    full += &"a".repeat(8 * 1024 - full.len());
    let ways = [
        (begun, false),
        (begun, true),
        (pipelined, false),
        (pipelined, true),
        (TWO_CHUNKS, true),
        (&full, true),
    ];
    for (count, (request, reset)) in (1..).zip(ways) {
        let mut client = Client::connect(running.addr).await;
        client.send(request).await;
        let mut call = running.service.next_call().await;
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        call.abandoned().await;
        running.closed(CloseReason::ClientGone, count).await;
    }
}

#[tokio::test]
async fn what_a_client_has_sent_before_it_left_can_be_read() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.send(TWO_CHUNKS).await;
    client.finish_sending().await;
    let (request, mut reply) = running.service.next_call().await.into_parts();
    // Time enough for whoever looks.
    drop(running.idle().await);
    let body = request.into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "abcdef");
    reply.abandoned().await;
    running.closed(CloseReason::ClientGone, 1).await;
}

#[tokio::test]
async fn a_client_that_vanishes_drops_the_answers_body() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    client.read_head().await;
    handle.held().await;
    drop(client);
    handle.dropped().await;
    running.closed(CloseReason::ClientGone, 1).await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_and_not_completed() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    let (body, _) = ScriptedBody::script()
        .data("a")
        .error("upstream gone")
        .claim_size(SizeHint::default())
        .build();
    running
        .service
        .next_call()
        .await
        .respond(Response::new(Body::new(body)));
    assert_ne!(client.read_answer().await.ended, Ended::Complete);
    running.closed(CloseReason::Failed, 1).await;
}

#[tokio::test]
async fn a_panic_ends_its_connection_only() {
    let running = Running::start(|b| b).await;
    let mut bystander = Client::connect(running.addr).await;
    bystander.get("/").await;
    let other = running.service.next_call().await;
    for count in 1..=20 {
        let mut client = Client::connect(running.addr).await;
        client.get("/").await;
        running.service.next_call().await.panic("of the test");
        assert!(client.read_rest().await.bytes.is_empty());
        running.closed(CloseReason::Failed, count).await;
    }
    other.respond(ok("still here"));
    assert_eq!(bystander.read_answer().await.text(), "still here");
    running.active(1).await;
}

/// Story: a socket that is closed while bytes wait to be read is reset, and the client never sees why.
#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_arrives() {
    is_answered_before_the_end_of_the_upload("").await;
}

/// Story: hyper kept the sockets of all connections on which a request had asked for another protocol, as `curl --http2` does
/// with each first one, and they were closed as those of tunnels are.
#[tokio::test]
async fn so_it_does_where_a_tunnel_was_asked_for() {
    let fields =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    is_answered_before_the_end_of_the_upload(fields).await;
}

async fn is_answered_before_the_end_of_the_upload(fields: &str) {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send(&format!(
            "POST / HTTP/1.1\r\nhost: a\r\n{fields}content-length: 400000\r\n\r\n"
        ))
        .await;
    let (request, reply) = running.service.next_call().await.into_parts();
    drop(request);
    client.send(&vec![b'x'; 300_000]).await;
    let mut refused = ok("too large");
    *refused.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
    reply.respond(refused);
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.status(), answer.text(), answer.ended.clone()),
        (413, "too large", Ended::Complete)
    );
    let rest = client.read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
    drop(client);
    running.active(0).await;
}

/// Story: clients that look for an answer only behind the end of their upload, as node's and Python's do, were reset after the first
/// MiB of it, and tried again at once instead of when they were asked to.
#[tokio::test]
async fn who_sends_a_large_upload_to_its_end_gets_the_answer() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    let length = 16 * 1024 * 1024;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    client.send(&head).await;
    let (request, reply) = running.service.next_call().await.into_parts();
    drop(request);
    reply.respond(ok("refused"));
    client.send(&vec![b'x'; length]).await;
    assert_eq!(client.read_answer().await.text(), "refused");
    assert!(!client.read_rest().await.reset);
    drop(client);
    running.active(0).await;
}

#[tokio::test]
async fn who_lingers_leaves_when_its_place_is_needed_and_when_it_is_cut() {
    let mut running = Running::start(|b| b.max_connections(1).shutdown_grace(SHORT)).await;
    for cut in [false, true] {
        let mut client = Client::connect(running.addr).await;
        client
            .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 400000\r\n\r\n")
            .await;
        let (request, reply) = running.service.next_call().await.into_parts();
        drop(request);
        reply.respond(ok("refused"));
        assert_eq!(client.read_answer().await.text(), "refused");
        let next = if cut {
            running.stop();
            None
        } else {
            Some(Client::connect(running.addr).await)
        };
        let sending = async {
            while client.try_send("a").await.is_ok() {
                tokio::time::sleep(SHORT / 10).await;
            }
        };
        // Half of the time that it had else.
        let half = Duration::from_secs(5);
        tokio::time::timeout(half, sending).await.unwrap();
        drop(next);
    }
    assert!(running.stopped().await.is_clean());
}

/// Story: hyper told clients of HTTP/1.0 that the connection is kept, and closed it, which is the only end that such an answer has.
/// `ab -k` took it for a failure.
#[tokio::test]
async fn an_old_client_is_told_that_the_end_of_the_answer_is_that_of_the_connection() {
    let running = Running::start(|b| b).await;
    running.service.answer_with(|request| {
        let body = match request.uri().path() {
            "/known" => return Ok(ok("known")),
            _ => ScriptedBody::script()
                .data("unknown")
                .claim_size(SizeHint::default())
                .build(),
        };
        Ok(Response::new(Body::new(body.0)))
    });
    for (target, said, text) in [("/known", "keep-alive", "known"), ("/", "close", "unknown")] {
        let mut client = Client::connect(running.addr).await;
        client
            .send(&format!(
                "GET {target} HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
            ))
            .await;
        let answer = client.read_answer().await;
        assert_eq!(
            (answer.header("connection"), answer.text()),
            (Some(said), text)
        );
    }
    running.server.handle().announce_close();
    let mut client = Client::connect(running.addr).await;
    client
        .send("GET /known HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        .await;
    assert_eq!(
        client.read_answer().await.header("connection"),
        Some("close")
    );
}

#[tokio::test]
async fn a_malformed_request_is_refused_and_counted() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client.send("GET / HTTP/1.1\r\nbad field: a\r\n\r\n").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 400);
    drop(client);
    running.closed(CloseReason::Malformed, 1).await;
    assert_eq!(running.service.calls(), 0);
}

#[tokio::test]
async fn an_upgraded_connection_counts_until_it_is_closed() {
    let running = Running::start(|b| b.keep_alive_timeout(Duration::from_millis(50))).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nearly")
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
    let mut said = [0; 5];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"early");
    // It is not a tunnel's business.
    running.idle_time().await;
    tunnel.write_all(b"late").await.unwrap();
    assert_eq!(client.read_exact(4).await, "late");
    assert_eq!(running.snapshot().active, 1);
    drop(tunnel);
    running.closed(CloseReason::Done, 1).await;
    assert!(client.read_rest().await.bytes.is_empty());
}

#[tokio::test]
async fn a_connection_that_connect_has_opened_is_a_tunnel() {
    let running = Running::start(|b| b.keep_alive_timeout(Duration::from_millis(50))).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\nearly")
        .await;
    let (mut request, reply) = running.service.next_call().await.into_parts();
    let upgrade = hyper::upgrade::on(&mut request);
    reply.respond(Response::new(Body::empty()));
    assert_eq!(client.read_head().await.status(), 200);
    let mut tunnel = TokioIo::new(upgrade.await.unwrap());
    let mut said = [0; 5];
    tunnel.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"early");
    running.idle_time().await;
    drop(tunnel);
    running.closed(CloseReason::Done, 1).await;
}

#[tokio::test]
async fn how_a_client_left_is_told_apart() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    drop(Client::connect(running.addr).await);
    running.closed(CloseReason::Done, 1).await;
    Client::connect(running.addr).await.reset();
    running.closed(CloseReason::ClientGone, 1).await;
    let mut client = Client::connect(running.addr).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "/");
    drop(client);
    running.closed(CloseReason::Done, 2).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send("GET / HTTP/1.1\r\nconnection: close\r\nhost: a\r\n\r\n")
        .await;
    assert_eq!(client.read_answer().await.text(), "/");
    running.closed(CloseReason::Done, 3).await;
    let mut client = Client::connect(running.addr).await;
    client.send("GET / HTTP").await;
    client.finish_sending().await;
    assert!(client.read_rest().await.bytes.is_empty());
    running.closed(CloseReason::ClientGone, 2).await;
}

/// A service is cloned, never shared.
#[tokio::test]
async fn a_service_need_not_be_sync() {
    let server = Server::new(ServerConfig::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let calls = Cell::new(0);
    let service = tower::service_fn(move |_| {
        calls.set(calls.get() + 1);
        ready(Ok::<_, Infallible>(Response::new(Body::from(
            calls.get().to_string(),
        ))))
    });
    let serving = tokio::spawn(async move { server.serve(listener, service, pending()).await });
    let mut client = Client::connect(addr).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "1");
    serving.abort();
}

#[tokio::test]
async fn listeners_of_one_server_share_its_places() {
    let first = Running::start(|b| b.max_connections(1)).await;
    let second = Running::start_on(first.server.clone()).await;
    echo_path(&first.service);
    echo_path(&second.service);
    let mut one = Client::connect(first.addr).await;
    one.get("/1").await;
    assert_eq!(one.read_answer().await.text(), "/1");
    let mut two = Client::connect(second.addr).await;
    two.get("/2").await;
    assert_eq!(two.read_answer().await.text(), "/2");
    assert!(one.read_rest().await.bytes.is_empty());
    first.closed(CloseReason::Evicted, 1).await;

    let snapshot = first.snapshot();
    let seen: Vec<_> = snapshot
        .listeners
        .iter()
        .map(|l| (l.local_addr, l.active, l.accepted))
        .collect();
    assert_eq!(seen, [(Some(first.addr), 0, 1), (Some(second.addr), 1, 1)]);
    assert_eq!(
        snapshot.accepted,
        snapshot.active as u64 + snapshot.closed.total()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_on_several_threads_get_their_own_answers() {
    let running = Running::start(|b| b.max_connections_per_ip(1000)).await;
    echo_path(&running.service);
    let clients: Vec<_> = (0..64)
        .map(|n| {
            let addr = running.addr;
            tokio::spawn(async move {
                let mut client = Client::connect(addr).await;
                for m in 0..20 {
                    client.get(&format!("/{n}/{m}")).await;
                    assert_eq!(client.read_answer().await.text(), format!("/{n}/{m}"));
                }
            })
        })
        .collect();
    for client in clients {
        within("a client", client).await.unwrap();
    }
    running.closed(CloseReason::Done, 64).await;
    assert_eq!(running.snapshot().active, 0);
}

#[tokio::test]
async fn requests_wait_for_a_service_that_is_not_ready() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    running.service.set_not_ready();
    let mut client = Client::connect(running.addr).await;
    client.get("/1").await;
    let (mut http2, _connection) = http2_client(running.addr).await;
    let waiting = ["/2", "/3"].map(|path| http2_send(&mut http2, http2_get(path)));
    let given_up = http2_send(&mut http2, http2_get("/4"));
    // One that serves, a clone for each connection, and one for each request that waits.
    running
        .until("four requests to wait", |_| {
            running.service.instances().len() == 1 + 2 + 4
        })
        .await;
    assert_eq!(running.service.calls(), 0);
    given_up.abort();
    running.service.set_ready();
    assert_eq!(client.read_answer().await.text(), "/1");
    for answer in waiting {
        assert_eq!(outcome("an answer", answer).await.unwrap().status(), 200);
    }
    client.get("/5").await;
    assert_eq!(client.read_answer().await.text(), "/5");
    assert!(running.service.violations().is_empty());
}

/// Answers for `/refused` what a stage does that refuses, and asks the service inside for all else.
#[derive(Clone)]
struct Refusing<S>(S);

impl<S> Service<Request<Incoming>> for Refusing<S>
where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        if request.uri().path() == "/refused" {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::FORBIDDEN;
            answer.extensions_mut().insert(Rejection::new(&FORBIDDEN));
            return Box::pin(ready(Ok(answer)));
        }
        Box::pin(self.0.call(request))
    }
}

/// Story: a refused request's connection kept what the service inside had reserved when it was asked whether it is ready. So many
/// connections that had been refused something, and were idle, held all of its places.
#[tokio::test]
async fn an_idle_connection_whose_request_was_refused_holds_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = |_: Request<Incoming>| ready(Ok::<_, Infallible>(ok("well")));
    let service = Refusing(ConcurrencyLimit::new(service_fn(answer), 1));
    let server = Server::new(ServerConfig::default());
    let serving = tokio::spawn(async move { server.serve(listener, service, pending()).await });
    let mut refused = Client::connect(addr).await;
    let (mut streams, _http2) = http2_client(addr).await;
    for _ in 0..2 {
        refused.get("/refused").await;
        assert_eq!(refused.read_answer().await.status(), 403);
        let get = http2_send(&mut streams, http2_get("/refused"));
        let answer = outcome("the answer over HTTP/2", get).await.unwrap();
        assert_eq!(answer.status(), 403);
        let mut other = Client::connect(addr).await;
        other.get("/").await;
        assert_eq!(other.read_answer().await.text(), "well");
    }
    serving.abort();
}
