//! What a retry that waits holds of its upstream, and what becomes of one that a breaker refuses.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use gw_breaker::{BreakerConfig, BreakerLayer, Fail};
use gw_core::context::UpstreamName;
use gw_core::{Body, Rejection};
use gw_pipeline::upstream::{Forward, PoolConfig, Upstream as Target, UpstreamBuilder};
use gw_retry::{Backoff, Budget, RetryInfo, RetryLayer, RetryPolicy, Stopped};
use gw_testkit::upstream::{Received, Reply, Upstream, always};
use http::{Method, Request, Uri};
use tokio::time::{Instant, sleep};
use tower::ServiceExt as _;

/// Ten retries for each request, and none that come back with time.
fn budget() -> Budget {
    let budget = Budget::builder("orders").ratio(10.0).min_per_second(0);
    budget.build().unwrap()
}

fn retries(budget: &Budget) -> RetryLayer {
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let policy = RetryPolicy::builder().backoff(at_once).build();
    let layer = RetryLayer::builder(budget.clone());
    layer.policy(policy.unwrap()).build()
}

fn target(upstream: &Upstream) -> UpstreamBuilder {
    Target::builder(UpstreamName::new("orders")).endpoint(Uri::try_from(upstream.url()).unwrap())
}

fn request(method: Method) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri("/")
        .header("host", "shop.example")
        .extension(UpstreamName::new("orders"))
        .body(Body::empty())
        .unwrap()
}

#[tokio::test]
async fn it_holds_no_connection() {
    // Story: the answer that was to be replaced after five seconds kept its connection for so long, and with a few of them
    // there was none left for anybody else.
    let upstream = Upstream::start(|received: &Received| match received.method.as_str() {
        "GET" => Reply::status(503).header("retry-after", "5").body("no"),
        _ => Reply::ok().body("yes"),
    })
    .await;
    let budget = budget();
    let pool = PoolConfig::new()
        .max_connections(1)
        .queue(1)
        .queue_timeout(Duration::from_secs(4));
    let target = target(&upstream).pool(pool).retry(retries(&budget));
    let forward = Forward::new([target.build().unwrap()]).unwrap();
    let waiting = tokio::spawn(forward.clone().oneshot(request(Method::GET)));
    let decided = async {
        while budget.available(Instant::now()) != 9 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    gw_testkit::within("a retry to be decided on", decided).await;
    let other = forward.clone().oneshot(request(Method::POST)).await;
    assert_eq!(other.unwrap().status(), 200);
    waiting.abort();
}

#[tokio::test]
async fn a_breaker_that_opens_meanwhile_leaves_the_upstreams_answer() {
    let upstream = Upstream::start(always(Reply::status(502).body("no"))).await;
    let budget = budget();
    let config = BreakerConfig::new().consecutive_failures(1);
    let breaker = BreakerLayer::builder("orders").config(config).build();
    let breaker = breaker.unwrap().on_reject(Fail);
    let target = target(&upstream).retry(retries(&budget)).breaker(breaker);
    let forward = Forward::new([target.build().unwrap()]).unwrap();
    let answer = forward.clone().oneshot(request(Method::GET)).await;
    let answer = answer.unwrap();
    // Not the breaker's 503.
    assert_eq!(answer.status(), 502);
    assert!(answer.extensions().get::<Rejection>().is_none());
    let info = RetryInfo::of(&answer);
    assert_eq!((info.attempts, info.stopped_because), (1, Stopped::Refused));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(budget.available(Instant::now()), 10);
    // Who comes now hears of the breaker.
    let refused = forward.oneshot(request(Method::GET)).await.unwrap_err();
    assert_eq!(refused.code().name(), "CIRCUIT_OPEN");
}
