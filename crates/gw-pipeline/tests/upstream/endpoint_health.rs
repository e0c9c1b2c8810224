//! Who watches the endpoints: whom they let be used, and what is reported to them.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use gw_core::context::{Deadline, UpstreamName};
use gw_pipeline::upstream::{
    EndpointHealth, Forward, Outcome, PoolConfig, Transport, UpstreamBody,
};
use gw_testkit::Gate;
use gw_testkit::upstream::{At, Reply, Upstream, always, in_order};
use http::Uri;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

/// Lets one endpoint be used, and writes down what is reported.
struct Only {
    endpoint: Option<usize>,
    reports: Mutex<Vec<(usize, Outcome, Duration)>>,
}

impl Only {
    /// Of the first endpoint, which gets all requests.
    fn outcomes(&self) -> Vec<Outcome> {
        let reports = self.reports.lock().unwrap();
        let outcome = |&(endpoint, outcome, _): &(usize, Outcome, Duration)| {
            assert_eq!(endpoint, 0);
            outcome
        };
        reports.iter().map(outcome).collect()
    }
}

impl EndpointHealth for Only {
    fn is_usable(&self, endpoint: usize, _: Instant) -> bool {
        self.endpoint == Some(endpoint)
    }

    fn report(&self, endpoint: usize, outcome: Outcome, latency: Duration, _: Instant) {
        let report = (endpoint, outcome, latency);
        self.reports.lock().unwrap().push(report);
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

async fn piece(body: &mut UpstreamBody) -> Bytes {
    let frame = gw_testkit::within("a piece of an answer", body.frame()).await;
    frame.unwrap().unwrap().into_data().unwrap()
}

fn is_waiting(body: &mut UpstreamBody) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(body).poll_frame(&mut cx).is_pending()
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

/// Lets one endpoint be used, now this one and now that.
struct Switch(AtomicUsize);

impl EndpointHealth for Switch {
    fn is_usable(&self, endpoint: usize, _: Instant) -> bool {
        self.0.load(Ordering::SeqCst) == endpoint
    }

    fn report(&self, _: usize, outcome: Outcome, _: Duration, _: Instant) {
        assert_eq!(outcome, Outcome::Success);
    }
}

/// Story: the endpoint of a request was chosen before the request waited for a slot. Those that an ejected endpoint had filled the
/// queue with were sent to it all the same.
#[tokio::test]
async fn who_has_waited_goes_to_an_endpoint_that_is_fit_by_then() {
    let gate = Gate::new();
    let held = Reply::ok().body("first").hold(At::Start, &gate);
    let first = Upstream::start(in_order([held])).await;
    let second = Upstream::start(always(Reply::ok().body("second"))).await;
    let health = Arc::new(Switch(AtomicUsize::new(0)));
    let one = PoolConfig::new().max_connections(1).queue_timeout(HOUR);
    let [there, here] = [&first, &second].map(|it| format!("http://{}", it.addr()));
    let gateway = gw_pipeline::upstream::Upstream::builder(UpstreamName::new(NAME))
        .endpoint(Uri::try_from(there).unwrap())
        .endpoint(Uri::try_from(here).unwrap())
        .endpoint_health(health.clone())
        .pool(one)
        .build()
        .unwrap();
    let forward = Forward::new([gateway.clone()]).unwrap();
    let send = || {
        let forward = forward.clone();
        tokio::spawn(async move { fetch(&forward, get("/")).await })
    };
    let begun = send();
    first.arrived(1).await;
    let queued = send();
    until("the second to queue", &gateway, |it| {
        it.snapshot().queued == 1
    })
    .await;
    health.0.store(1, Ordering::SeqCst);
    gate.open();
    assert_eq!(begun.await.unwrap().1, "first");
    assert_eq!(queued.await.unwrap().1, "second");
}

#[tokio::test]
async fn each_request_to_an_endpoint_is_reported_once() {
    let replies = [Reply::ok(), Reply::status(500), Reply::status(404)];
    // Within the head: what is lost before it is sent again.
    let broken = Reply::ok().reset(At::Head(9));
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
    let expected = [
        Outcome::Success,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Failure,
        Outcome::Ignored,
    ];
    assert_eq!(health.outcomes(), expected);
}

/// Story: an endpoint that answered each gRPC call with 200 and UNAVAILABLE in its trailers was taken for a healthy one,
/// while the breaker in front of it counted failures.
#[tokio::test]
async fn grpc_is_reported_by_its_end() {
    let grpc = || Reply::ok().header("content-type", "application/grpc");
    let ends = |status| grpc().chunks(["data"]).trailer("grpc-status", status);
    let replies = [
        ends("0"),
        ends("14"),
        ends("5"),
        ends("8"),
        // Ends without a status, or not as it should.
        grpc().chunks(["data"]),
        grpc().chunks(["data"]).reset(At::End),
        grpc().header("grpc-status", "13"),
        grpc(),
    ];
    let upstream = Upstream::start(in_order(replies)).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for number in 0..8 {
        let answer = send(&forward, call()).await.unwrap();
        if number < 6 {
            // Nothing is known before the end.
            assert_eq!(health.outcomes().len(), number);
        }
        let body = gw_testkit::within("the end of an answer", answer.into_body().collect());
        _ = body.await;
        assert_eq!(health.outcomes().len(), number + 1);
    }
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
    assert_eq!(health.outcomes(), expected);
}

/// Story: an endpoint that sent its heads well and reset each answer within its body was taken for a healthy one. The breaker in
/// front of it saw the failures, and shut the healthy endpoint out as well.
#[tokio::test]
async fn an_answer_that_breaks_off_is_reported_as_a_failure() {
    let whole = || Reply::ok().body("0123456789");
    let gone_wrong = || [whole().reset(At::Body(3)), whole().cut(At::Body(3))];
    let replies = gone_wrong().into_iter().chain([
        Reply::ok().chunks(["da", "ta"]).reset(At::Body(2)),
        Reply::status(404).body("none").reset(At::Body(1)),
        // The first is enough for what is bad already.
        Reply::status(500).body("none").reset(At::Body(1)),
        whole(),
        Reply::ok().chunks(["da", "ta"]).trailer("x-sum", "1"),
    ]);
    let expected = [
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Failure,
        Outcome::Success,
        Outcome::Success,
    ];
    let upstream = Upstream::start(in_order(replies)).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for (number, outcome) in expected.into_iter().enumerate() {
        let answer = send(&forward, get("/")).await.unwrap();
        let known_at_head = usize::from(answer.status() == 500);
        assert_eq!(health.outcomes().len(), number + known_at_head, "{number}");
        let body = gw_testkit::within("the end of an answer", answer.into_body().collect());
        _ = body.await;
        assert_eq!(health.outcomes().len(), number + 1);
        assert_eq!(health.outcomes()[number], outcome, "{number}");
    }
}

/// Story: a thousand viewers watched, and two hundred of them stayed. All that was heard of the endpoint for minutes were five
/// refusals, which made a row: it was ejected.
#[tokio::test]
async fn a_good_answer_that_goes_on_for_long_is_reported_before_its_end() {
    let [early, late] = [(); 2].map(|()| Gate::new());
    let stream = Reply::ok()
        .chunks(["one", "two", "six"])
        .hold(At::Body(8), &early)
        .hold(At::Body(16), &late)
        .reset(At::Body(24));
    let grpc = stream.clone().header("content-type", "application/grpc");
    let upstream = Upstream::start(in_order([stream, grpc])).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let mut request = call();
        request.extensions_mut().insert(PATIENT);
        let mut body = send(&forward, request).await.unwrap().into_body();
        assert_eq!(piece(&mut body).await, "one");
        assert!(is_waiting(&mut body));
        bodies.push(body);
    }
    pass(HOUR).await;
    // Nothing has come since.
    assert!(bodies.iter_mut().all(is_waiting));
    assert!(health.outcomes().is_empty());
    early.open();
    for body in &mut bodies {
        assert_eq!(piece(body).await, "two");
        assert!(is_waiting(body));
    }
    // Of gRPC only the end tells.
    assert_eq!(health.outcomes(), [Outcome::Success]);
    late.open();
    for body in bodies {
        let ended = gw_testkit::within("the end of an answer", body.collect()).await;
        assert!(ended.is_err());
    }
    assert_eq!(health.outcomes(), [Outcome::Success, Outcome::Failure]);
    let reports = health.reports.lock().unwrap();
    assert!(reports.iter().all(|(_, _, latency)| *latency < HOUR));
}

#[tokio::test]
async fn a_good_answer_that_its_client_leaves_is_reported_as_one() {
    let gate = Gate::new();
    let held = Reply::ok().body("0123456789").hold(At::Body(3), &gate);
    let grpc = held.clone().header("content-type", "application/grpc");
    let upstream = Upstream::start(in_order([held.clone(), held, grpc])).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for (polled, outcomes) in [
        (false, vec![Outcome::Success]),
        (true, vec![Outcome::Success; 2]),
        // Only its end would have told.
        (
            true,
            vec![Outcome::Success, Outcome::Success, Outcome::Ignored],
        ),
    ] {
        let mut body = send(&forward, call()).await.unwrap().into_body();
        if polled {
            assert_eq!(
                body.frame().await.unwrap().unwrap().into_data().unwrap(),
                "012"
            );
        }
        pass(HOUR).await;
        drop(body);
        assert_eq!(health.outcomes(), outcomes);
    }
    // What came after the head is not latency.
    let reports = health.reports.lock().unwrap();
    assert!(reports.iter().all(|(_, _, latency)| *latency < HOUR));
}

/// Story: an endpoint sent good heads and a part of each body, and halted. Clients that gave up made it look well, while the breaker
/// in front of it counted nothing.
#[tokio::test]
async fn who_leaves_a_body_that_halts_says_nothing() {
    let halting = Reply::ok().body("0123456789").stall(At::Body(3));
    // No more of it is owed: it may be over for now.
    let stream = Reply::ok().chunks(["one", "two"]).stall(At::Body(8));
    let upstream = Upstream::start(in_order([halting, stream])).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for first in ["012", "one"] {
        let mut body = send(&forward, get("/")).await.unwrap().into_body();
        assert_eq!(piece(&mut body).await, first);
        assert!(is_waiting(&mut body));
        drop(body);
    }
    assert_eq!(health.outcomes(), [Outcome::Ignored, Outcome::Success]);
}

/// What ends an answer by no fault of the endpoint's is not its failure, and no success either.
#[tokio::test]
async fn an_answer_that_is_cut_for_the_clients_sake_says_nothing() {
    let stalled = Reply::ok().body("0123456789").stall(At::Body(3));
    let upstream = Upstream::start(always(stalled)).await;
    let (forward, health) = watched(Some(0), [&upstream, &upstream]).await;
    for (by_client, outcome) in [(true, Outcome::Ignored), (false, Outcome::Failure)] {
        let mut request = get("/");
        let deadline = match Deadline::at(Instant::now() + HOUR) {
            deadline if by_client => deadline.by_client(),
            deadline => deadline,
        };
        request.extensions_mut().insert(deadline);
        request.extensions_mut().insert(PATIENT);
        let answer = send(&forward, request).await.unwrap();
        let ended = in_time(answer.into_body().collect()).await;
        assert!(ended.is_err());
        assert_eq!(health.outcomes().last(), Some(&outcome));
    }
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
        let mut request = call();
        if let Some(deadline) = deadline {
            request.extensions_mut().insert(deadline);
        }
        let answer = send(&forward, request).await.unwrap();
        let body = gw_testkit::within("the end of an answer", answer.into_body().collect());
        body.await.unwrap();
        expected.push(outcome);
    }
    assert_eq!(health.outcomes(), expected);
}
