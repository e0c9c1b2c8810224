//! What admission costs alone, and what the layer costs over a bare service; tower's concurrency limit beside it.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use gw_bulkhead::key::Global;
use gw_bulkhead::limit::{Gradient2, Limit, Outcome};
use gw_bulkhead::{BulkheadLayer, Lane, LaneConfig, Lanes};
use http::{Request, Response};
use http_body::Body;
use http_body_util::Full;
use tokio::time::Instant;
use tower::limit::ConcurrencyLimit;
use tower::{Layer as _, Service, service_fn};

fn places(total: u32) -> NonZeroU32 {
    NonZeroU32::new(total).unwrap()
}

fn core(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    let configs = || {
        [
            LaneConfig::new("auth").guaranteed(0.4),
            LaneConfig::new("logs").guaranteed(0.05).cap(0.15),
        ]
    };
    let lanes = Lanes::new(places(512), configs()).unwrap();
    let (auth, logs) = (lanes.find("auth").unwrap(), lanes.find("logs").unwrap());
    group.bench_function("admit and release, guaranteed", |b| {
        b.iter(|| drop(black_box(lanes.try_admit(auth))))
    });

    let own: Vec<_> = (0..26).map(|_| lanes.try_admit(logs).unwrap()).collect();
    group.bench_function("admit and release, borrowed", |b| {
        b.iter(|| drop(black_box(lanes.try_admit(logs))))
    });
    let lent: Vec<_> = std::iter::from_fn(|| lanes.try_admit(logs)).collect();
    group.bench_function("lane full, fast path", |b| {
        b.iter(|| black_box(lanes.try_admit(logs)).is_none())
    });
    group.bench_function("lane full, refused and counted", |b| {
        b.iter(|| black_box(lanes.enter(logs, Instant::now())))
    });
    drop((own, lent));

    let found = Lanes::new(Limit::adaptive(Gradient2::default()), configs()).unwrap();
    let lane = found.find("auth").unwrap();
    group.bench_function("admit, sample and release, limit found", |b| {
        b.iter(|| {
            let started = Instant::now();
            let permit = found.try_admit(lane);
            found.record(lane, started, Instant::now(), Outcome::Answered);
            drop(black_box(permit));
        });
    });

    let semaphore = std::sync::Arc::new(tokio::sync::Semaphore::new(512));
    group.bench_function("tokio semaphore, owned permit", |b| {
        b.iter(|| {
            drop(black_box(
                std::sync::Arc::clone(&semaphore).try_acquire_owned(),
            ))
        });
    });

    group.bench_function("admit and release, two threads in one lane", |b| {
        b.iter_custom(|rounds| {
            on_two_threads(rounds, [auth, auth], |lane| {
                drop(black_box(lanes.try_admit(lane)))
            })
        });
    });
    group.bench_function("admit and release, two threads in two lanes", |b| {
        b.iter_custom(|rounds| {
            on_two_threads(rounds, [auth, logs], |lane| {
                drop(black_box(lanes.try_admit(lane)))
            })
        });
    });
    group.bench_function("tokio semaphore, two threads", |b| {
        b.iter_custom(|rounds| {
            on_two_threads(rounds, [(), ()], |()| {
                drop(black_box(
                    std::sync::Arc::clone(&semaphore).try_acquire_owned(),
                ))
            })
        });
    });
    group.finish();
}

/// The time in which each of two threads does `rounds` rounds with what is its own.
fn on_two_threads<T: Copy + Send>(rounds: u64, own: [T; 2], round: impl Fn(T) + Sync) -> Duration {
    let barrier = Barrier::new(3);
    std::thread::scope(|scope| {
        let threads = own.map(|own| {
            let (barrier, round) = (&barrier, &round);
            scope.spawn(move || {
                barrier.wait();
                (0..rounds).for_each(|_| round(own));
            })
        });
        barrier.wait();
        let start = Instant::now();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        start.elapsed()
    })
}

type Answer = Ready<Result<Response<Full<Bytes>>, Infallible>>;

fn bare(_: Request<()>) -> Answer {
    ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))))
}

/// One request from readiness to the end of its body.
fn run<S, B>(service: &mut S, lane: Option<&Lane>)
where
    S: Service<Request<()>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut request = Request::new(());
    if let Some(lane) = lane {
        request.extensions_mut().insert(lane.clone());
    }
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        unreachable!()
    };
    let mut body = pin!(response.into_body());
    assert!(black_box(body.as_mut().poll_frame(&mut cx)).is_ready());
}

fn layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer");
    group.bench_function("bare service", |b| {
        let mut service = service_fn(bare);
        b.iter(|| run(&mut service, None));
    });
    group.bench_function("tower ConcurrencyLimit", |b| {
        let mut service = ConcurrencyLimit::new(service_fn(bare), 512);
        b.iter(|| run(&mut service, None));
    });
    let of = |limit: Limit| {
        BulkheadLayer::builder(limit)
            .lane(LaneConfig::new("core").guaranteed(0.35))
            .lane(LaneConfig::new("auth").guaranteed(0.40).queue(64))
            .lane(
                LaneConfig::new("logs")
                    .guaranteed(0.05)
                    .cap(0.15)
                    .max_hold(Duration::from_secs(10)),
            )
    };
    let lanes = || of(places(512).into());
    group.bench_function("bulkhead, limit found", |b| {
        let limit = Limit::adaptive(Gradient2::default()).shortest(Duration::ZERO);
        let mut service = of(limit.into()).build().unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, None));
    });
    group.bench_function("bulkhead, default lane", |b| {
        let mut service = lanes().build().unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, None));
    });
    let named = [Lane::new("auth"), Lane::new("logs")];
    group.bench_function("bare service, lane in the extensions", |b| {
        let mut service = service_fn(bare);
        b.iter(|| run(&mut service, Some(&named[0])));
    });
    group.bench_function("bulkhead, lane in the extensions", |b| {
        let mut service = lanes().build().unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, Some(&named[0])));
    });
    group.bench_function("bulkhead, lane with max_hold", |b| {
        let mut service = lanes().build().unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, Some(&named[1])));
    });
    group.bench_function("bulkhead, lane that looks at deadlines", |b| {
        let lane = LaneConfig::new("core").queue(64).deadline_aware(true);
        let layer = BulkheadLayer::builder(places(512)).lane(lane).build();
        let mut service = layer.unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, None));
    });
    group.bench_function("bulkhead, lane that counts clients", |b| {
        let lane = LaneConfig::new("core").per_key(Global, places(8));
        let layer = BulkheadLayer::builder(places(512)).lane(lane).build();
        let mut service = layer.unwrap().layer(service_fn(bare));
        b.iter(|| run(&mut service, None));
    });
    group.bench_function("bulkhead, refused", |b| {
        let layer = BulkheadLayer::builder(places(1))
            .lane(LaneConfig::new("core"))
            .build()
            .unwrap();
        let mut service = layer.layer(service_fn(bare));
        let _held = service.call(Request::new(()));
        b.iter(|| run(&mut service, None));
    });
    group.finish();
}

#[cfg(feature = "threads")]
fn threads(c: &mut Criterion) {
    use http_body_util::BodyExt as _;

    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let layer = BulkheadLayer::builder(places(512))
        .lane(LaneConfig::new("logs").threads(1))
        .with_threads();
    let service = layer.build().unwrap().layer(service_fn(bare));
    let mut group = c.benchmark_group("threads");
    group.bench_function("one request at a time", |b| {
        b.iter(|| {
            let future = service.clone().call(Request::new(()));
            runtime.block_on(async { future.await.unwrap().into_body().collect().await.unwrap() })
        });
    });
    group.throughput(criterion::Throughput::Elements(64));
    group.bench_function("64 requests at a time", |b| {
        b.iter(|| {
            let futures: Vec<_> = (0..64)
                .map(|_| service.clone().call(Request::new(())))
                .collect();
            runtime.block_on(async {
                for future in futures {
                    black_box(future.await.unwrap().into_body().collect().await.unwrap());
                }
            });
        });
    });
    group.finish();
}

#[cfg(not(feature = "threads"))]
fn threads(_: &mut Criterion) {}

criterion_group!(benches, core, layer, threads);
criterion_main!(benches);
