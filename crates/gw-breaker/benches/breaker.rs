//! What a decision costs alone, by state and window, and what the layer costs over a bare service.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use gw_breaker::{Breaker, BreakerConfig, BreakerLayer, Ended, Outcome, Window};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

fn configs() -> [(&'static str, BreakerConfig); 4] {
    let time = BreakerConfig::new().window(Window::Time(Duration::from_secs(10)));
    [
        (
            "in a row",
            BreakerConfig::without_policies().consecutive_failures(5),
        ),
        ("100 calls", BreakerConfig::new()),
        ("10 s", time),
        ("10 s, slow", time.slow_rate(0.8, Duration::from_secs(1))),
    ]
}

fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    for (name, config) in configs() {
        let breaker = Breaker::new("orders", &config).unwrap();
        group.bench_function(format!("success, {name}"), |b| {
            b.iter(|| {
                let admission = breaker.admit_if_closed().unwrap();
                admission.succeed(Instant::now);
            });
        });
        let breaker = Breaker::new("orders", &config).unwrap();
        breaker.force_closed(Instant::now());
        group.bench_function(format!("failure, {name}"), |b| {
            b.iter(|| {
                let now = Instant::now();
                let admission = breaker.admit(now).unwrap();
                admission.record(Ended::with(Outcome::Failure), now);
            });
        });
    }
    let breaker = Breaker::new("orders", &BreakerConfig::new()).unwrap();
    breaker.force_open(Instant::now());
    group.bench_function("refused", |b| {
        b.iter(|| black_box(breaker.admit(Instant::now())).is_err());
    });
    group.finish();
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer");
    let bare: fn(Request<()>) -> Ready<Answer> =
        |_| ready(Ok(Response::new(Full::new(Bytes::new()))));
    group.bench_function("the bare service", |b| {
        let mut service = service_fn(bare);
        b.iter(|| run(&mut service));
    });
    for (name, config) in configs() {
        let layer = BreakerLayer::builder("orders")
            .config(config)
            .build()
            .unwrap();
        let mut service = layer.layer(service_fn(bare));
        group.bench_function(name, |b| b.iter(|| run(&mut service)));
    }
    group.finish();
}

fn run<S: Service<Request<()>>>(service: &mut S) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    let future = pin!(service.call(Request::new(())));
    matches!(black_box(future.poll(&mut cx)), Poll::Ready(Ok(_)))
}

criterion_group!(benches, core, layer);
criterion_main!(benches);
