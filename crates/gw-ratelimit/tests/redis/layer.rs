//! The layer.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gw_core::record::Record;
use gw_ratelimit::key::{ClientIp, Global, Header};
use gw_ratelimit::redis::{Leases, OnFailure, RedisStore, SharedRateLimitLayer};
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use tower::limit::ConcurrencyLimit;
use tower::{Service as _, ServiceExt as _};
use tower_layer::Layer;

use crate::server::{Server, UNANSWERED, unanswered, until};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

/// A layer and the server that it needs.
#[derive(Clone)]
struct Kept<L> {
    layer: L,
    _server: Arc<Server>,
}

impl<S, L: Layer<S>> Layer<S> for Kept<L> {
    type Service = L::Service;

    fn layer(&self, inner: S) -> L::Service {
        self.layer.layer(inner)
    }
}

/// One server for those tests that run at the same time, and a name for each limiter.
fn shared() -> (Arc<Server>, RedisStore) {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    static NAMES: AtomicUsize = AtomicUsize::new(0);
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared
        .upgrade()
        .unwrap_or_else(|| Arc::new(Server::start()));
    *shared = Arc::downgrade(&server);
    let name = format!("test{}", NAMES.fetch_add(1, Ordering::Relaxed));
    let store = server.store(&name);
    (server, store)
}

type Keys = (Global, (ClientIp, ()));

/// Two policies of one client; the second one is far above the first.
fn limits<R>(
    leases: Option<Leases>,
    burst: u32,
    on_reject: R,
) -> Kept<SharedRateLimitLayer<Keys, R>> {
    let (server, mut store) = shared();
    if let Some(leases) = leases {
        store = store.leases(leases);
    }
    let per_ip = Policy::new("per_ip", Quota::per_minute(1).burst(burst)).key(ClientIp::new());
    let layer = RateLimitLayer::builder()
        .policy(per_ip)
        .policy(Policy::new("total", Quota::per_second(1).burst(1_000_000)))
        .build_shared(&store)
        .unwrap()
        .on_reject(on_reject);
    Kept {
        layer,
        _server: server,
    }
}

mod that_asks {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        clock: running,
        layer: |on_reject| limits(None, 2, on_reject),
    }
}

mod that_leases {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        clock: running,
        layer: |on_reject| limits(Some(Leases::up_to(4)), 2, on_reject),
    }
}

mod that_lets_all_pass {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        clock: running,
        layer: |on_reject| limits(Some(Leases::up_to(4)), 1_000_000, on_reject),
    }
}

async fn hello(_: Request<&'static str>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

fn request(client: Option<&'static str>) -> Request<&'static str> {
    let mut request = Request::new("body");
    if let Some(client) = client {
        request
            .headers_mut()
            .insert("x-client", client.parse().unwrap());
    }
    request
}

const CLIENT: Header = Header::new(HeaderName::from_static("x-client"));

#[tokio::test]
async fn two_instances_tell_clients_of_one_limit() {
    let (_server, store) = shared();
    let instances = [(); 2].map(|()| {
        let policy = Policy::new("per_client", Quota::per_hour(1).burst(3)).key(CLIENT);
        let limits = RateLimitLayer::builder().policy(policy);
        limits.build_shared(&store).unwrap()
    });
    let mut told = Vec::new();
    for request_number in 0..4 {
        let mut service = instances[request_number % 2].layer(tower::service_fn(hello));
        let mut request = request(Some("ann"));
        let record = Record::default();
        request.extensions_mut().insert(record.clone());
        let response = service.ready().await.unwrap().call(request).await.unwrap();
        let fields = response.headers();
        let field = |name: &str| {
            fields
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let left = record.exchange().rate_limit_remaining;
        told.push((
            response.status().as_u16(),
            field("ratelimit").unwrap(),
            left,
        ));
        let policy = field("ratelimit-policy").unwrap();
        assert_eq!(policy, r#""per_client";q=3;w=10800"#);
        assert_eq!(
            field("retry-after").is_some(),
            response.status() == 429,
            "{fields:?}"
        );
    }
    let statuses: Vec<_> = told
        .iter()
        .map(|(status, _, left)| (*status, *left))
        .collect();
    let expected = [
        (200, Some(2)),
        (200, Some(1)),
        (200, Some(0)),
        (429, Some(0)),
    ];
    assert_eq!(statuses, expected);
    assert!(
        told[0].1.starts_with(r#""per_client";r=2;t=7200"#),
        "{told:?}"
    );
    // Less what went by since the first request.
    let wait = told[3].1.strip_prefix(r#""per_client";r=0;t="#);
    let wait = wait.and_then(|rest| rest.get(..4)?.parse().ok());
    assert!((3590..=3600).contains(&wait.unwrap_or(0)), "{told:?}");

    // Others have their own, and those without a key one for all of them.
    for (client, expected) in [
        (Some("bob"), 200),
        (None, 200),
        (None, 200),
        (None, 200),
        (None, 429),
    ] {
        let mut service = instances[0].layer(tower::service_fn(hello));
        let response = service
            .ready()
            .await
            .unwrap()
            .call(request(client))
            .await
            .unwrap();
        assert_eq!(response.status(), expected);
    }
}

/// The window counts from the decision on, whoever made it, and not from when the limiter was built.
#[tokio::test]
async fn whoever_has_nothing_left_is_not_asked_to_come_back_before() {
    let (_server, store) = shared();
    let nowhere = RedisStore::new("redis://127.0.0.1:1", "n", "0123456789abcdef");
    for store in [store, nowhere.on_failure(OnFailure::LocalFallback)] {
        let limits = RateLimitLayer::builder().policy(Policy::new("total", Quota::per_minute(1)));
        let limits = limits.build_shared(&store).unwrap();
        tokio::time::pause();
        tokio::time::advance(NEVER).await;
        tokio::time::resume();
        let busy = async |_: Request<&'static str>| {
            let response = Response::builder().status(503).header("retry-after", "1");
            Ok::<_, Infallible>(response.body(Full::<Bytes>::default()).unwrap())
        };
        let service = limits.layer(tower::service_fn(busy));
        let response = service.oneshot(request(None)).await.unwrap();
        let wait = response.headers()["retry-after"].to_str().unwrap();
        assert!((50..=72).contains(&wait.parse::<u32>().unwrap()), "{wait}");
    }
}

async fn polled<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// Story: a request kept the instance that was ready for it while Redis was asked. Where that had reserved the last place of a limit
/// further in, a slow Redis held up others who had nothing to ask it.
#[tokio::test]
async fn while_redis_is_asked_nothing_is_reserved() {
    let server = Server::start();
    let limits =
        RateLimitLayer::builder().policy(Policy::new("total", Quota::per_hour(1).burst(2)));
    let limits = limits.build_shared(&server.store("reserved")).unwrap();
    // What asking for the first time takes: a connection.
    let first = limits.layer(tower::service_fn(hello));
    assert_eq!(first.oneshot(request(None)).await.unwrap().status(), 200);
    server.freeze();
    let place = ConcurrencyLimit::new(tower::service_fn(hello), 1);
    let mut service = limits.layer(place.clone());
    let mut asking = pin!(service.ready().await.unwrap().call(request(None)));
    assert!(polled(asking.as_mut()).await.is_pending());
    // The one place is free, and taken again by who does not ask.
    let mut other = place.clone();
    let Poll::Ready(Ok(other)) = polled(pin!(other.ready())).await else {
        panic!("the place is taken");
    };
    server.thaw();
    until("the decision", async || {
        assert!(polled(asking.as_mut()).await.is_pending());
        limits.limiter().store().by_store == 2
    })
    .await;
    let answer = other.call(request(None)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = asking.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(answer.headers().contains_key("ratelimit"));
}

#[tokio::test]
async fn nobody_there_to_decide_is_told_as_what_it_is() {
    let (server, _) = (Server::start(), ());
    let store = server.store("closed").on_failure(OnFailure::Closed);
    let policy = Policy::new("total", Quota::per_hour(1).burst(3));
    let limits = RateLimitLayer::builder().policy(policy);
    let limits = limits
        .build_shared(&store.timeout(UNANSWERED).probe_after(NEVER))
        .unwrap();
    server.freeze();
    for _ in 0..5 {
        let mut service = limits.layer(tower::service_fn(hello));
        let answer = service.ready().await.unwrap().call(request(None));
        let response = unanswered(answer).await.unwrap();
        assert_eq!(response.status(), 503);
        assert!(response.headers().contains_key("retry-after"));
        assert!(!response.headers().contains_key("ratelimit"));
        let rejection = response.extensions().get::<gw_core::Rejection>().unwrap();
        assert_eq!(rejection.code(), &gw_ratelimit::error::LIMITS_UNAVAILABLE);
    }
    assert_eq!(limits.limiter().store().failed, 3);
}

static_assertions::assert_impl_all!(SharedRateLimitLayer<Keys>: Clone, Send, Sync, std::fmt::Debug);
