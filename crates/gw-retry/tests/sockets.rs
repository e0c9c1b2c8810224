//! Through real sockets, with the upstream's own record as the judge of what was sent.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt;
use std::future::IntoFuture as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use gw_retry::{
    AttemptError, Budget, Failure, ReplayBody, ResponseBody, RetryInfo, RetryLayer, RetryPolicy,
    Stopped,
};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Received, Reply, Upstream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Incoming, SizeHint};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tower::{Layer as _, Service, ServiceExt as _};

/// hyper-util's client as the service that sends requests on: what it says of its failures is what it knows of them.
#[derive(Clone)]
struct Proxy {
    pool: Pool<HttpConnector, ReplayBody<Body>>,
    upstream: SocketAddr,
}

#[derive(Debug)]
struct SendFailed(hyper_util::client::legacy::Error);

impl AttemptError for SendFailed {
    fn failure(&self) -> Failure {
        if self.0.is_connect() {
            Failure::NotSent
        } else {
            Failure::Unknown
        }
    }
}

impl fmt::Display for SendFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Service<Request<ReplayBody<Body>>> for Proxy {
    type Response = Response<Incoming>;
    type Error = SendFailed;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, SendFailed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendFailed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<ReplayBody<Body>>) -> Self::Future {
        let path = request.uri().path().to_owned();
        *request.uri_mut() = format!("http://{}{path}", self.upstream).parse().unwrap();
        let answer = self.pool.request(request);
        Box::pin(async move { answer.await.map_err(SendFailed) })
    }
}

fn proxy(upstream: SocketAddr) -> Proxy {
    let pool = Pool::builder(TokioExecutor::new()).build_http();
    Proxy { pool, upstream }
}

fn layer(policy: gw_retry::RetryPolicyBuilder) -> RetryLayer {
    let budget = Budget::builder("orders").build().unwrap();
    let policy = policy.build().unwrap();
    RetryLayer::builder(budget).policy(policy).build()
}

fn request(method: Method, body: &'static str) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/")
        .body(Body::from(body))
        .unwrap()
}

async fn send(
    layer: &RetryLayer,
    upstream: SocketAddr,
    sent: Request<Body>,
) -> Result<Response<ResponseBody<Incoming>>, SendFailed> {
    layer.layer(proxy(upstream)).oneshot(sent).await
}

/// An upstream that resets the first connection at this point, and answers on later ones.
async fn resets(at: At) -> Upstream {
    let first = std::sync::atomic::AtomicBool::new(true);
    Upstream::start(move |_: &Received| {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            Reply::ok().body("half an answer").reset(at)
        } else {
            Reply::ok().body("whole")
        }
    })
    .await
}

#[tokio::test]
async fn a_read_is_sent_again_after_a_reset_before_the_head() {
    let upstream = resets(At::Head(0)).await;
    let layer = layer(RetryPolicy::builder());
    let answer = send(&layer, upstream.addr(), request(Method::GET, ""))
        .await
        .unwrap();
    assert_eq!(RetryInfo::of(&answer).attempts, 2);
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "whole"
    );
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].header("x-gw-attempt"), Some("2"));
}

#[tokio::test]
async fn a_write_is_not_whatever_the_point() {
    for method in [Method::POST, Method::PATCH, Method::PUT, Method::DELETE] {
        let upstream = resets(At::Head(0)).await;
        let layer = layer(RetryPolicy::builder());
        let answer = send(&layer, upstream.addr(), request(method, "data")).await;
        assert!(answer.is_err());
        assert_eq!(upstream.requests().len(), 1);
    }
}

/// Wherever the upstream breaks off, on a connection of its own and on one that has served a request before: its own record
/// says how often it saw the request.
#[tokio::test]
async fn resets_at_every_byte() {
    const ANSWER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndata";
    let head = ANSWER.find("data").unwrap();
    let layer = layer(RetryPolicy::builder());
    for position in 0..ANSWER.len() {
        let upstream = Upstream::start(move |received: &Received| {
            let reply = Reply::raw(ANSWER);
            match received.header("x-gw-attempt") {
                None if received.path() == "/" => reply.reset(At::Body(position)),
                _ => Reply::ok().body("whole"),
            }
        })
        .await;
        for method in [Method::GET, Method::POST, Method::PUT, Method::DELETE] {
            for reused in [false, true] {
                let mut service = layer.layer(proxy(upstream.addr()));
                if reused {
                    let mut warm = request(Method::GET, "");
                    *warm.uri_mut() = "/warm".parse().unwrap();
                    let answer = service.call(warm).await.unwrap();
                    answer.into_body().collect().await.unwrap();
                }
                let before = upstream.requests().len();
                let body = if method == Method::GET { "" } else { "data" };
                let answer = service.call(request(method.clone(), body)).await;
                let seen = upstream.requests().len() - before;
                if method == Method::GET {
                    // With the head on its way it depends on whether it is read before the reset arrives.
                    assert!(answer.is_ok(), "{position}");
                    assert!(
                        seen == 2 || seen == 1 && position >= head,
                        "{position}: {seen}"
                    );
                } else {
                    assert_eq!(seen, 1, "{method} {position} {reused}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_write_with_a_key_is() {
    let upstream = resets(At::Head(0)).await;
    let layer = layer(RetryPolicy::builder().keyed_methods([Method::POST]));
    let mut sent = request(Method::POST, "data");
    sent.headers_mut()
        .insert("idempotency-key", "\"k\"".parse().unwrap());
    let answer = send(&layer, upstream.addr(), sent).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    for received in seen {
        assert_eq!(received.body, "data");
        assert_eq!(received.header("content-length"), Some("4"));
    }
}

/// Story: of a body in chunks the length was known once it had been read, so the retry was sent with one, and HTTP/1 has no place
/// for trailers then.
#[tokio::test]
async fn a_body_in_chunks_comes_again_in_chunks_with_its_trailers() {
    let upstream = resets(At::Head(0)).await;
    let layer = layer(RetryPolicy::builder().methods([Method::PUT]));
    let (body, _) = ScriptedBody::script()
        .data("da")
        .data("ta")
        .trailers([("x-end", "1")])
        .claim_size(SizeHint::default())
        .build();
    let mut sent = request(Method::PUT, "").map(|_| Body::new(body));
    sent.headers_mut()
        .insert("trailer", "x-end".parse().unwrap());
    let answer = send(&layer, upstream.addr(), sent).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = upstream.requests();
    assert_eq!(seen.len(), 2);
    for received in seen {
        assert_eq!(received.header("transfer-encoding"), Some("chunked"));
        assert_eq!(received.body, "data");
        assert_eq!(received.trailers.get("x-end"), Some("1"));
    }
}

#[tokio::test]
async fn nobody_listens() {
    // Bound, so that nobody else listens there, and not listening itself.
    let bound = tokio::net::TcpSocket::new_v4().unwrap();
    bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bound.local_addr().unwrap();
    // Ten for the request, and none that come back with time.
    let budget = Budget::builder("orders").ratio(10.0).min_per_second(0);
    let layer = RetryLayer::builder(budget.build().unwrap()).build();
    // Not a byte was sent: that is tried again, and then it is the answer.
    let answer = send(&layer, address, request(Method::POST, "data")).await;
    assert_eq!(answer.unwrap_err().failure(), Failure::NotSent);
    assert_eq!(layer.handle().snapshot().budget_available, 8);
}

/// Through axum's server as well: one layer for all connections, whose budget is one.
#[tokio::test]
async fn sixteen_connections_share_a_budget() {
    let budget = Budget::builder("orders").ratio(0.5).min_per_second(0);
    let layer = RetryLayer::builder(budget.build().unwrap())
        .policy(RetryPolicy::builder().max_attempts(2).build().unwrap())
        .build();
    let calls = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = calls.clone();
    let handler = move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        std::future::ready(StatusCode::SERVICE_UNAVAILABLE)
    };
    let inner = Router::new().route("/", axum::routing::get(handler));
    let tell = |response: Response<Body>| {
        let stopped = RetryInfo::of(&response).stopped_because;
        assert!(
            matches!(stopped, Stopped::Attempts | Stopped::Budget),
            "{stopped:?}"
        );
        response
    };
    let retried = layer.layer(inner);
    let app = Router::new()
        .fallback_service(retried)
        .layer(tower::util::MapResponseLayer::new(tell));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    for _ in 0..16 {
        let mut client = Client::connect(address).await;
        client
            .send("GET / HTTP/1.1\r\nhost: test.example\r\nconnection: close\r\n\r\n")
            .await;
        assert_eq!(client.read_answer().await.status(), 503);
    }
    assert_eq!(calls.load(std::sync::atomic::Ordering::SeqCst), 24);
}
