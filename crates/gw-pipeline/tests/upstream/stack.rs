//! What stands in front of an upstream's connections: layers in their slots, and who watches the endpoints.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_core::awaited::Awaited;
use gw_core::classify::Outcome;
use gw_core::context::UpstreamName;
use gw_core::endpoint::EndpointHealth;
use gw_core::{Fail, LayerError, OnReject as _, RejectContext, Rejection};
use gw_pipeline::codes;
use gw_pipeline::upstream::{Forward, PoolConfig, Transport};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use gw_testkit::upstream::{At, Reply, Upstream, always, in_order};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use tower::limit::ConcurrencyLimitLayer;
use tower::util::MapRequestLayer;
use tower::{Layer, Service, ServiceExt as _};

use crate::support::*;

/// Writes down that it was passed.
fn noting<B: 'static>(
    passed: &Arc<Mutex<Vec<&'static str>>>,
    name: &'static str,
) -> MapRequestLayer<impl Fn(Request<B>) -> Request<B> + Clone + Send + Sync + 'static> {
    let passed = Arc::clone(passed);
    MapRequestLayer::new(move |request| {
        passed.lock().unwrap().push(name);
        request
    })
}

#[tokio::test]
async fn layers_are_passed_in_the_order_of_their_slots() {
    let upstream = Upstream::start(always(Reply::ok().body("done"))).await;
    let passed = Arc::default();
    let orders = builder(upstream.addr())
        .retry(noting(&passed, "retry"))
        .hedge(noting(&passed, "hedge"))
        .breaker(noting(&passed, "breaker"))
        .build()
        .unwrap();
    let forward = Forward::new([orders.clone()]).unwrap();
    let response = forward.clone().oneshot(get("/")).await.unwrap();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "done");
    assert_eq!(*passed.lock().unwrap(), ["retry", "hedge", "breaker"]);
    assert_eq!(orders.snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_layer_that_is_not_ready_is_waited_for() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let orders = builder(upstream.addr())
        .breaker(ConcurrencyLimitLayer::new(1))
        .build()
        .unwrap();
    let forward = Forward::new([orders]).unwrap();
    let first = tokio::spawn(forward.clone().oneshot(get("/1")));
    gate.reached(1).await;
    let second = tokio::spawn(forward.clone().oneshot(get("/2")));
    // One that gives up while it waits leaves no trace.
    let mut third = forward.clone();
    let dropped = polled_once(third.call(get("/3")));
    assert!(!dropped, "the place is taken");
    gate.open();
    for answer in [first, second] {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(upstream.requests().len(), 2);
}

/// Polls once, and drops.
fn polled_once<F: Future>(future: F) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(future).poll(&mut context).is_ready()
}

/// Refuses all, by an error or by an answer.
#[derive(Clone)]
struct Refuse {
    by_answer: bool,
}

impl<S> Layer<S> for Refuse {
    type Service = Refusing;

    fn layer(&self, _: S) -> Refusing {
        Refusing(self.clone())
    }
}

#[derive(Clone)]
struct Refusing(Refuse);

impl<B> Service<Request<B>> for Refusing {
    type Response = Response<gw_core::Body>;
    type Error = LayerError<Rejection>;
    type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = RejectContext::of(&request);
        let refused = Rejection::new(&codes::OVERLOADED);
        std::future::ready(match self.0.by_answer {
            true => Ok(gw_core::Respond::new()
                .reject(refused, &context)
                .unwrap_or_else(|never: std::convert::Infallible| match never {})),
            false => Fail.reject(refused, &context),
        })
    }
}

#[tokio::test]
async fn a_layers_refusal_reaches_the_client_as_it_is() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let refusing = |by_answer| {
        let orders = builder(upstream.addr()).breaker(Refuse { by_answer });
        Forward::new([orders.build().unwrap()]).unwrap()
    };
    let error = refusing(false).oneshot(get("/")).await.unwrap_err();
    assert_eq!(error.code().name(), "OVERLOADED");
    // Its body is the envelope, and no failure of the upstream's that has to be hidden.
    let answer = refusing(true).oneshot(get("/")).await.unwrap();
    assert_eq!(answer.status(), 503);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("OVERLOADED"));
    assert!(upstream.requests().is_empty());
}

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

/// Story: a request that had waited long for a place, in the gateway's own queue, seemed to have waited for the upstream. So
/// breakers opened, and endpoints were ejected, because the gateway was busy.
#[tokio::test]
async fn the_queue_for_a_slot_is_no_wait_for_the_upstream() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let one = PoolConfig {
        max_connections: 1,
        ..PoolConfig::default()
    };
    let orders = pooled(&upstream, one);
    let forward = forward(&orders);
    let told = || {
        let mut request = get("/");
        let awaited = Awaited::new(Instant::now());
        request.extensions_mut().insert(awaited.clone());
        (awaited, tokio::spawn(forward.clone().oneshot(request)))
    };
    let (first, first_answer) = told();
    gate.reached(1).await;
    assert!(first.since().is_some());
    let (second, second_answer) = told();
    until("the second to be queued", &orders, |it| {
        it.snapshot().queued == 1
    })
    .await;
    assert_eq!(second.since(), None);
    gate.open();
    for answer in [first_answer, second_answer] {
        let answer = answer.await.unwrap().unwrap();
        text(answer).await;
    }
    assert!(second.since() > first.since());
}

/// Story: a client that sent its request slowly made the upstream look slow.
#[tokio::test]
async fn the_client_is_not_the_upstream() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let forward = forward(&plain(&upstream));
    let (body, control) = ScriptedBody::script().data("a").hold().data("b").build();
    let mut request = post(body);
    let begun = Instant::now();
    let awaited = Awaited::new(begun);
    request.extensions_mut().insert(awaited.clone());
    let answer = tokio::spawn(forward.clone().oneshot(request));
    control.held().await;
    assert_eq!(awaited.since(), None);
    let resumed = Instant::now();
    control.resume();
    gate.reached(1).await;
    assert!(awaited.since().unwrap() >= resumed);
    gate.open();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}

/// Counts its clones, and answers itself with the name it was given.
#[derive(Debug)]
struct Named {
    name: &'static str,
    clones: Arc<AtomicUsize>,
}

impl Clone for Named {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            name: self.name,
            clones: Arc::clone(&self.clones),
        }
    }
}

impl<S> Layer<S> for Named {
    type Service = Self;

    fn layer(&self, _: S) -> Self {
        self.clone()
    }
}

impl Service<Request<gw_core::Body>> for Named {
    type Response = Response<gw_core::Body>;
    type Error = Rejection;
    type Future = std::future::Ready<Result<Self::Response, Rejection>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Rejection>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<gw_core::Body>) -> Self::Future {
        std::future::ready(Ok(Response::new(self.name.to_owned().into())))
    }
}

#[tokio::test]
async fn an_instance_keeps_the_layers_of_the_upstream_that_it_sent_to_last() {
    let clones = Arc::new(AtomicUsize::new(0));
    let upstreams = ["b", "c", "a"].map(|name| {
        let named = Named {
            name,
            clones: Arc::clone(&clones),
        };
        gw_pipeline::upstream::Upstream::builder(UpstreamName::new(name))
            .endpoint(Uri::from_static("http://127.0.0.1:1"))
            .breaker(named)
            .build()
            .unwrap()
    });
    let mut forward = Forward::new(upstreams).unwrap();
    let built = clones.load(Ordering::Relaxed);
    let taken = || clones.load(Ordering::Relaxed) - built;
    // Each goes to its own, and there is a clone whenever another one's turn comes.
    for (to, expected) in [("a", 1), ("a", 1), ("c", 2), ("b", 3), ("b", 3), ("a", 4)] {
        let mut request = get("/");
        request.extensions_mut().insert(UpstreamName::new(to));
        let answer = forward.call(request).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((&*body, taken()), (to.as_bytes(), expected));
    }
    // A clone of the instance begins anew.
    let mut request = get("/");
    request.extensions_mut().insert(UpstreamName::new("a"));
    forward.clone().call(request).await.unwrap();
    assert_eq!(taken(), 5);
    let mut unknown = get("/");
    unknown.extensions_mut().insert(UpstreamName::new("d"));
    let refused = forward.call(unknown).await.unwrap_err();
    assert_eq!(refused.code().name(), "INTERNAL");
}

#[tokio::test]
async fn a_layer_that_fails_is_not_asked_again() {
    /// Ready once.
    #[derive(Clone)]
    struct Once {
        used: bool,
    }
    impl<S> Layer<S> for Once {
        type Service = Self;

        fn layer(&self, _: S) -> Self {
            self.clone()
        }
    }
    impl Service<Request<gw_core::Body>> for Once {
        type Response = Response<gw_core::Body>;
        type Error = Rejection;
        type Future = std::future::Ready<Result<Self::Response, Rejection>>;

        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), Rejection>> {
            std::task::Poll::Ready(match self.used {
                false => Ok(()),
                true => Err(Rejection::new(&codes::OVERLOADED)),
            })
        }

        fn call(&mut self, _: Request<gw_core::Body>) -> Self::Future {
            self.used = true;
            std::future::ready(Ok(Response::new("once".to_owned().into())))
        }
    }
    let orders = gw_pipeline::upstream::Upstream::builder(UpstreamName::new(NAME))
        .endpoint(Uri::from_static("http://127.0.0.1:1"))
        .breaker(Once { used: false })
        .build()
        .unwrap();
    let mut forward = Forward::new([orders]).unwrap();
    for well in [true, false, true, false] {
        assert_eq!(forward.call(get("/")).await.is_ok(), well);
    }
}
