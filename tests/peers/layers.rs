//! What a layer adds to a service that answers at once.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Body;
use governor::clock::QuantaInstant;
use governor::middleware::RateLimitingMiddleware;
use gw_core::context::ClientAddr;
use gw_ratelimit::key::{ClientIp, Global, key_fn};
use gw_ratelimit::{Headers, Policy, Quota, RateLimitLayer};
use gw_tests::bench::Result;
use http::{Method, Request, Response, StatusCode};
use tower::{Layer, Service};
use tower_governor::governor::{Governor, GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};
use tower_resilience_ratelimiter::RateLimiterLayer;

use crate::bare::{Bare, empty};
use crate::subject::Subject;

const AMPLE: Quota = Quota::per_second(1_000_000_000).burst(u32::MAX);
const SCARCE: Quota = Quota::per_hour(1);

const PLAIN: &str = "gw, 1 policy";
const FIELDS: &str = "gw, 1 policy, fields";

/// Requests that pass.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn admitted(_: u64) -> Result<Vec<Subject>> {
    const OK: StatusCode = StatusCode::OK;
    let governor = || {
        let mut builder = GovernorConfigBuilder::default().key_extractor(Client);
        builder.per_nanosecond(1).burst_size(u32::MAX);
        builder
    };
    let resilience = RateLimiterLayer::builder()
        .limit_for_period(1_000_000_000)
        .refresh_period(Duration::from_secs(1))
        .burst_size(1_000_000_000)
        .build()?;
    let tower = tower::limit::RateLimitLayer::new(u64::MAX, Duration::from_secs(3600));
    Ok(vec![
        subject("the bare service", Bare(empty), OK),
        subject(PLAIN, gw(AMPLE, 1, Headers::None)?, OK),
        subject(FIELDS, gw(AMPLE, 1, Headers::Draft11)?, OK),
        subject("gw, 4 policies", gw(AMPLE, 4, Headers::None)?, OK),
        subject(
            "gw, 4 policies, fields",
            gw(AMPLE, 4, Headers::Draft11)?,
            OK,
        ),
        subject("tower_governor", theirs(governor().finish())?, OK).beside(PLAIN),
        subject(
            "tower_governor, fields",
            theirs(governor().use_headers().finish())?,
            OK,
        )
        .beside(FIELDS),
        subject(
            "tower-resilience (no keys)",
            resilience.layer(Bare(empty)),
            OK,
        )
        .beside(PLAIN),
        subject("tower (no keys)", tower.layer(Bare(empty)), OK).beside(PLAIN),
    ])
}

/// Requests that are over the limit.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn refused(_: u64) -> Result<Vec<Subject>> {
    const NO: StatusCode = StatusCode::TOO_MANY_REQUESTS;
    let mut builder = GovernorConfigBuilder::default().key_extractor(Client);
    builder.per_second(3600).burst_size(1);
    Ok(vec![
        subject("the bare service", Bare(empty), StatusCode::OK),
        subject(PLAIN, gw(SCARCE, 1, Headers::None)?, NO),
        subject(FIELDS, gw(SCARCE, 1, Headers::Draft11)?, NO),
        subject("tower_governor", theirs(builder.finish())?, NO).beside(PLAIN),
        subject(
            "tower_governor, fields",
            theirs(builder.use_headers().finish())?,
            NO,
        )
        .beside(FIELDS),
    ])
}

/// The first policy counts by address, the others by what else a head tells.
fn gw(
    quota: Quota,
    policies: usize,
    headers: Headers,
) -> Result<impl Service<Request<()>, Response = Response<Body>>> {
    let builder = RateLimitLayer::builder().headers(headers);
    let builder = builder.policy(Policy::new("address", quota).key(ClientIp::new()));
    let method = key_fn(|parts| Ok::<Method, _>(parts.method.clone()));
    let more = [
        Policy::new("method", quota).key(method),
        Policy::new("method-2", quota).key(method),
    ];
    let total = [Policy::new("total", quota).key(Global)];
    let builder = builder
        .policies(more.into_iter().take(policies.saturating_sub(1)))
        .policies(total.into_iter().take(policies.saturating_sub(3)));
    Ok(builder.build()?.layer(Bare(empty)))
}

/// The same key as ours.
#[derive(Debug, Clone, Copy)]
struct Client;

impl KeyExtractor for Client {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> std::result::Result<IpAddr, GovernorError> {
        let client = request.extensions().get::<ClientAddr>();
        client
            .map(|client| client.ip())
            .ok_or(GovernorError::UnableToExtractKey)
    }
}

type Answers = Bare<fn() -> Response<Body>>;

fn theirs<M: RateLimitingMiddleware<QuantaInstant>>(
    config: Option<GovernorConfig<Client, M>>,
) -> Result<Governor<Client, M, Answers, Body>> {
    let config = config.ok_or("no such quota")?;
    Ok(GovernorLayer::new(config).layer(Bare(empty as _)))
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    let client = ClientAddr::new([192, 0, 2, 1].into());
    request.extensions_mut().insert(client);
    request
}

/// Each request is made ready for, sent, and answered at the first poll.
fn subject<S>(name: &'static str, mut service: S, expected: StatusCode) -> Subject
where
    S: Service<Request<()>, Response = Response<Body>> + 'static,
{
    let mut once = move || {
        let mut context = Context::from_waker(Waker::noop());
        if !matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))) {
            return false;
        }
        let future = pin!(service.call(request()));
        match future.poll(&mut context) {
            Poll::Ready(Ok(response)) => response.status() == expected,
            _ => false,
        }
    };
    // The one that is allowed in any case.
    once();
    Subject::new(name, once)
}
