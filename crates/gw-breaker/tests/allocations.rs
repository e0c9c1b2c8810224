//! What the way of a request allocates: nothing.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use bytes::Bytes;
use gw_breaker::{
    Breaker, BreakerConfig, BreakerLayer, Ended, Outcome, State, UpstreamName, Window,
};
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

type Answer = Result<Response<Full<Bytes>>, Infallible>;

/// Once it has been warm: the first one registers metrics, or makes the breaker of its upstream.
fn passes_without_allocating<S, B>(mut service: S)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: http_body::Body,
{
    let mut run = |request| {
        let mut cx = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        let mut future = pin!(service.call(request));
        let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
            unreachable!("the inner service answers at once");
        };
        let mut body = pin!(response.into_body());
        assert!(body.as_mut().poll_frame(&mut cx).is_ready());
        assert!(body.is_end_stream());
    };
    let request = || {
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new("orders"));
        request
    };
    let (first, second) = (request(), request());
    run(first);
    // The request itself is allocated outside, and freed inside.
    let used = measure(|| run(second));
    assert_eq!(used.count_total, 0);
}

fn bare() -> impl Service<
    Request<()>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = Ready<Answer>,
> + Clone {
    let bare: fn(Request<()>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))));
    service_fn(bare)
}

#[test]
fn a_request_passes_without_allocating() {
    let window = Window::Time(Duration::from_secs(10));
    for config in [
        BreakerConfig::new(),
        BreakerConfig::new()
            .window(window)
            .slow_rate(0.8, Duration::from_secs(1)),
    ] {
        let layer = BreakerLayer::builder("orders")
            .config(config)
            .build()
            .unwrap();
        passes_without_allocating(layer.layer(bare()));
    }
    let layer = BreakerLayer::builder("other")
        .per_upstream()
        .build()
        .unwrap();
    passes_without_allocating(layer.layer(bare()));
}

/// Story: all calls failed, so it was opened and probed, and never closed.
#[test]
fn so_does_a_breaker_that_opens_and_closes() {
    const HOUR: Duration = Duration::from_secs(3600);
    let config = BreakerConfig::without_policies().consecutive_failures(1);
    let breaker = Breaker::new("orders", &config).unwrap();
    let mut now = Instant::now();
    let call = |outcome, now| {
        let admission = breaker.admit(now).unwrap();
        admission.record(Ended::with(outcome), now);
        breaker.state(now)
    };
    let mut flap = |times| {
        for _ in 0..times {
            assert_eq!(call(Outcome::Failure, now), State::Open);
            assert!(breaker.admit(now).is_err());
            now += HOUR;
            assert_eq!(call(Outcome::Failure, now), State::Open);
            now += HOUR;
            for state in [State::HalfOpen, State::HalfOpen, State::Ramping] {
                assert_eq!(call(Outcome::Success, now), state);
            }
            // A share passes.
            for _ in 0..10 {
                drop(breaker.admit(now));
            }
            now += HOUR;
            assert_eq!(call(Outcome::Success, now), State::Closed);
        }
    };
    flap(4);
    let used = measure(|| flap(100));
    assert_eq!(used.count_total, 0);
}
