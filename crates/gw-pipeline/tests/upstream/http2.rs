//! An upstream that speaks HTTP/2 with prior knowledge.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gw_core::Body;
use gw_pipeline::upstream::{
    ErrorKind, Forward, HostHeader, PoolConfig, Protocol, Upstream, copy_extensions,
};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;
use tower::util::MapRequestLayer;

use crate::support::*;

/// Answers with the request's body and a trailer, once the gate lets it.
struct Echo {
    addr: SocketAddr,
    gate: Gate,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    accepting: JoinHandle<()>,
}

#[derive(Clone)]
struct Seen {
    uri: http::Uri,
    headers: HeaderMap,
    trailers: Option<HeaderMap>,
}

impl Echo {
    async fn start() -> Self {
        Self::allowing(200).await
    }

    /// One that takes so many requests at the same time from each connection.
    async fn allowing(streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (gate, seen) = (Gate::new(), Arc::new(Mutex::new(Vec::new())));
        let connections = Arc::new(Mutex::new(0));
        let accepting = tokio::spawn({
            let (gate, seen, connections) =
                (gate.clone(), Arc::clone(&seen), Arc::clone(&connections));
            async move {
                // Dropped with this task: the connections end with the server.
                let mut serving = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    *connections.lock().unwrap() += 1;
                    let (gate, seen) = (gate.clone(), Arc::clone(&seen));
                    let service = hyper::service::service_fn(move |request| {
                        let (gate, seen) = (gate.clone(), Arc::clone(&seen));
                        async move { Ok::<_, Infallible>(answer(request, &gate, &seen).await) }
                    });
                    let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .max_concurrent_streams(streams)
                        .serve_connection(TokioIo::new(stream), service);
                    serving.spawn(async move { _ = serve.await });
                }
            }
        });
        Self {
            addr,
            gate,
            seen,
            connections,
            accepting,
        }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn connections(&self) -> usize {
        *self.connections.lock().unwrap()
    }

    fn gateway(&self) -> Upstream {
        builder(self.addr)
            .protocol(Protocol::Http2)
            .build()
            .unwrap()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn answer(
    request: Request<Incoming>,
    gate: &Gate,
    seen: &Mutex<Vec<Seen>>,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    gate.pass().await;
    let Ok(collected) = body.collect().await else {
        return Response::new(Body::empty());
    };
    let trailers = collected.trailers().cloned();
    seen.lock().unwrap().push(Seen {
        uri: parts.uri,
        headers: parts.headers,
        trailers,
    });
    let (body, _handle) = ScriptedBody::script()
        .data(collected.to_bytes())
        .trailers([("grpc-status", "0"), ("x-padded", "\t2 ")])
        .build();
    let mut response = Response::new(Body::new(body));
    let padded = HeaderValue::from_static(" 1\t");
    response.headers_mut().insert("x-padded", padded);
    response
}

#[tokio::test]
async fn bodies_and_trailers_pass_both_ways() {
    let echo = Echo::start().await;
    echo.gate.open();
    let gateway = echo.gateway();
    let (body, _handle) = ScriptedBody::script()
        .data("abc")
        .data("def")
        .trailers([("x-check", "6")])
        .build();
    let mut grpc = post(body);
    for (name, value) in [
        ("content-type", "application/grpc+proto"),
        ("te", "trailers, deflate"),
        ("connection", "te, keep-alive"),
        ("keep-alive", "timeout=5"),
    ] {
        grpc.headers_mut().insert(name, value.parse().unwrap());
    }
    let response = send(&forward(&gateway), grpc).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(gateway.snapshot().in_flight, 1);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
    assert_eq!(collected.to_bytes(), "abcdef");
    assert_eq!(gateway.snapshot().in_flight, 0);
    let seen = echo.seen().remove(0);
    assert_eq!(seen.headers["te"], "trailers");
    assert!(!seen.headers.contains_key("connection") && !seen.headers.contains_key("keep-alive"));
    assert_eq!(seen.trailers.unwrap()["x-check"], "6");
    // The host that the client asked for is the authority now, and there is no second one.
    assert_eq!(seen.uri.authority().unwrap(), "shop.example");
    assert!(!seen.headers.contains_key("host"));
}

/// Story: such fields behind a request's body had its stream reset.
#[tokio::test]
async fn trailers_of_requests_lose_what_is_for_a_connection_or_a_head() {
    let echo = Echo::start().await;
    echo.gate.open();
    let script = ScriptedBody::script().data("abc").trailers(MIXED_TRAILERS);
    let (body, _handle) = script.build();
    let (status, text) = fetch(&forward(&echo.gateway()), post(body)).await;
    assert_eq!((status, text.as_str()), (200, "abc"));
    let trailers = echo.seen().remove(0).trailers.unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
}

/// RFC 9110 section 7.6.1.
#[tokio::test]
async fn what_the_head_of_a_request_names_is_not_in_its_trailers() {
    let echo = Echo::start().await;
    echo.gate.open();
    let script = ScriptedBody::script().data("abc");
    let script = script.trailers([("x-mine", "1"), ("x-sum", "3")]);
    let mut request = post(script.build().0);
    for line in ["close", "X-Mine"] {
        let line = line.parse().unwrap();
        request.headers_mut().append("connection", line);
    }
    assert_eq!(fetch(&forward(&echo.gateway()), request).await.0, 200);
    let trailers = echo.seen().remove(0).trailers.unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
}

/// Story: who sent a request again did not take along what its head had named.
#[tokio::test]
async fn nor_is_it_where_the_request_is_sent_again() {
    let echo = Echo::start().await;
    echo.gate.open();
    let again = MapRequestLayer::new(|request: Request<Body>| {
        let (mut parts, body) = request.into_parts();
        let first = std::mem::take(&mut parts.extensions);
        copy_extensions(&first, &mut parts.extensions);
        Request::from_parts(parts, body)
    });
    let own = builder(echo.addr).protocol(Protocol::Http2).retry(again);
    let forward = Forward::new([own.build().unwrap()]).unwrap();
    let script = ScriptedBody::script().data("abc");
    let script = script.trailers([("x-mine", "1"), ("x-sum", "3")]);
    let mut request = post(script.build().0);
    let line = "x-mine".parse().unwrap();
    request.headers_mut().insert("connection", line);
    let response = forward.oneshot(request).await.unwrap();
    response.into_body().collect().await.unwrap();
    let trailers = echo.seen().remove(0).trailers.unwrap();
    assert_eq!(trailers.keys().collect::<Vec<_>>(), ["x-sum"]);
}

/// RFC 9113 section 8.2.1: it must not go on. An upstream that writes it, as servers let their users do, means nothing by it: over
/// HTTP/1 it is no part of the value.
#[tokio::test]
async fn values_of_an_answer_lose_white_space_at_their_ends() {
    let echo = Echo::start().await;
    echo.gate.open();
    let response = send(&forward(&echo.gateway()), get("/")).await.unwrap();
    assert_eq!(response.headers()["x-padded"], "1");
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-padded"], "2");
}

#[tokio::test]
async fn te_is_for_grpc_and_the_authority_may_be_the_endpoints() {
    let echo = Echo::start().await;
    echo.gate.open();
    let own = builder(echo.addr)
        .protocol(Protocol::Http2)
        .host_header(HostHeader::Upstream)
        .build()
        .unwrap();
    let mut plain = get("/a%2Fb?x=%20");
    plain
        .headers_mut()
        .insert("te", "trailers".parse().unwrap());
    assert_eq!(fetch(&forward(&own), plain).await.0, 200);
    let seen = echo.seen().remove(0);
    assert!(!seen.headers.contains_key("te"));
    assert_eq!(
        seen.uri.to_string(),
        format!("http://{}/a%2Fb?x=%20", echo.addr)
    );
}

#[tokio::test]
async fn requests_share_one_connection() {
    let echo = Echo::start().await;
    let gateway = echo.gateway();
    let mut clients = JoinSet::new();
    for _ in 0..20 {
        let forward = forward(&gateway);
        clients.spawn(async move { fetch(&forward, post("hello".to_owned())).await });
    }
    echo.gate.reached(20).await;
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.open_connections), (20, 1));
    echo.gate.open();
    for (status, body) in clients.join_all().await {
        assert_eq!((status, body.as_str()), (200, "hello"));
    }
    assert_eq!(echo.connections(), 1);
}

/// Story: hyper held back what the peer did not allow yet, and that was called the upstream's failure.
#[tokio::test]
async fn a_connection_that_is_full_is_joined_by_another() {
    let echo = Echo::allowing(2).await;
    let gateway = echo.gateway();
    let send = || {
        let forward = forward(&gateway);
        tokio::spawn(async move { fetch(&forward, post("hello".to_owned())).await })
    };
    // The peer says how many it allows with its first answer at the latest.
    echo.gate.release(1);
    assert_eq!(send().await.unwrap().0, 200);
    let clients: Vec<_> = (0..5).map(|_| send()).collect();
    echo.gate.reached(5).await;
    assert_eq!(gateway.snapshot().open_connections, 3);
    echo.gate.open();
    for client in clients {
        assert_eq!(client.await.unwrap(), (200, "hello".to_owned()));
    }
    assert_eq!(echo.connections(), 3);
}

/// Story: a connection that nobody used shut out those who needed another one, for as long as it stayed idle.
#[tokio::test]
async fn a_connection_that_nobody_uses_makes_room_for_another() {
    let [near, far] = [Echo::allowing(1).await, Echo::allowing(1).await];
    far.gate.open();
    let pool = PoolConfig::new().max_connections(2).queue_timeout(HOUR);
    let gateway = builder(near.addr)
        .endpoint(format!("http://{}", far.addr).try_into().unwrap())
        .protocol(Protocol::Http2)
        .pool(pool)
        .build()
        .unwrap();
    let send = || {
        let (forward, request) = (forward(&gateway), get("/"));
        async move { fetch(&forward, request).await }
    };
    // The peer says how many it allows with its first answer at the latest.
    near.gate.release(1);
    assert_eq!(send().await.0, 200);
    assert_eq!(send().await.0, 200);
    let first = tokio::spawn(send());
    near.gate.reached(1).await;
    assert_eq!(send().await.0, 200);
    assert_eq!((near.connections(), far.connections()), (1, 1));
    let second = tokio::spawn(send());
    near.gate.reached(2).await;
    assert_eq!((near.connections(), far.connections()), (2, 1));
    assert_eq!(gateway.snapshot().open_connections, 2);
    near.gate.open();
    for sent in [first, second] {
        assert_eq!(sent.await.unwrap().0, 200);
    }
    // Now there are two here, and one of them makes room in turn.
    assert_eq!(send().await.0, 200);
    assert_eq!((near.connections(), far.connections()), (2, 2));
    assert_eq!(send().await.0, 200);
    assert_eq!((near.connections(), far.connections()), (2, 2));
}

/// That it takes no further connection is not the failure of one that is there and works.
#[tokio::test]
async fn where_no_further_connection_is_made_requests_wait_for_a_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = builder(listener.local_addr().unwrap())
        .protocol(Protocol::Http2)
        .build()
        .unwrap();
    let gate = Gate::new();
    let serving = tokio::spawn({
        let gate = gate.clone();
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let service = hyper::service::service_fn(move |_| {
                let gate = gate.clone();
                async move {
                    gate.pass().await;
                    Ok::<_, Infallible>(Response::new(Body::from("passed")))
                }
            });
            let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(1)
                .serve_connection(TokioIo::new(stream), service);
            _ = serve.await;
        }
    });
    let send = || {
        let forward = forward(&gateway);
        tokio::spawn(async move { fetch(&forward, get("/")).await })
    };
    let first = send();
    gate.reached(1).await;
    let waiting = [send(), send()];
    until("all to wait", &gateway, |it| it.snapshot().in_flight == 3).await;
    gate.open();
    for sent in waiting.into_iter().chain([first]) {
        assert_eq!(sent.await.unwrap(), (200, "passed".to_owned()));
    }
    serving.abort();
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_only() {
    let echo = Echo::start().await;
    let gateway = echo.gateway();
    let mut clients: Vec<_> = (0..2)
        .map(|_| {
            let forward = forward(&gateway);
            tokio::spawn(async move { fetch(&forward, get("/")).await })
        })
        .collect();
    echo.gate.reached(2).await;
    let leaving = clients.pop().unwrap();
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    assert_eq!(gateway.snapshot().in_flight, 1);
    gw_testkit::within("the stream to be reset", async {
        while echo.gate.waiting() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    echo.gate.open();
    assert_eq!(clients.pop().unwrap().await.unwrap().0, 200);
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn a_body_that_fails_ends_its_stream_only() {
    let echo = Echo::start().await;
    echo.gate.open();
    let gateway = echo.gateway();
    let script = ScriptedBody::script().data("abc").hold().error("over");
    let (body, handle) = script.claim_size(SizeHint::default()).build();
    let failing = tokio::spawn({
        let forward = forward(&gateway);
        async move { refused(&forward, post(body)).await }
    });
    handle.held().await;
    handle.resume();
    assert_eq!(failing.await.unwrap(), ("INTERNAL", ErrorKind::RequestBody));
    handle.dropped().await;
    assert_eq!(gateway.snapshot().in_flight, 0);
    // The connection goes on.
    assert_eq!(
        fetch(&forward(&gateway), post("hello".to_owned())).await.1,
        "hello"
    );
    assert_eq!(echo.connections(), 1);
}

#[tokio::test]
async fn an_upstream_that_comes_back_is_connected_to_again() {
    let echo = Echo::start().await;
    echo.gate.open();
    let gateway = echo.gateway();
    let forward = forward(&gateway);
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    let addr = echo.addr;
    echo.accepting.abort();
    is_quiet(&gateway).await;
    let refusal = refused(&forward, get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Connect));
    // One that takes the connection and speaks something else.
    let listener = TcpListener::bind(addr).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let garbage = Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, &garbage)
            .await
            .unwrap();
    });
    let rejection = send(&forward, get("/")).await.unwrap_err();
    assert_eq!(rejection.code().name(), "BAD_GATEWAY");
    is_quiet(&gateway).await;
}
