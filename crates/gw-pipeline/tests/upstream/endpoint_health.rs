//! Who watches the endpoints: whom they let be used, and what is reported to them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::context::{Deadline, UpstreamName};
use gw_core::endpoint::EndpointHealth;
use gw_pipeline::upstream::{Forward, Transport};
use gw_testkit::upstream::{At, Reply, Upstream, always, in_order};
use http::Uri;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

/// Lets one endpoint be used, and writes down what is reported.
struct Only {
    endpoint: Option<usize>,
    reports: Mutex<Vec<(usize, Outcome)>>,
}

impl EndpointHealth for Only {
    fn is_usable(&self, endpoint: usize, _: Instant) -> bool {
        self.endpoint == Some(endpoint)
    }

    fn report(&self, endpoint: usize, outcome: Outcome, _: Duration, _: Instant) {
        self.reports.lock().unwrap().push((endpoint, outcome));
    }
}

async fn watched(
    endpoint: Option<usize>,
    endpoints: [&Upstream; 2],
) -> (Forward<Transport>, Arc<Only>) {
    let health = Arc::new(Only {
        endpoint,
        reports: Mutex::default(),
    });
    let [first, second] = endpoints.map(Upstream::addr);
    let orders = gw_pipeline::upstream::Upstream::builder(UpstreamName::new(NAME))
        .endpoint(Uri::try_from(format!("http://{first}")).unwrap())
        .endpoint(Uri::try_from(format!("http://{second}")).unwrap())
        .endpoint_health(health.clone())
        .build()
        .unwrap();
    (Forward::new([orders]).unwrap(), health)
}

#[tokio::test]
async fn endpoints_that_are_not_fit_are_passed_over_unless_none_is() {
    let first = Upstream::start(always(Reply::ok())).await;
    let second = Upstream::start(always(Reply::ok())).await;
    let (forward, _) = watched(Some(1), [&first, &second]).await;
    for _ in 0..4 {
        assert_eq!(fetch(&forward, get("/")).await.0, 200);
    }
    assert_eq!((first.requests().len(), second.requests().len()), (0, 4));
    let (forward, _) = watched(None, [&first, &second]).await;
    for _ in 0..4 {
        assert_eq!(fetch(&forward, get("/")).await.0, 200);
    }
    assert_eq!((first.requests().len(), second.requests().len()), (2, 6));
}

#[tokio::test]
async fn each_request_to_an_endpoint_is_reported_once() {
    let replies = [Reply::ok(), Reply::status(500), Reply::status(404)];
    let broken = Reply::ok().reset(At::Start);
    let upstream = Upstream::start(in_order(
        replies
            .into_iter()
            .chain([broken, Reply::ok().stall(At::Start)]),
    ))
    .await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for _ in 0..4 {
        _ = send(&forward, get("/")).await;
    }
    let left = tokio::spawn(forward.clone().oneshot(get("/")));
    upstream.arrived(5).await;
    left.abort();
    _ = left.await;
    let reports = health.reports.lock().unwrap().clone();
    let expected = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Ignored,
    ];
    assert_eq!(reports, expected.map(|outcome| (0, outcome)));
}

/// Story: an endpoint that answered each gRPC call with 200 and UNAVAILABLE in its trailers was taken for a healthy one,
/// while the breaker in front of it counted failures.
#[tokio::test]
async fn grpc_is_reported_by_its_end() {
    let grpc = || Reply::ok().header("content-type", "application/grpc");
    let call = |status| grpc().chunks(["data"]).trailer("grpc-status", status);
    let replies = [
        call("0"),
        call("14"),
        call("5"),
        call("8"),
        // Ends without a status, or not as it should.
        grpc().chunks(["data"]),
        grpc().chunks(["data"]).reset(At::End),
        grpc().header("grpc-status", "13"),
        grpc(),
    ];
    let upstream = Upstream::start(in_order(replies)).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for number in 0..8 {
        let answer = send(&forward, get("/")).await.unwrap();
        if number < 6 {
            // Nothing is known before the end.
            assert_eq!(health.reports.lock().unwrap().len(), number);
        }
        let body = gw_testkit::within("the end of an answer", answer.into_body().collect());
        _ = body.await;
        assert_eq!(health.reports.lock().unwrap().len(), number + 1);
    }
    let outcomes = health.reports.lock().unwrap().clone();
    let expected = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Throttled(None),
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Failure,
    ];
    assert_eq!(outcomes, expected.map(|outcome| (0, outcome)));
}

/// Story: clients that gave their calls a millisecond had an endpoint ejected that could but answer DEADLINE_EXCEEDED.
#[tokio::test]
async fn time_that_the_client_gave_too_little_of_is_not_the_endpoints_failure() {
    let grpc = || Reply::ok().header("content-type", "application/grpc");
    let out_of_time = || {
        [
            grpc().chunks(["data"]).trailer("grpc-status", "4"),
            grpc().header("grpc-status", "4"),
            Reply::status(504),
        ]
    };
    let within_an_hour = || Deadline::at(Instant::now() + HOUR);
    let deadlines = [
        (Some(within_an_hour().by_client()), Outcome::Ignored),
        (Some(within_an_hour()), Outcome::Failure),
        (None, Outcome::Failure),
    ];
    // What else fails does so whoever gave the time.
    let others = [grpc().header("grpc-status", "14"), Reply::status(500)];
    let replies = deadlines.iter().flat_map(|_| out_of_time()).chain(others);
    let upstream = Upstream::start(in_order(replies)).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    let mut expected = Vec::new();
    let rest = [(deadlines[0].0, Outcome::Failure); 2];
    let each = deadlines.iter().flat_map(|asked| [*asked; 3]);
    for (deadline, outcome) in each.chain(rest) {
        let mut request = get("/");
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let answer = send(&forward, request).await.unwrap();
        let body = gw_testkit::within("the end of an answer", answer.into_body().collect());
        body.await.unwrap();
        expected.push((0, outcome));
    }
    assert_eq!(*health.reports.lock().unwrap(), expected);
}
