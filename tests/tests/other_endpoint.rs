//! Where a request goes that is sent again: to another endpoint, where there is one.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::Body;
use gw_core::context::{Attempt, UpstreamName};
use gw_core::record::Record;
use gw_pipeline::upstream::{Forward, Upstream as Target, copy_extensions};
use gw_retry::{Backoff, Budget, RetryInfo, RetryLayer, RetryPolicy};
use gw_testkit::upstream::{Reply, Upstream, always};
use http::{Request, Uri};
use tokio::time::Instant;
use tower::ServiceExt as _;

const NAME: &str = "orders";

async fn endpoints(first: Reply, second: Reply) -> [Upstream; 2] {
    [
        Upstream::start(always(first)).await,
        Upstream::start(always(second)).await,
    ]
}

fn uris(endpoints: &[Upstream; 2]) -> impl Iterator<Item = Uri> {
    let uri = |it: &Upstream| Uri::try_from(format!("http://{}", it.addr())).unwrap();
    endpoints.iter().map(uri)
}

/// As an observer and the route stage leave it.
fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    let extensions = request.extensions_mut();
    extensions.insert(UpstreamName::new(NAME));
    extensions.insert(Record::begun(Instant::now()));
    request
}

/// Story: the turn decided alone. Of many requests at once every other retry went to the endpoint that had just failed.
#[tokio::test]
async fn a_retry_goes_to_another_endpoint() {
    let endpoints = endpoints(Reply::status(503), Reply::ok()).await;
    let budget = Budget::builder(NAME).min_per_second(100).build().unwrap();
    let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
    let policy = RetryPolicy::builder().max_attempts(2).backoff(at_once);
    let retries = RetryLayer::builder(budget)
        .policy(policy.build().unwrap())
        .copy_extensions(copy_extensions)
        .build();
    let target = uris(&endpoints).fold(
        Target::builder(UpstreamName::new(NAME)),
        |builder, endpoint| builder.endpoint(endpoint),
    );
    let forward = Forward::new([target.retry(retries).build().unwrap()]).unwrap();
    let clients: Vec<_> = (0..50)
        .map(|_| tokio::spawn(forward.clone().oneshot(request())))
        .collect();
    let mut again = 0;
    for client in clients {
        let answer = client.await.unwrap().unwrap();
        assert_eq!(answer.status(), 200);
        again += RetryInfo::of(&answer).attempts - 1;
    }
    let [first, second] = endpoints.each_ref().map(|it| it.requests().len());
    assert_eq!((first, second, again), (25, 50, 25));
}

/// A hedge is sent while the first copy is under way: that has said which endpoint it has.
#[tokio::test]
async fn a_second_copy_goes_to_another_endpoint() {
    let endpoints = endpoints(Reply::ok(), Reply::ok()).await;
    let target = uris(&endpoints).fold(
        Target::builder(UpstreamName::new(NAME)),
        |builder, endpoint| builder.endpoint(endpoint),
    );
    let forward = Forward::new([target.build().unwrap()]).unwrap();
    let send = async |request| {
        let answer = forward.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
    };
    for _ in 0..10 {
        let first = request();
        let record = Record::of(first.extensions()).unwrap().clone();
        let mut second = request();
        copy_extensions(first.extensions(), second.extensions_mut());
        let two = NonZeroU32::MIN.saturating_add(1);
        second.extensions_mut().insert(Attempt(two));
        send(first).await;
        let had = record.exchange().endpoint;
        // Another request has the turn in between.
        send(request()).await;
        send(second).await;
        assert_ne!(record.exchange().endpoint, had);
    }
}
