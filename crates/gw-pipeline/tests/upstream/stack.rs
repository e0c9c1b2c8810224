//! What stands in front of an upstream's connections: layers in their slots.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use gw_core::context::UpstreamName;
use gw_core::{Fail, LayerError, OnReject as _, RejectContext, Rejection};
use gw_pipeline::codes;
use gw_pipeline::upstream::Forward;
use gw_testkit::Gate;
use gw_testkit::upstream::{At, Reply, Upstream, always};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
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

#[tokio::test]
async fn a_layer_that_panics_in_a_call_takes_no_later_request_with_it() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let panics = MapRequestLayer::new(|request: Request<gw_core::Body>| {
        assert_ne!(request.uri().path(), "/panics");
        request
    });
    let orders = builder(upstream.addr()).breaker(panics).build().unwrap();
    let mut forward = Forward::new([orders.clone()]).unwrap();
    for _ in 0..2 {
        assert_eq!(forward.call(get("/")).await.unwrap().status(), 200);
        let call = AssertUnwindSafe(|| forward.call(get("/panics")));
        assert!(catch_unwind(call).is_err());
    }
    assert_eq!(forward.call(get("/")).await.unwrap().status(), 200);
    assert_eq!(orders.snapshot().in_flight, 0);
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

/// Answers itself with its name as often as it is told to, then fails. Counts its clones.
#[derive(Debug)]
struct Named {
    name: &'static str,
    times: usize,
    clones: Arc<AtomicUsize>,
}

impl Named {
    /// The layer of an upstream with the same name.
    fn in_front(self) -> gw_pipeline::upstream::Upstream<Self> {
        gw_pipeline::upstream::Upstream::builder(UpstreamName::new(self.name))
            .endpoint(Uri::from_static("http://127.0.0.1:1"))
            .breaker(self)
            .build()
            .unwrap()
    }
}

impl Clone for Named {
    fn clone(&self) -> Self {
        self.clones.fetch_add(1, Ordering::Relaxed);
        Self {
            name: self.name,
            times: self.times,
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
        std::task::Poll::Ready(match self.times {
            0 => Err(Rejection::new(&codes::OVERLOADED)),
            _ => Ok(()),
        })
    }

    fn call(&mut self, _: Request<gw_core::Body>) -> Self::Future {
        self.times -= 1;
        std::future::ready(Ok(Response::new(self.name.to_owned().into())))
    }
}

#[tokio::test]
async fn an_instance_keeps_the_layers_of_the_upstream_that_it_sent_to_last() {
    let clones = Arc::new(AtomicUsize::new(0));
    let upstreams = ["b", "c", "a"].map(|name| {
        let clones = Arc::clone(&clones);
        let named = Named {
            name,
            times: usize::MAX,
            clones,
        };
        named.in_front()
    });
    let mut forward = Forward::new(upstreams).unwrap();
    let built = clones.load(Ordering::Relaxed);
    let taken = || clones.load(Ordering::Relaxed) - built;
    let to = |name| {
        let mut request = get("/");
        request.extensions_mut().insert(UpstreamName::new(name));
        request
    };
    // Each goes to its own, and there is a clone whenever another one's turn comes.
    for (name, expected) in [("a", 1), ("a", 1), ("c", 2), ("b", 3), ("b", 3), ("a", 4)] {
        let answer = forward.call(to(name)).await.unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!((&*body, taken()), (name.as_bytes(), expected));
    }
    // A clone of the instance begins anew.
    forward.clone().call(to("a")).await.unwrap();
    assert_eq!(taken(), 5);
    let refused = forward.call(to("d")).await.unwrap_err();
    assert_eq!(refused.code().name(), "INTERNAL");
}

#[tokio::test]
async fn a_layer_that_fails_is_not_asked_again() {
    let once = Named {
        name: NAME,
        times: 1,
        clones: Arc::default(),
    };
    let mut forward = Forward::new([once.in_front()]).unwrap();
    for well in [true, false, true, false] {
        assert_eq!(forward.call(get("/")).await.is_ok(), well);
    }
}
