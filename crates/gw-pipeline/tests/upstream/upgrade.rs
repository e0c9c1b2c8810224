//! Switching protocols.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_core::{Body, Rejection};
use gw_pipeline::upstream::{ErrorKind, Forward, PoolConfig, UpstreamBody, copy_extensions};
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always, in_order};
use http::{Request, Response, Version};
use tower::{Layer, Service};

use crate::support::*;

fn asking(protocol: &str) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Says that it is dropped.
struct Held(Arc<AtomicBool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Story: it could not fail, for the flag was never set: what guarded it was held by the test as well.
#[tokio::test]
async fn bytes_pass_both_ways_and_all_is_held_until_the_tunnel_closes() {
    let upstream = Upstream::start(always(Reply::upgrade("WebSocket"))).await;
    let gateway = plain(&upstream);
    let released = Arc::new(AtomicBool::new(false));
    let front = Front::start_with(forward(&gateway), {
        let released = Arc::clone(&released);
        move |request| {
            // Nobody but the request has it.
            let held = Arc::new(Held(Arc::clone(&released)));
            request.extensions_mut().insert(held);
        }
    })
    .await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("other, websocket")).await;
    let head = client.read_head().await;
    assert_eq!(head.status(), 101);
    assert_eq!(head.headers().get("upgrade"), Some("WebSocket"));
    assert_eq!(head.headers().get("connection"), Some("upgrade"));
    let received = upstream.requests().remove(0);
    assert_eq!(received.header("upgrade"), Some("websocket"));
    assert_eq!(received.header("connection"), Some("upgrade"));
    assert_eq!(
        received.header("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    for message in ["hello", "a longer message", "x"] {
        client.send(message).await;
        assert_eq!(client.read_exact(message.len()).await, message);
    }
    // More than any buffer on the way.
    let large = vec![b'z'; 64 * 1024];
    client.send(&large).await;
    assert_eq!(client.read_exact(large.len()).await, large);
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.open_connections), (1, 1));
    assert_eq!(snapshot.tunnels, 1);
    assert!(!released.load(Ordering::SeqCst));
    client.finish_sending().await;
    assert!(client.read_rest().await.bytes.is_empty());
    until("the slot to be free", &gateway, |it| {
        it.snapshot().in_flight == 0
    })
    .await;
    assert!(released.load(Ordering::SeqCst));
    is_quiet(&gateway).await;
}

/// Story: the reason phrase of a 101 went on to the client, when those of all other answers did not.
#[tokio::test]
async fn the_words_of_a_switch_are_not_the_upstreams() {
    let switch =
        "HTTP/1.1 101 node-7.internal\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let upstream = Upstream::start(always(Reply::raw(switch).keep_open())).await;
    let front = Front::start(forward(&plain(&upstream))).await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("websocket")).await;
    let line = "HTTP/1.1 101 Switching Protocols\r\n";
    assert_eq!(client.read_exact(line.len()).await, line);
}

#[tokio::test]
async fn a_client_that_leaves_closes_the_tunnel() {
    let upstream = Upstream::start(always(Reply::upgrade("websocket"))).await;
    let gateway = plain(&upstream);
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("websocket")).await;
    assert_eq!(client.read_head().await.status(), 101);
    client.reset();
    until("the slot to be free", &gateway, |it| {
        it.snapshot().in_flight == 0
    })
    .await;
    is_quiet(&gateway).await;
    upstream.open_connections(0).await;
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_a_bad_gateway() {
    let upstream = Upstream::start(always(Reply::upgrade("websocket"))).await;
    let gateway = plain(&upstream);
    let refusal = refused(&forward(&gateway), get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::UnrequestedUpgrade));
    is_quiet(&gateway).await;
    let front = Front::start(forward(&gateway)).await;
    let without_connection = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n";
    let with_body = "POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        content-length: 1\r\n\r\nx";
    for asked in [
        &asking("h2c"),
        &asking("irc"),
        without_connection,
        with_body,
    ] {
        let mut client = Client::connect(front.addr).await;
        client.send(asked).await;
        assert_eq!(client.read_answer().await.status(), 502);
        is_quiet(&gateway).await;
    }
    for received in upstream.requests() {
        assert_eq!(received.header("upgrade"), None);
        assert_eq!(received.header("connection"), None);
    }
}

#[tokio::test]
async fn a_switch_to_another_protocol_is_a_bad_gateway() {
    let upstream = Upstream::start(always(Reply::upgrade("irc"))).await;
    let gateway = plain(&upstream);
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("websocket")).await;
    assert_eq!(client.read_answer().await.status(), 502);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn an_upstream_may_decline() {
    let upstream = Upstream::start(always(Reply::status(403).body("no"))).await;
    let gateway = plain(&upstream);
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("websocket")).await;
    let answer = client.read_answer().await;
    assert_eq!((answer.status(), answer.text()), (403, "no"));
    assert_eq!(gateway.snapshot().in_flight, 0);
}

/// RFC 9110 section 15.5.22: the answer must say what is required. It does to whom it is of use.
#[tokio::test]
async fn a_required_upgrade_is_named_if_it_is_allowed() {
    let reply = |protocols| {
        let reply = Reply::status(426).header("connection", "upgrade, x-own");
        reply.header("upgrade", protocols).header("x-own", "1")
    };
    let usual = ["other, WebSocket", "other/2, TLS/1.0", "h2c"];
    let own = ["irc, websocket, Chat/2"];
    let upstream = Upstream::start(in_order(usual.into_iter().chain(own).map(reply))).await;
    let forward = forward(&plain(&upstream));
    let chat = forward.clone().upgrades(["chat/2", "irc"]).unwrap();
    for (forward, named) in [
        (&forward, Some("WebSocket")),
        (&forward, None),
        (&forward, None),
        (&chat, Some("irc, Chat/2")),
    ] {
        let answer = send(forward, get("/")).await.unwrap();
        assert_eq!(answer.status(), 426);
        let field = |name| answer.headers().get(name).map(|it| it.to_str().unwrap());
        assert_eq!(field("upgrade"), named);
        assert_eq!(field("connection"), named.map(|_| "upgrade"));
        assert_eq!(field("x-own"), None);
    }
}

#[tokio::test]
async fn an_upgrade_is_required_of_nobody_who_cannot() {
    let reply = Reply::status(426).header("connection", "upgrade");
    let reply = reply.header("upgrade", "websocket");
    let upstream = Upstream::start(always(reply)).await;
    let forward = forward(&plain(&upstream));
    for version in [Version::HTTP_10, Version::HTTP_2] {
        let mut request = get("/");
        *request.version_mut() = version;
        let answer = send(&forward, request).await.unwrap();
        assert_eq!(answer.status(), 426);
        assert!(!answer.headers().contains_key("upgrade"), "{version:?}");
        assert!(!answer.headers().contains_key("connection"));
    }
    // Whoever can is told by the server, too.
    let front = Front::start(forward).await;
    let mut client = Client::connect(front.addr).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection"), Some("upgrade"));
    client.get("/").await;
    assert_eq!(client.read_answer().await.status(), 426);
}

#[tokio::test]
async fn a_tunnel_that_is_silent_is_closed() {
    // Story: a client that was gone without a word held a slot and a connection for ever.
    let upstream = Upstream::start(always(Reply::upgrade("websocket"))).await;
    let silence = Duration::from_millis(50);
    for gateway in [
        builder(upstream.addr()).tunnel_idle_timeout(silence),
        builder(upstream.addr()).tunnel_lifetime(silence),
    ] {
        let gateway = gateway.build().unwrap();
        let front = Front::start(forward(&gateway)).await;
        let mut client = Client::connect(front.addr).await;
        client.send(&asking("websocket")).await;
        assert_eq!(client.read_head().await.status(), 101);
        assert!(client.read_rest().await.bytes.is_empty());
        is_quiet(&gateway).await;
        assert_eq!(gateway.snapshot().tunnels, 0);
    }
}

#[tokio::test]
async fn tunnels_leave_room_for_other_requests() {
    let upstream = Upstream::start(|request| match request.path() {
        "/chat" => Reply::upgrade("websocket"),
        _ => Reply::ok().body("ok"),
    })
    .await;
    let pool = PoolConfig::new().max_connections(3);
    let half = builder(upstream.addr()).pool(pool);
    for (gateway, most) in [(half.clone(), 2), (half.max_tunnels(1), 1)] {
        let gateway = gateway.build().unwrap();
        let front = Front::start(forward(&gateway)).await;
        let mut tunnels = Vec::new();
        for _ in 0..most {
            let mut client = Client::connect(front.addr).await;
            client.send(&asking("websocket")).await;
            assert_eq!(client.read_head().await.status(), 101);
            tunnels.push(client);
        }
        let mut late = Client::connect(front.addr).await;
        late.send(&asking("websocket")).await;
        let answer = late.read_answer().await;
        assert_eq!(answer.status(), 503);
        assert!(answer.text().contains("OVERLOADED"), "{}", answer.text());
        assert_eq!(fetch(&forward(&gateway), get("/")).await.1, "ok");
        drop(tunnels);
        until("the tunnels to close", &gateway, |it| {
            it.snapshot().tunnels == 0
        })
        .await;
        let mut next = Client::connect(front.addr).await;
        next.send(&asking("websocket")).await;
        assert_eq!(next.read_head().await.status(), 101);
    }
}

#[tokio::test]
async fn a_request_that_is_declined_gives_its_place_back() {
    let upstream = Upstream::start(always(Reply::status(403).body("no"))).await;
    let gateway = builder(upstream.addr()).max_tunnels(1).build().unwrap();
    let front = Front::start(forward(&gateway)).await;
    for _ in 0..2 {
        let mut client = Client::connect(front.addr).await;
        client.send(&asking("websocket")).await;
        assert_eq!(client.read_answer().await.status(), 403);
    }
    assert_eq!(gateway.snapshot().tunnels, 0);
}

/// Story: a request that failed kept its place until its finished future was dropped.
#[tokio::test]
async fn a_request_that_fails_gives_its_place_back_at_once() {
    let replies = [Reply::upgrade("irc"), Reply::ok().cut(At::Start)];
    let upstream = Upstream::start(in_order(replies)).await;
    let gateway = builder(upstream.addr()).max_tunnels(1).build().unwrap();
    let mut forward = forward(&gateway);
    for _ in 0..2 {
        let mut request = get("/chat");
        for (name, value) in [("connection", "upgrade"), ("upgrade", "websocket")] {
            request
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        }
        let client = hyper::upgrade::on(Request::new(()));
        request.extensions_mut().insert(client);
        let mut failing = std::pin::pin!(forward.call(request));
        assert_eq!(gateway.snapshot().tunnels, 1);
        let failed = gw_testkit::within("the request to fail", failing.as_mut()).await;
        assert_eq!(failed.unwrap_err().code().name(), "BAD_GATEWAY");
        // The future is still there.
        assert_eq!(gateway.snapshot().tunnels, 0);
    }
}

/// Sends each request twice, one after the other, and answers with the second answer.
#[derive(Clone, Copy)]
enum Twice {
    /// A copy goes first, to be looked at.
    Shadow,
    /// The copy is the second attempt.
    Retry,
}

impl<S> Layer<S> for Twice {
    type Service = Sending<S>;

    fn layer(&self, inner: S) -> Sending<S> {
        Sending { inner, how: *self }
    }
}

#[derive(Clone)]
struct Sending<S> {
    inner: S,
    how: Twice,
}

impl<S> Service<Request<Body>> for Sending<S>
where
    S: Service<Request<Body>, Response = Response<UpstreamBody>, Error = Rejection>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<UpstreamBody>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Rejection>> + Send>>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Rejection>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut copy = Request::new(Body::empty());
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy_extensions(request.extensions(), copy.extensions_mut());
        let (first, second) = match self.how {
            Twice::Shadow => (copy, request),
            Twice::Retry => (request, copy),
        };
        let mut service = self.inner.clone();
        Box::pin(async move {
            let _first = service.call(first).await;
            service.call(second).await
        })
    }
}

/// Story: whichever answer came first took the client's connection, a shadow's as well, and the client got a 502.
#[tokio::test]
async fn the_answer_that_goes_to_the_client_has_the_tunnel() {
    let switching = || Reply::upgrade("websocket");
    for (how, replies) in [
        (Twice::Shadow, [switching(), switching()]),
        (Twice::Shadow, [Reply::status(503), switching()]),
        (Twice::Retry, [Reply::status(503), switching()]),
    ] {
        let upstream = Upstream::start(in_order(replies)).await;
        let orders = builder(upstream.addr()).retry(how).build().unwrap();
        let front = Front::start(Forward::new([orders.clone()]).unwrap()).await;
        let mut client = Client::connect(front.addr).await;
        client.send(&asking("websocket")).await;
        assert_eq!(client.read_head().await.status(), 101);
        client.send("hello").await;
        assert_eq!(client.read_exact(5).await, "hello");
        let snapshot = orders.snapshot();
        assert_eq!((snapshot.in_flight, snapshot.tunnels), (1, 1));
        assert_eq!(upstream.requests().len(), 2);
        drop(client);
        until("the tunnel to close", &orders, |it| {
            let now = it.snapshot();
            (now.in_flight, now.tunnels) == (0, 0)
        })
        .await;
    }
}

#[tokio::test]
async fn an_offer_that_nobody_takes_up_closes_its_connection() {
    let replies = [Reply::upgrade("websocket"), Reply::status(403).body("no")];
    let upstream = Upstream::start(in_order(replies)).await;
    let orders = builder(upstream.addr())
        .shadow(Twice::Shadow)
        .build()
        .unwrap();
    let front = Front::start(Forward::new([orders.clone()]).unwrap()).await;
    let mut client = Client::connect(front.addr).await;
    client.send(&asking("websocket")).await;
    assert_eq!(client.read_answer().await.status(), 403);
    upstream.open_connections(1).await;
    let snapshot = orders.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.tunnels), (0, 0));
}
