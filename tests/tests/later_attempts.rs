//! What stands within a retry layer finds in a later attempt what was in the first one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::MockConnectInfo;
use axum::extract::{ConnectInfo, Path};
use axum::routing::get;
use gw_core::Body;
use gw_core::context::PeerAddr;
use gw_core::key::{ClientIp, Global, peer_addr};
use gw_ratelimit::{ChargeBodyLayer, OnMissingKey, Policy, Quota, RateLimitLayer};
use gw_retry::{Backoff, Budget, ReplayBody, RetryBuilder, RetryLayer, RetryPolicy};
use http::{Extensions, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::{ServiceBuilder, ServiceExt as _};

/// Retries at once.
fn retries() -> RetryBuilder {
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let policy = RetryPolicy::builder().backoff(at_once).build().unwrap();
    RetryLayer::builder(Budget::builder("orders").build().unwrap()).policy(policy)
}

/// Fails a request's first attempt.
#[derive(Clone, Default)]
struct Attempts(Arc<AtomicU32>);

impl Attempts {
    fn next(&self) -> StatusCode {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::OK,
        }
    }
}

/// Story: only our own type went along, so that with axum's the limit by client was asked for nobody's second attempt.
#[tokio::test]
async fn a_limit_by_client_knows_the_client_of_a_retry() {
    let peer: SocketAddr = "192.0.2.1:7".parse().unwrap();
    for insert in [
        |extensions: &mut Extensions, peer| _ = extensions.insert(PeerAddr(peer)),
        |extensions: &mut Extensions, peer| _ = extensions.insert(ConnectInfo(peer)),
        |extensions: &mut Extensions, peer| _ = extensions.insert(MockConnectInfo(peer)),
    ] {
        let per_client =
            Policy::new("per_ip", Quota::per_minute(60).burst(10)).key(ClientIp::new());
        let limits =
            RateLimitLayer::builder().policy(per_client.on_missing_key(OnMissingKey::Deny));
        let attempts = Attempts::default();
        let service = ServiceBuilder::new()
            .layer(retries().build())
            .layer(limits.build().unwrap())
            .service_fn(move |request: Request<ReplayBody<Body>>| {
                assert_eq!(peer_addr(request.extensions()), Ok(peer));
                let mut answer = Response::new(Body::empty());
                *answer.status_mut() = attempts.next();
                async { Ok::<_, Infallible>(answer) }
            });
        let mut request = Request::new(Body::empty());
        insert(request.extensions_mut(), peer);
        assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    }
}

/// axum's router tells its handlers in the extensions what it has found, and only the user knows of those.
#[tokio::test]
async fn a_handler_of_axum_finds_its_path_in_a_retry_that_copies_all() {
    for (copies, status) in [(true, 200), (false, 500)] {
        let mut retries = retries();
        if copies {
            retries = retries.copy_extensions(|from, to| *to = from.clone());
        }
        let attempts = Attempts::default();
        let handler = move |Path(id): Path<u32>| async move { (attempts.next(), id.to_string()) };
        let app: Router = Router::new()
            .route("/orders/{id}", get(handler))
            .layer(retries.build());
        let request = Request::get("/orders/42").body(axum::body::Body::empty());
        let answer = app.oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), status);
        if copies {
            let body = answer.into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), "42");
        }
    }
}

/// Story: of an answer that came at the second attempt nobody paid the bytes, and the client was told of one limit of two.
#[tokio::test(start_paused = true)]
async fn limits_on_both_sides_of_a_retry_know_of_each_other() {
    let downloads = Policy::new("downloads", Quota::per_minute(100).burst(100));
    let outer = RateLimitLayer::builder().policy(downloads.key(Global).late_charges());
    let outer = outer.build().unwrap();
    let handle = outer.handle();
    let each = Policy::new("attempts", Quota::per_minute(60).burst(60)).key(Global);
    let inner = RateLimitLayer::builder().policy(each).build().unwrap();
    let attempts = Attempts::default();
    let service = ServiceBuilder::new()
        .layer(outer)
        .layer(
            retries()
                .copy_extensions(gw_ratelimit::copy_extensions)
                .build(),
        )
        .layer(ChargeBodyLayer::new("downloads", NonZeroU32::MIN))
        .layer(inner)
        .service_fn(move |_: Request<ReplayBody<Body>>| {
            let status = attempts.next();
            let content = if status == StatusCode::OK {
                "hello"
            } else {
                ""
            };
            let mut answer = Response::new(Body::from(content));
            *answer.status_mut() = status;
            async { Ok::<_, Infallible>(answer) }
        });
    let answer = service.oneshot(Request::new(Body::empty())).await.unwrap();
    assert_eq!(answer.status(), 200);
    let told = answer.headers().get_all("ratelimit-policy").iter();
    let told: Vec<_> = told.map(|line| line.to_str().unwrap()).collect();
    assert_eq!(
        told,
        [r#""attempts";q=60;w=60"#, r#""downloads";q=100;w=60"#]
    );
    assert_eq!(
        answer.into_body().collect().await.unwrap().to_bytes(),
        "hello"
    );
    assert_eq!(handle.snapshot()[0].charged_late, 5);
}
