//! The pure core of the intake, and the cost of the layer for requests that are not its own.
#![allow(
    missing_docs,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark"
)]

use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gw_core::Body;
use gw_logingest::event::{Arrival, Scratch, Validator};
use gw_logingest::intake::{Format, Piece, SplitFault, SplitLimits, Splitter, Take};
use gw_logingest::{LogIngest, MemoryQueue};
use http::{Request, Response};
use tower::{Layer as _, Service, service_fn};

fn event(n: usize) -> String {
    format!(
        r#"{{"trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","span_id":"00f067aa0ba902b7","timestamp":"2026-11-21T07:00:00Z","service":"checkout","level":"info","message":"payment authorised after {n} ms","user":{{"id":{n},"plan":"pro"}},"latency_ms":{n}.25,"tags":["eu","card"]}}"#
    )
}

struct Check {
    validator: Validator,
    scratch: Scratch,
    received: SystemTime,
    taken: usize,
}

impl Take for Check {
    fn take(&mut self, piece: Piece<'_>) -> Result<(), SplitFault> {
        if let Piece::Event(raw) = piece {
            let arrival = Arrival {
                received: self.received,
                seq: self.taken as u64,
            };
            let checked = self.validator.check(raw, arrival, &mut self.scratch);
            self.taken += usize::from(checked.is_ok());
        }
        Ok(())
    }
}

struct Count(usize);

impl Take for Count {
    fn take(&mut self, _: Piece<'_>) -> Result<(), SplitFault> {
        self.0 += 1;
        Ok(())
    }
}

fn split(format: Format, body: &[u8], taker: &mut impl Take) {
    let limits = SplitLimits {
        body_bytes: u64::MAX,
        events: usize::MAX,
        event_bytes: 1 << 20,
    };
    let mut splitter = Splitter::new(format, limits);
    for chunk in body.chunks(16 * 1024) {
        splitter.push(chunk, taker).unwrap();
    }
    splitter.finish(taker).unwrap();
}

fn core(c: &mut Criterion) {
    let events: Vec<String> = (0..1000).map(event).collect();
    let bodies = [
        (Format::Json, format!("[{}]", events.join(","))),
        (Format::Ndjson, events.join("\n")),
    ];
    for (format, body) in bodies {
        let mut group = c.benchmark_group(format.as_str());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("split", |b| {
            b.iter(|| {
                let mut count = Count(0);
                split(format, body.as_bytes(), &mut count);
                assert_eq!(count.0, 1000);
            });
        });
        group.bench_function("split_and_validate", |b| {
            b.iter(|| {
                let mut check = Check {
                    validator: Validator::default(),
                    scratch: Scratch::default(),
                    received: SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_244_400),
                    taken: 0,
                };
                split(format, body.as_bytes(), &mut check);
                assert_eq!(check.taken, 1000);
            });
        });
    }
}

fn once<S: Service<Request<Body>, Error = Infallible>>(service: &mut S) -> S::Response {
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(Request::new(Body::empty()))).poll(&mut cx) {
        Poll::Ready(Ok(response)) => response,
        Poll::Pending => panic!("the service answers at once"),
    }
}

fn layer(c: &mut Criterion) {
    let bare = || service_fn(|_: Request<Body>| ready(Ok(Response::new(Body::empty()))));
    let queue = MemoryQueue::builder().build().unwrap();
    let layer = LogIngest::builder(queue)
        .build()
        .unwrap()
        .layer("/api/logs")
        .unwrap();
    let mut group = c.benchmark_group("request_of_others");
    let mut service = bare();
    group.bench_function("bare", |b| b.iter(|| black_box(once(&mut service))));
    let mut service = layer.layer(bare());
    group.bench_function("layer", |b| b.iter(|| black_box(once(&mut service))));
}

criterion_group!(benches, core, layer);
criterion_main!(benches);
