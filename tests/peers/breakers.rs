//! What a circuit breaker adds to a call to a healthy upstream, and to one that is refused.

use std::future::Future as _;
use std::hint::black_box;
use std::pin::pin;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use axum::body::Body;
use gw_breaker::{Breaker, BreakerConfig, BreakerLayer, Window};
use gw_tests::bench::Result;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use recloser::Recloser;
use tokio::time::Instant;
use tower::{Layer, Service};
use tower_resilience_circuitbreaker::{CircuitBreakerLayer, SlidingWindowType};

use crate::bare::{Bare, empty, full};
use crate::subject::Subject;

const IN_A_ROW: &str = "gw, in a row";
const CALLS: &str = "gw, in a row, 100 calls";
const MANY: &str = "gw, in a row, 10,000 calls";
const TIME: &str = "gw, in a row, 10 s";
const SLOW: &str = "gw, in a row, 100 calls, slow";
const SLOW_TIME: &str = "gw, in a row, 10 s, slow";

fn configs() -> [(&'static str, BreakerConfig); 6] {
    let second = Duration::from_secs(1);
    let time = BreakerConfig::new().window(Window::Time(10 * second));
    [
        (
            IN_A_ROW,
            BreakerConfig::without_policies().consecutive_failures(5),
        ),
        (CALLS, BreakerConfig::new()),
        (MANY, BreakerConfig::new().window(Window::Calls(10_000))),
        (TIME, time),
        (SLOW, BreakerConfig::new().slow_rate(0.8, second)),
        (SLOW_TIME, time.slow_rate(0.8, second)),
    ]
}

pub(crate) fn layers(_: u64) -> Result<Vec<Subject>> {
    let mut subjects = vec![layered("the bare service", Bare(empty), StatusCode::OK)];
    for (name, config) in configs() {
        let layer = BreakerLayer::builder("orders").config(config).build()?;
        subjects.push(layered(name, layer.layer(Bare(empty)), StatusCode::OK));
    }
    subjects.extend(resilience(empty)?);
    Ok(subjects)
}

/// With a body that has not ended at the head, and is read: ours judge at its end.
pub(crate) fn streams(_: u64) -> Result<Vec<Subject>> {
    let mut subjects = vec![layered("the bare service", Bare(full), StatusCode::OK)];
    for (name, config) in configs() {
        let layer = BreakerLayer::builder("orders").config(config).build()?;
        subjects.push(layered(name, layer.layer(Bare(full)), StatusCode::OK));
    }
    subjects.extend(resilience(full)?);
    Ok(subjects)
}

pub(crate) fn open_layers(_: u64) -> Result<Vec<Subject>> {
    let layer = BreakerLayer::builder("orders").build()?;
    layer.handle().force_open();
    Ok(vec![
        layered("the bare service", Bare(empty), StatusCode::OK),
        layered(
            "gw",
            layer.layer(Bare(empty)),
            StatusCode::SERVICE_UNAVAILABLE,
        ),
    ])
}

/// Its time window keeps each call and looks at all of them: a millisecond is about a thousand here.
fn resilience(answer: fn() -> Response<Body>) -> Result<Vec<Subject>> {
    let builder = || {
        CircuitBreakerLayer::builder()
            .classify_response(|response: &Response<Body>| response.status().is_server_error())
            .failure_rate_threshold(0.5)
            .minimum_number_of_calls(20)
    };
    let calls = builder().sliding_window_size(100).build()?;
    let time = builder()
        .sliding_window_type(SlidingWindowType::TimeBased)
        .sliding_window_duration(Duration::from_millis(1))
        .build()?;
    let row = builder().consecutive_failures(5).build()?;
    Ok(vec![
        layered(
            "tower-resilience, in a row",
            row.layer(Bare(answer)),
            StatusCode::OK,
        )
        .beside(IN_A_ROW),
        layered(
            "tower-resilience, 100 calls",
            calls.layer(Bare(answer)),
            StatusCode::OK,
        )
        .beside(CALLS),
        layered(
            "tower-resilience, 1 ms",
            time.layer(Bare(answer)),
            StatusCode::OK,
        )
        .beside(TIME),
    ])
}

/// Each request is made ready for, sent, and answered at the first poll; its body is read.
fn layered<S, B>(name: &'static str, mut service: S, expected: StatusCode) -> Subject
where
    S: Service<Request<()>, Response = Response<B>> + 'static,
    B: http_body::Body,
{
    let mut once = move || {
        let mut context = Context::from_waker(Waker::noop());
        if !matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))) {
            return false;
        }
        let future = pin!(service.call(Request::new(())));
        let Poll::Ready(Ok(response)) = future.poll(&mut context) else {
            return false;
        };
        let status = response.status();
        let mut body = pin!(response.into_body());
        if !body.is_end_stream() {
            _ = black_box(body.as_mut().poll_frame(&mut context));
        }
        status == expected
    };
    once();
    Subject::new(name, once)
}

/// Something that is asked before a call to a healthy upstream, and told after it.
trait Asked: Send + Sync {
    fn call(&self) -> bool;
}

struct Nothing;

impl Asked for Nothing {
    fn call(&self) -> bool {
        black_box(true)
    }
}

impl Asked for Breaker {
    fn call(&self) -> bool {
        let Some(admission) = self.admit_if_closed() else {
            return false;
        };
        if black_box(true) {
            admission.succeed(Instant::now);
        }
        true
    }
}

impl Asked for Recloser {
    fn call(&self) -> bool {
        Recloser::call(self, || black_box(Ok::<(), ()>(()))).is_ok()
    }
}

struct Failsafe<C>(C);

impl<C: failsafe::CircuitBreaker + Send + Sync> Asked for Failsafe<C> {
    fn call(&self) -> bool {
        self.0.call(|| black_box(Ok::<(), ()>(()))).is_ok()
    }
}

/// A name, what it is compared with, and the breaker.
type Named = (&'static str, Option<&'static str>, Arc<dyn Asked>);

fn all() -> Result<Vec<Named>> {
    let mut all: Vec<(_, _, Arc<dyn Asked>)> = vec![("nothing", None, Arc::new(Nothing))];
    for (name, config) in configs() {
        if !name.ends_with("slow") {
            all.push((name, None, Arc::new(Breaker::new("orders", &config)?)));
        }
    }
    let recloser = Recloser::custom().closed_len(100).build();
    all.push(("recloser, 100 calls", Some(CALLS), Arc::new(recloser)));
    let failsafe = failsafe::Config::new().build();
    all.push((
        "failsafe, default",
        Some(CALLS),
        Arc::new(Failsafe(failsafe)),
    ));
    Ok(all)
}

pub(crate) fn alone(_: u64) -> Result<Vec<Subject>> {
    let subject = |(name, beside, asked): (_, Option<_>, Arc<dyn Asked>)| {
        let subject = Subject::new(name, move || asked.call());
        match beside {
            Some(ours) => subject.beside(ours),
            None => subject,
        }
    };
    Ok(all()?.into_iter().map(subject).collect())
}

/// What is measured is the CPU time of both, so a call counts for as long as it keeps a processor.
pub(crate) fn contended(_: u64) -> Result<Vec<Subject>> {
    let subject = |(name, beside, asked): (_, Option<_>, Arc<dyn Asked>)| {
        let many = move |times: u64| {
            let begin = Barrier::new(2);
            let work = |times: u64| {
                begin.wait();
                (0..times).map(|_| u64::from(asked.call())).sum::<u64>()
            };
            thread::scope(|scope| {
                let other = scope.spawn(|| work(times / 2));
                // A thread that panicked did nothing right.
                work(times - times / 2) + other.join().unwrap_or(0)
            })
        };
        let subject = Subject::of_many(name, many).by_threads();
        match beside {
            Some(ours) => subject.beside(ours),
            None => subject,
        }
    };
    Ok(all()?.into_iter().map(subject).collect())
}
