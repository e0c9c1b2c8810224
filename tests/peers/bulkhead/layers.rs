//! What the layer adds to a service that answers at once, from readiness to the end of the answer's body.

use std::convert::Infallible;
use std::future::Future as _;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_tests::bench::Result;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::Full;
use tower::limit::{ConcurrencyLimit, GlobalConcurrencyLimitLayer};
use tower::load_shed::LoadShed;
use tower::{Layer as _, Service, service_fn};
use tower_resilience_bulkhead::{BulkheadConfigBuilder, BulkheadLayer as Resilience};

use super::PLACES;
use crate::bare::Bare;
use crate::contended::on_two;
use crate::subject::Subject;

const OURS: &str = "gw";
const BARE: &str = "the bare service";
const TOWER: &str = "tower";
const RESILIENCE: &str = "tower-resilience";

/// Requests for which there is a place.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn admitted(_: u64) -> Result<Vec<Subject>> {
    Ok(vec![
        alone(BARE, bare(), passes),
        alone(OURS, ours(1)?.layer(bare()), passes),
        alone("gw, of three lanes", ours(3)?.layer(bare()), passes),
        alone("gw, max_hold", timed()?.layer(bare()), passes),
        alone(TOWER, ConcurrencyLimit::new(bare(), 512), passes).beside(OURS),
        alone(RESILIENCE, resilience().build()?.layer(bare()), passes).beside(OURS),
        alone(
            "tower-resilience, refusing",
            resilience().reject_when_full().build()?.layer(bare()),
            passes,
        )
        .beside(OURS),
    ])
}

/// The same from two threads, each with a service of its own that shares the limit.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn two_threads(_: u64) -> Result<Vec<Subject>> {
    let layer = ours(1)?;
    let tower = GlobalConcurrencyLimitLayer::new(512);
    let service = resilience().build()?.layer(bare());
    Ok(vec![
        both(BARE, bare),
        both(OURS, move || layer.layer(bare())),
        both(TOWER, move || tower.layer(bare())).beside(OURS),
        // Its layer begins anew for each service; clones share.
        both(RESILIENCE, move || service.clone()).beside(OURS),
    ])
}

/// Requests for which there is none. Ours answers them with a document, and tower's fail. tower-resilience is not here: it
/// refuses when a timer of no time at all fires, and so not before its runtime has looked at its timers.
///
/// # Errors
///
/// If a layer cannot be built.
pub fn refused(_: u64) -> Result<Vec<Subject>> {
    let gw = BulkheadLayer::builder(1)
        .lane(LaneConfig::new("core"))
        .build()?;
    let tower = LoadShed::new(ConcurrencyLimit::new(service_fn(stall as fn(_) -> _), 1));
    Ok(vec![
        alone(BARE, bare(), passes),
        full(
            OURS,
            gw.layer(service_fn(stall as fn(_) -> _)),
            |answer| matches!(answer, Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE),
        ),
        full("tower, load shed", tower, |answer| answer.is_err()).beside(OURS),
    ])
}

type Stalled = std::future::Pending<std::result::Result<Response<Full<Bytes>>, Infallible>>;

fn bare() -> Bare<impl Fn() -> Response<Full<Bytes>> + Clone> {
    Bare(|| Response::new(Full::new(Bytes::from_static(b"data"))))
}

/// Never answers, so that its place stays taken.
fn stall(_: Request<()>) -> Stalled {
    std::future::pending()
}

fn ours(lanes: usize) -> Result<BulkheadLayer> {
    let configs = ["core", "auth", "logs"].map(|name| LaneConfig::new(name).guaranteed(0.3));
    let builder = configs
        .into_iter()
        .take(lanes)
        .fold(BulkheadLayer::builder(PLACES), |builder, lane| {
            builder.lane(lane)
        });
    Ok(builder.build()?)
}

fn timed() -> Result<BulkheadLayer> {
    let lane = LaneConfig::new("core").max_hold(Duration::from_secs(10));
    Ok(BulkheadLayer::builder(PLACES).lane(lane).build()?)
}

fn resilience() -> BulkheadConfigBuilder {
    Resilience::builder().max_concurrent_calls(512)
}

/// Whether it was answered, and the answer's body is read to its end.
fn passes<B: Body, E>(answer: std::result::Result<Response<B>, E>) -> bool {
    let Ok(answer) = answer else {
        return false;
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut body = pin!(answer.into_body());
    black_box(body.as_mut().poll_frame(&mut context)).is_ready() && body.is_end_stream()
}

/// Makes it ready, sends one request, and judges what the first poll gives.
fn once<S: Service<Request<()>>>(
    service: &mut S,
    judge: impl FnOnce(std::result::Result<S::Response, S::Error>) -> bool,
) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    if !matches!(service.poll_ready(&mut context), Poll::Ready(Ok(()))) {
        return false;
    }
    let mut future = pin!(service.call(Request::new(())));
    match future.as_mut().poll(&mut context) {
        Poll::Ready(answer) => judge(answer),
        Poll::Pending => false,
    }
}

fn alone<S>(
    name: &'static str,
    mut service: S,
    judge: impl Fn(std::result::Result<S::Response, S::Error>) -> bool + 'static,
) -> Subject
where
    S: Service<Request<()>> + 'static,
{
    Subject::new(name, move || once(&mut service, &judge))
}

/// After a first request that takes the only place, and keeps it.
fn full<S>(
    name: &'static str,
    mut service: S,
    judge: impl Fn(std::result::Result<S::Response, S::Error>) -> bool + 'static,
) -> Subject
where
    S: Service<Request<()>> + 'static,
    S::Future: 'static,
{
    let mut context = Context::from_waker(Waker::noop());
    let ready = service.poll_ready(&mut context).is_ready();
    let mut held = Box::pin(service.call(Request::new(())));
    let stalls = held.as_mut().poll(&mut context).is_pending();
    Subject::new(name, move || {
        let _ = &held;
        ready && stalls && once(&mut service, &judge)
    })
}

fn both<S, B>(name: &'static str, service: impl Fn() -> S + Send + Sync + 'static) -> Subject
where
    S: Service<Request<()>, Response = Response<B>>,
    B: Body,
{
    let many = move |times| {
        on_two(times, |_, times| {
            let mut service = service();
            (0..times)
                .map(|_| u64::from(once(&mut service, passes)))
                .sum()
        })
    };
    Subject::of_many(name, many).by_threads()
}
