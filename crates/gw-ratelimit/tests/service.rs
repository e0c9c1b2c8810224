//! The service by hand: no server, the clock paused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gw_core::context::{ClientAddr, Identity, IdentityParts, PeerAddr};
use gw_core::record::Record;
use gw_ratelimit::key::{ClientIp, Consumer, Header};
use gw_ratelimit::{
    Fail, Headers, LayerError, Mode, OnMissingKey, OnReject, Policy, Problem, Quota, RateLimit,
    RateLimitLayer, Rejection, RespondWith,
};
use http::{HeaderName, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer, Service};

/// Answers 200, insists on being ready for each call, and counts.
#[derive(Debug, Default)]
struct Inner {
    ready: bool,
    calls: Arc<AtomicU32>,
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        Self {
            ready: false,
            calls: Arc::clone(&self.calls),
        }
    }
}

impl<B> Service<Request<B>> for Inner {
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.ready = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        assert!(
            std::mem::take(&mut self.ready),
            "called without being ready"
        );
        self.calls.fetch_add(1, Ordering::SeqCst);
        ready(Ok(Response::new(Full::default())))
    }
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Ready, call, and the answer, which must come at once.
fn answer<S, Q>(service: &mut S, request: Q) -> Result<S::Response, S::Error>
where
    S: Service<Q>,
{
    let Poll::Ready(Ok(())) = service.poll_ready(&mut cx()) else {
        panic!("the inner service is always ready");
    };
    let mut future = std::pin::pin!(service.call(request));
    match future.as_mut().poll(&mut cx()) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("nothing here waits"),
    }
}

fn request() -> Request<()> {
    Request::new(())
}

fn statuses<S, B>(service: &mut S, count: usize) -> Vec<u16>
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
{
    (0..count)
        .map(|_| answer(service, request()).unwrap().status().as_u16())
        .collect()
}

fn one_a_second() -> RateLimitLayer<impl Sized> {
    RateLimitLayer::builder()
        .policy(Policy::new("p", Quota::per_second(1)))
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_an_answer_and_leaves_the_inner_service_alone() {
    let inner = Inner::default();
    let calls = Arc::clone(&inner.calls);
    let mut service = one_a_second().layer(inner);
    assert_eq!(statuses(&mut service, 3), [200, 429, 429]);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    // The readiness that the refusals did not use is there for the next call.
    assert!(service.get_ref().ready);

    let refused = answer(&mut service, request()).unwrap();
    assert_eq!(refused.headers()["cache-control"], "no-store");
    assert_eq!(refused.headers()["ratelimit"], r#""p";r=0;t=1"#);
    assert_eq!(refused.headers()["ratelimit-policy"], r#""p";q=1;w=1"#);
    let retry_after: u32 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=2).contains(&retry_after));
    let rejection = refused.extensions().get::<Rejection>().unwrap();
    assert_eq!(rejection.code().name(), "RATE_LIMIT_EXCEEDED");
    let body = refused.into_body().collect().await.unwrap().to_bytes();
    let envelope: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        envelope["error"],
        serde_json::json!({
            "code": "RATE_LIMIT_EXCEEDED",
            "message": "Too many requests.",
            "details": { "limit": 1, "window": 1, "retry_after": retry_after },
        })
    );

    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(statuses(&mut service, 2), [200, 429]);
}

#[tokio::test(start_paused = true)]
async fn one_limit_holds_over_all_services_and_clones() {
    let layer = RateLimitLayer::builder()
        .policy(Policy::new("p", Quota::per_second(1).burst(5)))
        .build()
        .unwrap();
    let mut services: Vec<_> = (0..16)
        .map(|_| layer.clone().layer(Inner::default()))
        .collect();
    services.extend(services.clone());
    let allowed = services
        .iter_mut()
        .map(|service| statuses(service, 1))
        .filter(|s| *s == [200]);
    assert_eq!(allowed.count(), 5);
}

#[tokio::test(start_paused = true)]
async fn policies_with_different_keys_stand_side_by_side() {
    let layer = RateLimitLayer::builder()
        .headers(Headers::None)
        .policy(Policy::new("per_ip", Quota::per_minute(60).burst(3)).key(ClientIp::new()))
        .policies(["x-a", "x-b"].map(|name| {
            Policy::new(name, Quota::per_minute(1))
                .key(Header::new(HeaderName::from_static(name)))
                .on_missing_key(OnMissingKey::Skip)
        }))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(Inner::default());
    let mut send = |ip: &str, header: Option<(&'static str, &'static str)>| {
        let mut request = request();
        request
            .extensions_mut()
            .insert(ClientAddr::new(ip.parse().unwrap()));
        if let Some((name, value)) = header {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        answer(&mut service, request).unwrap().status().as_u16()
    };
    assert_eq!(send("192.0.2.1", Some(("x-a", "1"))), 200);
    // Refused by the second policy, so the first is not charged.
    assert_eq!(send("192.0.2.1", Some(("x-a", "1"))), 429);
    assert_eq!(send("192.0.2.1", Some(("x-a", "2"))), 200);
    assert_eq!(send("192.0.2.1", Some(("x-b", "1"))), 200);
    assert_eq!(send("192.0.2.1", None), 429);
    assert_eq!(send("192.0.2.2", None), 200);
    let snapshot = handle.snapshot();
    let names: Vec<&str> = snapshot.iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["per_ip", "x-a", "x-b"]);
    assert_eq!(
        (snapshot[0].allowed, snapshot[0].limited, snapshot[0].keys),
        (4, 1, 2)
    );
    assert_eq!(
        (
            snapshot[1].allowed,
            snapshot[1].limited,
            snapshot[1].skipped
        ),
        (2, 1, 3)
    );
}

fn keyed(rule: OnMissingKey) -> RateLimitLayer<impl Sized> {
    RateLimitLayer::builder()
        .policy(Policy::new("all", Quota::per_hour(1).burst(100)))
        .policy(
            Policy::new("per_consumer", Quota::per_minute(1))
                .key(Consumer)
                .on_missing_key(rule),
        )
        .build()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_shares_a_bucket_passes_or_is_refused() {
    assert_eq!(
        statuses(
            &mut keyed(OnMissingKey::SharedBucket).layer(Inner::default()),
            3
        ),
        [200, 429, 429]
    );
    assert_eq!(
        statuses(&mut keyed(OnMissingKey::Skip).layer(Inner::default()), 3),
        [200, 200, 200]
    );

    let layer = keyed(OnMissingKey::Deny);
    let mut service = layer.layer(Inner::default());
    let refused = answer(&mut service, request()).unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
    assert!(refused.headers().get("retry-after").is_none());
    assert_eq!(
        refused
            .extensions()
            .get::<Rejection>()
            .unwrap()
            .code()
            .name(),
        "MALFORMED_REQUEST"
    );
    let handle = layer.handle();
    assert_eq!(
        handle.snapshot()[0].allowed,
        0,
        "refused before anything was charged"
    );
    handle.set_mode("per_consumer", Mode::Shadow).unwrap();
    assert_eq!(statuses(&mut service, 1), [200]);
    let per_consumer = &handle.snapshot()[1];
    assert_eq!((per_consumer.limited, per_consumer.would_limit), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn policies_apply_where_they_say_and_cost_what_they_say() {
    let layer = RateLimitLayer::builder()
        .policy(
            Policy::new("writes", Quota::per_second(1).burst(10))
                .when(|head| head.method == http::Method::POST)
                .cost(|head| head.uri.path().len() as u32),
        )
        .build()
        .unwrap();
    let mut service = layer.layer(Inner::default());
    let mut send = |method: &str, path: &str| {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .body(())
            .unwrap();
        answer(&mut service, request).unwrap()
    };
    assert_eq!(send("POST", "/12345").status(), 200);
    assert_eq!(send("POST", "/12345").status(), 429);
    assert_eq!(
        send("POST", "/123").headers()["ratelimit"],
        r#""writes";r=0;t=1"#
    );
    assert_eq!(send("GET", "/12345").status(), 200);
    assert!(!send("GET", "/12345").headers().contains_key("ratelimit"));
    // More than the burst: there is no time at which it would pass.
    let never = send("POST", "/1234567890");
    assert_eq!(never.status(), 429);
    assert!(!never.headers().contains_key("retry-after"));
    let rejection = never.extensions().get::<Rejection>().unwrap();
    assert!(
        rejection
            .details()
            .iter()
            .all(|(key, _)| *key != "retry_after")
    );
}

#[tokio::test(start_paused = true)]
async fn a_handle_changes_a_running_layer() {
    let layer = one_a_second();
    let (handle, mut service) = (layer.handle(), layer.layer(Inner::default()));
    assert_eq!(statuses(&mut service, 2), [200, 429]);
    handle.set_mode("p", Mode::Shadow).unwrap();
    let passed = answer(&mut service, request()).unwrap();
    assert_eq!(passed.status(), 200);
    assert!(!passed.headers().contains_key("ratelimit"));
    handle.set_mode_of_all(Mode::Off);
    assert_eq!(statuses(&mut service, 2), [200, 200]);
    handle.set_mode("p", Mode::Enforce).unwrap();
    assert_eq!(statuses(&mut service, 1), [429]);
    handle
        .set_quota("p", Quota::per_second(1).burst(3))
        .unwrap();
    assert_eq!(handle.peek("p", &()).unwrap().remaining(), 2);
    assert_eq!(statuses(&mut service, 3), [200, 200, 429]);
    assert!(handle.reset("p", &()));
    assert_eq!(statuses(&mut service, 1), [200]);

    assert!(handle.set_mode("unknown", Mode::Off).is_err());
    assert!(handle.set_quota("p", Quota::per_second(0)).is_err());
    assert!(handle.peek("unknown", &()).is_none());
    assert!(!handle.reset("unknown", &()));
    let snapshot = &handle.snapshot()[0];
    assert_eq!(
        (snapshot.mode, snapshot.quota.max_burst()),
        (Mode::Enforce, 3)
    );
    assert_eq!(
        (snapshot.allowed, snapshot.limited, snapshot.would_limit),
        (4, 3, 1)
    );
}

/// Story: an operator reset the address of a client, as it stood in the access log, and nothing changed: IPv6 is counted by /64.
#[tokio::test(start_paused = true)]
async fn an_operator_finds_a_client_by_any_of_its_addresses() {
    let clients = ClientIp::new().v6_prefix(56);
    let layer = RateLimitLayer::builder()
        .policy(Policy::new("p", Quota::per_second(1).burst(5)).key(clients))
        .build()
        .unwrap();
    let handle = layer.handle();
    for (client, same) in [
        ("2001:db8:1:2:3::7", "2001:db8:1:2::"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("64:ff9b::192.0.2.1", "64:ff9b::192.0.2.1"),
    ] {
        let mut request = request();
        let address = client.parse().unwrap();
        request.extensions_mut().insert(ClientAddr::new(address));
        answer(&mut layer.layer(Inner::default()), request).unwrap();
        let remaining = |address: &str| {
            let key = clients.of(address.parse().unwrap());
            handle.peek("p", &key).unwrap().remaining()
        };
        assert_eq!((remaining(client), remaining(same)), (4, 4));
        assert!(handle.reset("p", &clients.of(address)), "{client}");
        assert_eq!(remaining(client), 5);
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_finds_a_key_by_its_text() {
    let layer = RateLimitLayer::builder()
        .policy(Policy::new("p", Quota::per_second(1).burst(5)).key(Consumer))
        .build()
        .unwrap();
    let mut service = layer.layer(Inner::default());
    let mut request = request();
    let consumer = Some("acme".into());
    let identity = Identity::new(IdentityParts {
        consumer,
        ..IdentityParts::default()
    });
    request.extensions_mut().insert(identity);
    answer(&mut service, request).unwrap();
    let handle = layer.handle();
    assert_eq!(handle.peek("p", "acme").unwrap().remaining(), 4);
    assert_eq!(handle.peek("p", "other").unwrap().remaining(), 5);
    assert!(handle.reset("p", "acme"));
    assert_eq!(handle.peek("p", "acme").unwrap().remaining(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_observer_learns_of_it() {
    let mut service = RateLimitLayer::builder()
        .policy(Policy::new("p", Quota::per_second(2)))
        .build()
        .unwrap()
        .layer(Inner::default());
    let mut seen = Vec::new();
    for _ in 0..3 {
        let record = Record::default();
        let mut request = request();
        request.extensions_mut().insert(record.clone());
        answer(&mut service, request).unwrap();
        let exchange = record.exchange();
        seen.push((
            exchange.rate_limit_remaining,
            exchange.code.map(gw_ratelimit::Code::name),
            exchange.refused_by,
        ));
    }
    assert_eq!(
        seen,
        [
            (Some(1), None, None),
            (Some(0), None, None),
            (Some(0), Some("RATE_LIMIT_EXCEEDED"), Some("pre_auth_limit"))
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn other_renderers() {
    let layer = one_a_second();
    let mut failing = layer.clone().on_reject(Fail).layer(Inner::default());
    assert!(answer(&mut failing, request()).is_ok());
    let error = answer(&mut failing, request()).unwrap_err();
    assert!(matches!(error, LayerError::Rejected(_)));

    let mut problem = layer
        .clone()
        .on_reject(Problem::new())
        .layer(Inner::default());
    let refused = answer(&mut problem, request()).unwrap();
    assert_eq!(
        refused.headers()["content-type"],
        "application/problem+json"
    );
    assert_eq!(refused.headers()["ratelimit"], r#""p";r=0;t=1"#);

    let mut grpc = layer.clone().layer(Inner::default());
    let request = Request::post("/s/m")
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let refused = answer(&mut grpc, request).unwrap();
    assert_eq!(
        (refused.status(), &refused.headers()["grpc-status"]),
        (StatusCode::OK, &"8".parse().unwrap())
    );

    // A body that is not made from bytes.
    struct Mine;
    let inner = tower::service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Mine))));
    let mut service = layer.on_reject(RespondWith::new(|_| Mine)).layer(inner);
    assert_eq!(answer(&mut service, self::request()).unwrap().status(), 429);
}

#[test]
fn readiness_and_errors_are_the_inner_services() {
    #[derive(Debug, PartialEq)]
    struct Broken;
    struct NotYet(bool);
    impl Service<Request<()>> for NotYet {
        type Response = Response<Full<Bytes>>;
        type Error = Broken;
        type Future = Ready<Result<Self::Response, Broken>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            if self.0 {
                Poll::Ready(Err(Broken))
            } else {
                Poll::Pending
            }
        }

        fn call(&mut self, _: Request<()>) -> Self::Future {
            ready(Err(Broken))
        }
    }
    let layer = one_a_second();
    assert_eq!(
        layer.layer(NotYet(false)).poll_ready(&mut cx()),
        Poll::Pending
    );
    assert_eq!(
        layer.layer(NotYet(true)).poll_ready(&mut cx()),
        Poll::Ready(Err(Broken))
    );
    let mut failing = layer.on_reject(Fail).layer(NotYet(true));
    assert!(matches!(
        failing.poll_ready(&mut cx()),
        Poll::Ready(Err(LayerError::Inner(Broken)))
    ));
    let mut future = std::pin::pin!(failing.call(request()));
    assert!(matches!(
        future.as_mut().poll(&mut cx()),
        Poll::Ready(Err(LayerError::Inner(Broken)))
    ));
}

#[tokio::test(start_paused = true)]
async fn dropping_the_future_gives_nothing_back() {
    let mut service = one_a_second().layer(tower::service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>()
    }));
    let mut first = Box::pin(service.call(request()));
    assert!(first.as_mut().poll(&mut cx()).is_pending());
    drop(first);
    let mut second = Box::pin(service.call(request()));
    assert!(second.as_mut().poll(&mut cx()).is_ready());
}

#[test]
fn a_client_is_told_how_to_provide_what_is_missing() {
    let head = request().into_parts().0;
    let missing = gw_ratelimit::key::KeyExtractor::extract(&ClientIp::new(), &head).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("into_make_service_with_connect_info")
    );
    let mut request = request();
    request
        .extensions_mut()
        .insert(PeerAddr(([192, 0, 2, 1], 1).into()));
    let head = request.into_parts().0;
    assert!(gw_ratelimit::key::KeyExtractor::extract(&ClientIp::new(), &head).is_ok());
}

#[test]
fn auto_traits() {
    use gw_ratelimit::future::ResponseFuture;
    use gw_ratelimit::{Decision, Limiter, RateLimitHandle};
    use static_assertions::assert_impl_all;
    // Keys that are neither `Send` nor `Clone` do not matter: none is held.
    type Layer = RateLimitLayer<(std::rc::Rc<()>, ())>;
    assert_impl_all!(Layer: Send, Sync, Clone, Unpin, std::fmt::Debug);
    assert_impl_all!(RateLimit<Inner>: Send, Sync, Clone);
    assert_impl_all!(RateLimitHandle: Send, Sync, Clone);
    assert_impl_all!(Limiter: Send, Sync);
    assert_impl_all!(Decision: Send, Sync, Clone);
    type Future =
        ResponseFuture<Ready<()>, gw_ratelimit::Respond, Result<Response<Full<Bytes>>, Infallible>>;
    assert_impl_all!(Future: Send, Sync, std::fmt::Debug);
    fn renders<R: OnReject<Response<Full<Bytes>>, Infallible>>() {}
    renders::<gw_ratelimit::Respond>();
}
