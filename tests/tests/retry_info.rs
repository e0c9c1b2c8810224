//! What an answer tells of its retries behind the stage that answers.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use gw_core::Body;
use gw_core::context::UpstreamName;
use gw_pipeline::outbound::AnswerLayer;
use gw_pipeline::upstream::{Forward, Upstream as Target};
use gw_retry::{Backoff, Budget, RetryInfo, RetryLayer, RetryPolicy, Stopped};
use gw_testkit::upstream::{Reply, Upstream, always};
use http::{Request, Uri};
use tower::{Layer as _, ServiceExt as _};

/// Story: only answers of an upstream told of their retries, and only where nothing replaced what it said. Whatever failed had
/// been sent once, to those who log it.
#[tokio::test]
async fn what_has_failed_tells_of_its_retries() {
    for connects in [true, false] {
        let upstream = Upstream::start(always(Reply::status(503).body("at db-7"))).await;
        let uri = Uri::try_from(upstream.url()).unwrap();
        // Dropped at the end, or gone before the request comes.
        let _upstream = match connects {
            true => Some(upstream),
            false => {
                upstream.stop().await;
                None
            }
        };
        let budget = Budget::builder("orders").build().unwrap();
        let at_once = Backoff::exponential(Duration::ZERO, Duration::ZERO);
        let policy = RetryPolicy::builder().backoff(at_once).build().unwrap();
        let retries = RetryLayer::builder(budget).policy(policy).build();
        let name = UpstreamName::new("orders");
        let target = Target::builder(name.clone()).endpoint(uri).retry(retries);
        let forward = Forward::new([target.build().unwrap()]).unwrap();
        let mut request = Request::new(Body::empty());
        let host = http::HeaderValue::from_static("shop.example");
        request.headers_mut().insert("host", host);
        request.extensions_mut().insert(name);
        let answer = AnswerLayer::new().layer(forward).oneshot(request).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), if connects { 503 } else { 502 });
        let info = RetryInfo::of(&answer);
        assert_eq!(
            (info.attempts, info.stopped_because),
            (3, Stopped::Attempts)
        );
    }
}
