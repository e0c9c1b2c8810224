//! What ejection costs a request: one question for each endpoint that is looked at, and one report.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gw_breaker::outlier::{EndpointSet, OutlierConfig, Outliers};
use gw_core::classify::Outcome;
use gw_core::endpoint::EndpointHealth as _;
use tokio::time::Instant;

const LATENCY: Duration = Duration::from_millis(20);

fn set(endpoints: usize) -> EndpointSet {
    let names = (0..endpoints).map(|n| n.to_string());
    Outliers::new("bench", &OutlierConfig::new())
        .and_then(|outliers| outliers.endpoints(names))
        .unwrap_or_else(|error| unreachable!("the defaults are valid: {error}"))
}

fn core(c: &mut Criterion) {
    let set = set(10);
    let now = Instant::now();
    c.bench_function("is_usable", |b| {
        b.iter(|| black_box(&set).is_usable(black_box(3), black_box(now)));
    });
    c.bench_function("report success", |b| {
        b.iter(|| black_box(&set).report(black_box(3), Outcome::Success, LATENCY, black_box(now)));
    });
    for endpoints in [10, 100] {
        let set = self::set(endpoints);
        let now = Cell::new(Instant::now());
        let fill = || {
            for n in 0..100 * endpoints {
                let latency = LATENCY + Duration::from_micros(n as u64 * 7 % 1000);
                set.report(n % endpoints, Outcome::Success, latency, now.get());
            }
            now.set(now.get() + Duration::from_secs(10));
        };
        c.bench_function(&format!("end of an interval, {endpoints} endpoints"), |b| {
            b.iter_batched(
                fill,
                |()| black_box(&set).report(3, Outcome::Success, LATENCY, now.get()),
                BatchSize::PerIteration,
            );
        });
    }
}

fn contended(c: &mut Criterion) {
    let set = set(10);
    let now = Instant::now();
    let other = set.clone();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let reporter = std::thread::spawn(move || {
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for _ in 0..1000 {
                other.report(black_box(3), Outcome::Success, LATENCY, now);
            }
        }
    });
    c.bench_function("report success, another thread reports of the same", |b| {
        b.iter(|| black_box(&set).report(black_box(3), Outcome::Success, LATENCY, black_box(now)));
    });
    drop(stop);
    // It panics if the reporter did.
    drop(reporter.join());
}

criterion_group!(benches, core, contended);
criterion_main!(benches);
