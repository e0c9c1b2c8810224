//! The pure parts, and what the layers cost over a bare service. `gw-peers` has the same beside other projects'.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use gw_retry::{Backoff, Budget, RatioBudget, ReplayBody, RetryLayer, RetryPolicy};
use http::{Method, Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

type Sent = Full<Bytes>;
type Answer = Ready<Result<Response<Sent>, Infallible>>;

fn pure(c: &mut Criterion) {
    let now = Instant::now();
    let backoff = Backoff::default();
    let mut random = fastrand::Rng::with_seed(1);
    c.bench_function("backoff/full_jitter", |b| {
        b.iter(|| backoff.delay(black_box(2), Duration::ZERO, random.u64(..)));
    });
    let budget = RatioBudget::new(1.0, Duration::from_secs(10), 10).unwrap();
    c.bench_function("budget/deposit", |b| b.iter(|| budget.deposit(now)));
    c.bench_function("budget/deposit_withdraw", |b| {
        b.iter(|| {
            budget.deposit(now);
            budget.withdraw(now)
        });
    });
    c.bench_function("budget/deposit/2_threads", |b| {
        b.iter_custom(|times| {
            let start = Instant::now();
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| (0..times / 2).for_each(|_| budget.deposit(now)));
                }
            });
            start.elapsed()
        });
    });
}

fn layers(c: &mut Criterion) {
    let bare: fn(Request<Sent>) -> Answer = |_| ready(Ok(Response::new(Full::default())));
    let inner: fn(Request<ReplayBody<Sent>>) -> Answer =
        |_| ready(Ok(Response::new(Full::default())));
    let layer = |policy| {
        let budget = Budget::builder("a").build().unwrap();
        RetryLayer::builder(budget).policy(policy).build()
    };
    let reads = RetryPolicy::builder().unsent(false).build().unwrap();
    let layer = layer(reads);
    bench(c, "layer/none", service_fn(bare), &Method::GET);
    let service = || layer.layer(service_fn(inner));
    bench(c, "layer/sent_once", service(), &Method::POST);
    bench(c, "layer/may_be_retried", service(), &Method::GET);
}

fn bench<S: Service<Request<Sent>>>(
    c: &mut Criterion,
    name: &str,
    mut service: S,
    method: &Method,
) {
    c.bench_function(name, |b| {
        b.iter(|| {
            let mut request = Request::new(Full::default());
            *request.method_mut() = method.clone();
            let mut cx = Context::from_waker(Waker::noop());
            pin!(service.call(request))
                .as_mut()
                .poll(&mut cx)
                .is_ready()
        });
    });
}

criterion_group!(benches, pure, layers);
criterion_main!(benches);
