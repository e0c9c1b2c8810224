//! Each request is observed once, however it ends, and the line says how.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test"
)]

mod support;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gw_core::context::{
    ClientAddr, Identity, IdentityParts, Lane, PeerAddr, RequestId, RouteMatch, UpstreamName,
};
use gw_core::record::{Exchange, Record};
use gw_core::{Body, BoxError, Code, GrpcStatus, OnReject, RejectContext, Rejection, Respond};
use gw_observe::{AccessLog, AccessLogHandle, ObserveLayer, RequestBody, ResponseBody};
use gw_testkit::body::ScriptedBody;
use http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use support::{Pipe, every_request, flushed};
use tokio::time::Instant;
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

type Sent = Request<RequestBody<Body>>;

const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    http::StatusCode::SERVICE_UNAVAILABLE,
    "A test.",
    GrpcStatus::Unavailable,
);

struct Observed {
    layer: ObserveLayer,
    log: AccessLog,
    pipe: Pipe,
}

impl Observed {
    fn new() -> Self {
        let pipe = Pipe::default();
        let log = every_request(&pipe).start().unwrap();
        let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
        Self { layer, log, pipe }
    }

    fn handle(&self) -> AccessLogHandle {
        self.log.handle()
    }

    /// The line of the only request.
    fn line(&self) -> Value {
        flushed(&self.handle());
        let lines = self.pipe.lines();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(self.handle().counts().requests(), 1);
        lines[0].clone()
    }

    fn says(&self, expected: &Value) {
        let line = self.line();
        for (key, value) in expected.as_object().unwrap() {
            let said = line.get(key).unwrap_or(&Value::Null);
            assert_eq!(said, value, "{key} in {line}");
        }
    }
}

fn request(path: &str) -> Request<Body> {
    Request::builder().uri(path).body(Body::empty()).unwrap()
}

fn answer(body: impl Into<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(body.into()))
}

fn note(request: &Sent, update: impl FnOnce(&mut Exchange)) {
    Record::of(request.extensions()).unwrap().update(update);
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test(start_paused = true)]
async fn a_whole_exchange_with_all_its_fields() {
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        note(&request, |exchange| {
            exchange.request_id = RequestId::new(HeaderValue::from_static("id-1"));
            exchange.client = Some(ClientAddr::new([192, 0, 2, 9].into()));
            exchange.route = Some(RouteMatch::new(0, "orders", "/orders/{id}"));
            exchange.lane = Some(Lane::new("core"));
            exchange.upstream = Some(UpstreamName::new("orders"));
            exchange.attempts = 2;
            exchange.rate_limit_remaining = Some(7);
            exchange.identity = Some(Identity::new(IdentityParts {
                consumer: Some("acme".into()),
                user: Some("u-1".into()),
                ..IdentityParts::default()
            }));
        });
        let record = Record::of(request.extensions()).unwrap().clone();
        // The clock stands still.
        assert_eq!(record.exchange().began, Some(tokio::time::Instant::now()));
        assert_eq!(
            request.into_body().collect().await.unwrap().to_bytes(),
            "12345"
        );
        tokio::time::sleep(Duration::from_millis(30)).await;
        record.update(|exchange| exchange.upstream_time = Some(Duration::from_millis(20)));
        let (body, _) = ScriptedBody::script()
            .data("da")
            .data("ta")
            .trailers([("a", "b")])
            .build();
        answer(Body::new(body))
    });
    let mut service = observed.layer.layer(inner);
    let mut sent = request("/orders/7?token=secret");
    *sent.body_mut() = Body::from("12345");
    sent.headers_mut()
        .insert(header::USER_AGENT, HeaderValue::from_static("curl/8 \"x\""));
    sent.headers_mut().insert(
        header::AUTHORIZATION,
        HeaderValue::from_static("Bearer secret"),
    );
    sent.extensions_mut()
        .insert(PeerAddr(([10, 0, 0, 1], 80).into()));
    let mut body = service
        .ready()
        .await
        .unwrap()
        .call(sent)
        .await
        .unwrap()
        .into_body();
    assert_eq!(
        body.frame().await.unwrap().unwrap().into_data().unwrap(),
        "da"
    );
    // The client does not read for a while.
    tokio::time::advance(Duration::from_millis(50)).await;
    body.collect().await.unwrap();

    let line = observed.line();
    let mut said = line.as_object().unwrap().clone();
    for made in ["timestamp", "trace_id", "span_id"] {
        let value = said.remove(made).unwrap();
        assert!(value.as_str().unwrap().len() >= 16, "{value}");
    }
    let expected = json!({
        "request_id": "id-1", "method": "GET", "path": "/orders/7", "status": 200,
        "latency_ms": 80, "upstream_latency_ms": 20, "gateway_ms": 10, "client_wait_ms": 50,
        "client_ip": "192.0.2.9", "user_agent": "curl/8 \"x\"", "consumer_id": "acme", "user_id": "u-1",
        "route": "orders", "lane": "core", "upstream": "orders", "attempts": 2, "request_size": 5,
        "response_size": 4, "rate_limit_remaining": 7, "protocol": "HTTP/1.1", "response_source": "upstream",
        "ended_by": "completed", "phase": "done", "sampled_rate": 1,
    });
    assert_eq!(Value::Object(said), expected);
    assert!(!observed.pipe.text().contains("secret"));
}

/// On a lane with threads of its own the attempt is dropped, and tells how long it took, only after the client's leaving was
/// observed: the line had no `upstream_latency_ms`, and the upstream's metrics no request.
#[tokio::test(start_paused = true)]
async fn the_upstreams_time_is_known_of_a_client_that_left() {
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let waiting = Some(Instant::now());
        note(&request, |exchange| {
            exchange.attempts = 2;
            // The first attempt has ended, the second one has not.
            exchange.upstream_time = Some(Duration::from_millis(5));
            exchange.upstream_since = waiting;
        });
        pending::<Result<Response<Body>, Infallible>>().await
    });
    let mut call = Box::pin(observed.layer.layer(inner).oneshot(request("/")));
    assert!(poll(call.as_mut()).is_pending());
    tokio::time::advance(Duration::from_millis(10)).await;
    assert!(poll(call.as_mut()).is_pending());
    tokio::time::advance(Duration::from_millis(40)).await;
    drop(call);
    observed.says(&json!({
        "latency_ms": 50, "upstream_latency_ms": 45, "gateway_ms": 5, "ended_by": "client",
    }));
}

#[tokio::test(start_paused = true)]
async fn the_wait_for_an_upload_is_the_clients() {
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        request.into_body().collect().await.unwrap();
        answer("")
    });
    let (body, upload) = ScriptedBody::script().data("12").hold().data("345").build();
    let sent = Request::post("/").body(Body::new(body)).unwrap();
    let call = tokio::spawn(observed.layer.layer(inner).oneshot(sent));
    upload.held().await;
    tokio::time::advance(Duration::from_secs(3)).await;
    upload.resume();
    call.await.unwrap().unwrap();
    observed.says(&json!({
        "request_size": 5, "response_size": 0, "client_wait_ms": 3000, "gateway_ms": 0, "latency_ms": 3000,
        "ended_by": "completed", "response_source": "service",
    }));
}

/// Story: within a wait for the upstream it was counted twice, and what was too much was taken from the gateway's own time: half a
/// second in a queue was the upstream's.
#[tokio::test(start_paused = true)]
async fn the_wait_for_an_upload_is_not_the_upstreams() {
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        let record = Record::of(request.extensions()).unwrap().clone();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let began = Instant::now();
        record.update(|exchange| exchange.upstream_wait_begins(began));
        request.into_body().collect().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = Instant::now();
        record.update(|exchange| exchange.upstream_wait_ends(began, now - began, now));
        answer("")
    });
    let (body, upload) = ScriptedBody::script().data("12").hold().data("345").build();
    let sent = Request::post("/").body(Body::new(body)).unwrap();
    let call = tokio::spawn(observed.layer.layer(inner).oneshot(sent));
    upload.held().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    upload.resume();
    call.await.unwrap().unwrap();
    observed.says(&json!({
        "latency_ms": 2600, "client_wait_ms": 2000, "upstream_latency_ms": 100, "gateway_ms": 500,
    }));
}

/// Story: the body was still with the connection's task, or was dropped after the service's future, when the exchange ended: of a client
/// that stalled, the wait was the upstream's.
#[tokio::test(start_paused = true)]
async fn so_is_a_wait_for_an_upload_that_lasts_when_it_ends() {
    for answered in [true, false] {
        let observed = Observed::new();
        let inner = service_fn(move |request: Sent| async move {
            let since = Some(Instant::now());
            note(&request, |exchange| {
                exchange.attempts = 1;
                exchange.upstream_since = since;
            });
            tokio::spawn(request.into_body().collect());
            if !answered {
                pending::<()>().await;
            }
            tokio::time::sleep(Duration::from_secs(10)).await;
            answer("")
        });
        let (body, upload) = ScriptedBody::script().data("12").hold().data("345").build();
        let sent = Request::post("/").body(Body::new(body)).unwrap();
        let call = tokio::spawn(observed.layer.layer(inner).oneshot(sent));
        upload.held().await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        match answered {
            true => drop(call.await.unwrap().unwrap()),
            false => {
                call.abort();
                assert!(call.await.unwrap_err().is_cancelled());
            }
        }
        assert!(!upload.is_dropped());
        observed.says(&json!({
            "request_size": 2, "latency_ms": 10000, "client_wait_ms": 10000, "upstream_latency_ms": 0, "gateway_ms": 0,
        }));
    }
}

/// A listener for both versions of IP knows IPv4 clients by mapped addresses; the stages write them as IPv4, and so did all
/// lines but those that no stage had come to.
#[tokio::test]
async fn an_address_has_one_spelling() {
    let observed = Observed::new();
    let inner = service_fn(async |_: Sent| answer(""));
    let mut sent = request("/");
    let mapped = "[::ffff:192.0.2.7]:80".parse().unwrap();
    sent.extensions_mut().insert(PeerAddr(mapped));
    observed.layer.layer(inner).oneshot(sent).await.unwrap();
    observed.says(&json!({"client_ip": "192.0.2.7"}));
}

#[tokio::test]
async fn a_refusal_is_the_gateways() {
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        let context = RejectContext::of(&request);
        let refused: Result<Response<Body>, Infallible> =
            Respond::new().reject(Rejection::new(&OVERLOADED), &context);
        refused
    });
    let body = observed
        .layer
        .layer(inner)
        .oneshot(request("/"))
        .await
        .unwrap()
        .into_body();
    let envelope = body.collect().await.unwrap().to_bytes();
    observed.says(&json!({
        "status": 503, "code": "OVERLOADED", "response_source": "gateway", "ended_by": "gateway", "phase": "request",
        "response_size": envelope.len(),
    }));
    // The envelope names the trace that the line names.
    let envelope: Value = serde_json::from_slice(&envelope).unwrap();
    assert_eq!(envelope["error"]["trace_id"], observed.line()["trace_id"]);
}

#[tokio::test]
async fn a_client_that_leaves_early() {
    // Before the service was polled, while it works, and while the answer is on its way.
    let leaves = async |after: u32, phase: &str| {
        let observed = Observed::new();
        let inner = service_fn(async |request: Sent| {
            note(&request, |exchange| exchange.attempts = 1);
            tokio::task::yield_now().await;
            let (body, _) = ScriptedBody::script().data("da").hold().build();
            answer(Body::new(body))
        });
        let mut service = observed.layer.layer(inner);
        let mut call = Box::pin(service.call(request("/")));
        for _ in 0..after {
            if let Poll::Ready(answer) = poll(call.as_mut()) {
                let mut body = pin!(answer.unwrap().into_body());
                assert!(body.frame().await.unwrap().is_ok());
            }
        }
        drop(call);
        observed.says(&json!({"ended_by": "client", "phase": phase}));
        let answered = observed.line().get("status").is_some();
        assert_eq!(answered, phase == "response");
    };
    leaves(0, "request").await;
    leaves(1, "upstream").await;
    leaves(2, "response").await;
}

#[tokio::test]
async fn an_answer_that_breaks_off() {
    for (cut_by_us, ended_by) in [(false, "upstream"), (true, "gateway")] {
        let observed = Observed::new();
        let inner = service_fn(async |request: Sent| {
            note(&request, |exchange| {
                exchange.attempts = 1;
                exchange.code = cut_by_us.then_some(&OVERLOADED);
                exchange.cause = cut_by_us.then_some("idle_timeout");
            });
            let (body, _) = ScriptedBody::script().data("da").error("broken").build();
            answer(Body::new(body))
        });
        let body = observed
            .layer
            .layer(inner)
            .oneshot(request("/"))
            .await
            .unwrap()
            .into_body();
        assert!(body.collect().await.is_err());
        observed.says(&json!({
            "status": 200, "ended_by": ended_by, "phase": "response", "response_source": "upstream", "response_size": 2,
            "cause": cut_by_us.then_some("idle_timeout"),
        }));
    }
}

#[tokio::test]
async fn a_service_that_fails() {
    let observed = Observed::new();
    let inner =
        service_fn(async |_: Sent| Err::<Response<Body>, BoxError>("the secret cause".into()));
    assert!(
        observed
            .layer
            .layer(inner)
            .oneshot(request("/"))
            .await
            .is_err()
    );
    observed.says(&json!({"ended_by": "gateway", "phase": "request", "status": null}));
    assert!(!observed.pipe.text().contains("secret"));
}

#[tokio::test]
async fn panics_anywhere() {
    let panics = |observed: &Observed, run: &dyn Fn()| {
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        observed.says(&json!({"ended_by": "gateway", "code": "INTERNAL"}));
    };
    let observed = Observed::new();
    panics(&observed, &|| {
        let inner = service_fn(
            |_: Sent| -> std::future::Ready<Result<Response<Body>, Infallible>> {
                panic!("in call")
            },
        );
        drop(observed.layer.layer(inner).call(request("/")));
    });

    // Caught before the future is dropped, as a task's panic is.
    let observed = Observed::new();
    panics(&observed, &|| {
        let inner =
            service_fn(async |_: Sent| -> Result<Response<Body>, Infallible> { panic!("in poll") });
        let mut call = Box::pin(observed.layer.layer(inner).call(request("/")));
        let panicked = catch_unwind(AssertUnwindSafe(|| poll(call.as_mut()).is_ready()));
        drop(call);
        panicked.unwrap();
    });

    struct Panics;
    impl http_body::Body for Panics {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            panic!("in the body")
        }
    }
    let observed = Observed::new();
    panics(&observed, &|| {
        let inner = service_fn(async |_: Sent| Ok::<_, Infallible>(Response::new(Panics)));
        let mut call = pin!(observed.layer.layer(inner).call(request("/")));
        let Poll::Ready(Ok(answer)) = poll(call.as_mut()) else {
            unreachable!()
        };
        let _ = poll(pin!(answer.into_body().frame()));
    });
}

/// Story: a server does not read the body of an answer to HEAD, nor past the announced length; it drops it. Such requests
/// were counted as aborted by their clients.
#[tokio::test]
async fn a_server_that_stops_reading_where_it_may() {
    let complete = async |method: &str, status: u16, length: Option<&'static str>, read: bool| {
        let observed = Observed::new();
        let inner = service_fn(async |_: Sent| {
            let (body, _) = ScriptedBody::script().data("data").hold().build();
            let mut response = Response::new(Body::new(body));
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            if let Some(length) = length {
                let length = HeaderValue::from_static(length);
                response
                    .headers_mut()
                    .insert(header::CONTENT_LENGTH, length);
            }
            Ok::<_, Infallible>(response)
        });
        let mut sent = request("/");
        *sent.method_mut() = method.parse().unwrap();
        let answer = observed.layer.layer(inner).oneshot(sent).await.unwrap();
        let mut body = answer.into_body();
        if read {
            assert!(body.frame().await.unwrap().is_ok());
        }
        drop(body);
        observed.line()["ended_by"] == "completed"
    };
    assert!(complete("HEAD", 200, Some("4"), false).await);
    assert!(complete("GET", 304, None, false).await);
    assert!(complete("GET", 101, None, false).await);
    assert!(complete("CONNECT", 200, None, false).await);
    assert!(complete("GET", 200, Some("4"), true).await);
    assert!(!complete("GET", 200, Some("5"), true).await);
    assert!(!complete("GET", 200, None, true).await);
    assert!(!complete("GET", 200, Some("4"), false).await);
}

#[tokio::test]
async fn hostile_requests_make_one_line_each() {
    let observed = Observed::new();
    let mut service = observed.layer.layer(service_fn(async |_: Sent| answer("")));
    let mut sent = request(&format!("/{}?q=1", "a\\\"{}".repeat(900)));
    let agent = HeaderValue::from_bytes(b"a\t\"}\xff\xe2\x80\xa8{\"forged\":1}").unwrap();
    sent.headers_mut().insert(header::USER_AGENT, agent);
    *sent.method_mut() = "X".repeat(500).parse().unwrap();
    service.call(sent).await.unwrap();
    let line = observed.line();
    assert!(observed.pipe.text().len() < 2_000);
    assert_eq!(line["user_agent"], "a\t\"}\u{fffd}\u{2028}{\"forged\":1}");
    assert!(line["path"].as_str().unwrap().ends_with('…'));
    assert_eq!(line["method"], format!("{}…", "X".repeat(32)));
    assert!(line.get("forged").is_none());
}

/// Whatever stands in places that are not for the log: it is not in the log.
#[tokio::test]
async fn nothing_forbidden_is_logged() {
    const SECRET: &str = "s3cr3t";
    let observed = Observed::new();
    let inner = service_fn(async |request: Sent| {
        note(&request, |exchange| {
            exchange.identity = Some(Identity::new(IdentityParts {
                scopes: vec![SECRET.into()],
                roles: vec![SECRET.into()],
                ..IdentityParts::default()
            }));
        });
        let mut response = Response::new(Body::from(SECRET));
        response
            .headers_mut()
            .insert(header::SET_COOKIE, HeaderValue::from_static(SECRET));
        let refused = Rejection::new(&OVERLOADED)
            .caused_by(SECRET)
            .detail("a", SECRET);
        response.extensions_mut().insert(refused);
        Ok::<_, Infallible>(response)
    });
    let mut sent = request(&format!("http://{SECRET}@{SECRET}.example/path?a={SECRET}"));
    for name in [
        "authorization",
        "cookie",
        "x-api-key",
        "referer",
        "x-request-id",
        "tracestate",
        "host",
    ] {
        sent.headers_mut()
            .insert(name, HeaderValue::from_static(SECRET));
    }
    *sent.body_mut() = Body::from(SECRET);
    let answer = observed.layer.layer(inner).oneshot(sent).await.unwrap();
    answer.into_body().collect().await.unwrap();
    observed.says(&json!({"path": "/path", "code": "OVERLOADED"}));
    assert!(!observed.pipe.text().contains(SECRET));
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(http_body::Body::is_end_stream(
        &ResponseBody::<Body>::default()
    ));
}
