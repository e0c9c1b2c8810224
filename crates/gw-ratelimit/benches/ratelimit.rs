//! The bare arithmetic, a keyed check, and what the layer costs over a bare service.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::hint::black_box;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use gw_core::context::ClientAddr;
use gw_ratelimit::gcra::Gcra;
use gw_ratelimit::key::{ClientIp, Global};
use gw_ratelimit::{Headers, Limiter, Memory, Policy, Quota, RateLimitLayer, RespondWith};
use http::{Request, Response};
use tokio::time::Instant;
use tower::{Layer as _, Service, service_fn};

/// Never refuses in the time a bench runs.
const AMPLE: Quota = Quota::per_second(1_000_000_000).burst(u32::MAX);
/// Refuses all but the first.
const SCARCE: Quota = Quota::per_hour(1);

fn arithmetic(c: &mut Criterion) {
    let gcra = Gcra::new(Quota::per_second(1_000)).unwrap();
    c.bench_function("gcra/decide", |b| {
        b.iter(|| black_box(gcra).decide(black_box(5_000_000), black_box(4_000_000), 1));
    });
}

fn limiter(quota: Quota) -> Limiter {
    Limiter::builder()
        .policy("a", quota)
        .policy("b", AMPLE)
        .memory(Memory::exact(1_100_000))
        .build()
        .unwrap()
}

/// A walk over keys in an order that no cache foresees.
fn scattered(step: &mut u64, keys: u64) -> u64 {
    *step = step.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    (*step >> 33) % keys
}

fn checks(c: &mut Criterion) {
    for (name, keys) in [("1_key", 1), ("1M_keys", 1_000_000u64)] {
        for (outcome, quota) in [("allow", AMPLE), ("refuse", SCARCE)] {
            let limiter = limiter(quota);
            let policy = limiter.policy("a").unwrap();
            let now = Instant::now();
            for key in 0..keys {
                limiter.check(policy, &key, 1, now);
            }
            let mut step = 1;
            c.bench_function(&format!("check/{name}/{outcome}"), |b| {
                b.iter(|| {
                    limiter
                        .check(policy, &scattered(&mut step, keys), 1, now)
                        .is_allowed()
                });
            });
        }
    }
    let limiter = limiter(AMPLE);
    let policies = ["a", "b"].map(|name| limiter.policy(name).unwrap());
    let now = Instant::now();
    c.bench_function("check/two_policies/allow", |b| {
        b.iter(|| {
            let charges = policies.map(|policy| limiter.charge(policy, &7u64, 1));
            limiter.check_all(&charges, now).is_allowed()
        });
    });
}

/// New keys for ever: in a table with room to sweep, and in one that is full of debt.
fn newcomers(c: &mut Criterion) {
    for (name, quota) in [("idle_give_way", AMPLE), ("full_of_debt", SCARCE)] {
        let limiter = Limiter::builder()
            .policy("a", quota)
            .memory(Memory::exact(100_000))
            .build()
            .unwrap();
        let policy = limiter.policy("a").unwrap();
        let start = Instant::now();
        let mut key = 0u64;
        c.bench_function(&format!("newcomer/{name}"), |b| {
            b.iter(|| {
                key += 1;
                limiter
                    .check(policy, &key, 1, start + Duration::from_nanos(key * 100))
                    .is_allowed()
            });
        });
    }
}

/// One thread measured while another does the same as fast as it can.
fn contended(c: &mut Criterion) {
    for (name, mine, theirs) in [("same_key", 0u64, 0u64), ("other_key", 0, 1)] {
        let limiter = limiter(AMPLE);
        let policy = limiter.policy("a").unwrap();
        let now = Instant::now();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    black_box(limiter.check(policy, &theirs, 1, now).is_allowed());
                }
            });
            c.bench_function(&format!("contended/{name}"), |b| {
                b.iter(|| limiter.check(policy, &mine, 1, now).is_allowed());
            });
            done.store(true, Ordering::Relaxed);
        });
    }
}

type Bare = fn(Request<()>) -> Ready<Result<Response<()>, Infallible>>;

fn call<S>(service: &mut S, request: Request<()>) -> bool
where
    S: Service<Request<()>, Response = Response<()>, Error = Infallible>,
{
    let mut future = pin!(service.call(request));
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(Ok(response)) => response.status().is_success(),
        _ => false,
    }
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    request
        .extensions_mut()
        .insert(ClientAddr::new([192, 0, 2, 1].into()));
    request
}

fn layer(c: &mut Criterion) {
    let bare: Bare = |_| ready(Ok(Response::new(())));
    let mut service = service_fn(bare);
    c.bench_function("layer/bare", |b| b.iter(|| call(&mut service, request())));
    let cases = [
        ("one_policy/no_headers", Headers::None, AMPLE, false),
        ("one_policy/draft_headers", Headers::Draft11, AMPLE, false),
        ("two_policies/no_headers", Headers::None, AMPLE, true),
        ("two_policies/draft_headers", Headers::Draft11, AMPLE, true),
        ("refused/draft_headers", Headers::Draft11, SCARCE, false),
    ];
    for (name, headers, quota, two) in cases {
        let builder = RateLimitLayer::builder()
            .headers(headers)
            .policy(Policy::new("per_ip", quota).key(ClientIp::new()))
            .policies(two.then(|| Policy::new("total", AMPLE).key(Global)));
        let layer = builder.build().unwrap().on_reject(RespondWith::new(|_| ()));
        let mut service = layer.layer(service_fn(bare));
        c.bench_function(&format!("layer/{name}"), |b| {
            b.iter(|| call(&mut service, request()))
        });
    }
}

criterion_group!(benches, arithmetic, checks, newcomers, contended, layer);
criterion_main!(benches);
