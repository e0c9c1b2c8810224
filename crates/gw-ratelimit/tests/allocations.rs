//! What the way of a request allocates.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use allocation_counter::measure;
use gw_core::context::ClientAddr;
use gw_ratelimit::key::{ClientIp, Global};
use gw_ratelimit::{Headers, Limiter, Policy, Quota, RateLimitLayer, RespondWith};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

#[test]
fn deciding_does_not_allocate() {
    let names = ["a", "b", "c", "d"];
    let quota = Quota::per_hour(1).burst(2);
    let builder = names
        .iter()
        .fold(Limiter::builder(), |b, name| b.policy(*name, quota));
    let limiter = builder.build().unwrap();
    let policies = names.map(|name| limiter.policy(name).unwrap());
    let charges = || policies.map(|policy| limiter.charge(policy, "key", 1));
    let check = || limiter.check_all(&charges(), Instant::now()).is_allowed();
    for allowed in [true, false] {
        // The first time makes room for the key, and registers metrics.
        assert_eq!(check(), allowed);
        let used = measure(|| assert_eq!(check(), allowed));
        assert_eq!(used.count_total, 0, "allowed: {allowed}");
    }
}

type Bare = fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>;

/// Allocations of one allowed request through a layer with two policies.
fn allowed_request(headers: Headers) -> u64 {
    let layer = RateLimitLayer::builder()
        .headers(headers)
        .policy(Policy::new("per_ip", Quota::per_second(1_000)).key(ClientIp::new()))
        .policy(Policy::new("total", Quota::per_second(1_000)).key(Global))
        .build()
        .unwrap();
    let bare: Bare = |_| ready(Ok(Response::new(())));
    let mut service = layer
        .on_reject(RespondWith::new(|_| ()))
        .layer(service_fn(bare));
    let request = || {
        let mut request = Request::new(());
        let client = ClientAddr::new([192, 0, 2, 1].into());
        request.extensions_mut().insert(client);
        request
    };
    let (first, second) = (request(), request());
    let mut run = |request| {
        let mut future = pin!(service.call(request));
        let Poll::Ready(Ok(response)) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        else {
            unreachable!("the inner service answers at once");
        };
        assert_eq!(response.status(), 200);
        response
    };
    let _known_now = run(first);
    measure(|| drop(run(second))).count_total
}

#[test]
fn the_way_of_an_allowed_request() {
    assert_eq!(allowed_request(Headers::None), 0);
    // The value of `RateLimit` (that of `RateLimit-Policy` is shared), and the map that the fields are put into, which
    // is two. This number is here to be noticed when it changes.
    assert_eq!(allowed_request(Headers::Draft11), 3);
}
