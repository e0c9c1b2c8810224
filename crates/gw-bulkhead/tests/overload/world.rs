//! A service behind one lane, and clients that come whether it keeps up or not. The clock is tokio's, paused: time passes
//! when all wait. All chance comes from a seed.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use gw_bulkhead::{BulkheadLayer, Deadline, LaneConfig};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer as _, ServiceExt as _, service_fn};

use crate::support::places;

/// How many requests run at once.
pub(crate) const PLACES: u32 = 20;
/// How long one takes: never less than this, and on average as much more.
pub(crate) const LEAST: Duration = Duration::from_millis(25);
/// How much time it has.
pub(crate) const TIME: Duration = Duration::from_millis(500);
/// What the lane can do in a second, while requests take no longer than that.
pub(crate) const CAPACITY: f64 = PLACES as f64 / 0.05;

/// What became of the requests.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    /// Until the last answer.
    pub(crate) lasted: Duration,
    pub(crate) offered: u32,
    pub(crate) started: u32,
    /// Completed before their deadline.
    pub(crate) in_time: u32,
    /// Completed after it.
    pub(crate) late: u32,
    /// How long those that were started had waited.
    pub(crate) waits: Vec<Duration>,
    /// How long it took to refuse the others.
    pub(crate) refused: Vec<Duration>,
}

impl Tally {
    /// The part of what was started that was completed too late, in percent.
    pub(crate) fn late_percent(&self) -> f64 {
        100.0 * f64::from(self.late) / f64::from(self.started.max(1))
    }

    /// The part of what the lane could do that was done and of use to somebody, in percent.
    pub(crate) fn goodput_percent(&self) -> f64 {
        100.0 * f64::from(self.in_time) / (CAPACITY * self.lasted.as_secs_f64())
    }
}

/// The value below which so many percent are, in milliseconds. Of nothing there is none, and so it panics.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort();
    let value = sorted.get(sorted.len() * percent / 100);
    value.unwrap().as_secs_f64() * 1e3
}

/// What comes at which time.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// How many times what the lane can do is offered.
    pub(crate) offered: fn(Duration) -> f64,
    /// How many times as long requests take.
    pub(crate) slowness: fn(Duration) -> f64,
}

/// Offers requests to a lane for so long, and waits until the last one is answered.
pub(crate) async fn run(lane: LaneConfig, load: Load, lasts: Duration, seed: u64) -> Tally {
    let tally: Arc<Mutex<Tally>> = Arc::default();
    let layer = BulkheadLayer::builder(places(PLACES))
        .lane(lane)
        .build()
        .unwrap();
    let service = {
        let tally = Arc::clone(&tally);
        layer.layer(service_fn(move |request: Request<()>| {
            let Job { came, takes } = *request.extensions().get::<Job>().unwrap();
            {
                let mut tally = tally.lock().unwrap();
                tally.started += 1;
                tally.waits.push(came.elapsed());
            }
            async move {
                sleep(takes).await;
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
            }
        }))
    };
    let (start, mut rng) = (Instant::now(), Rng::with_seed(seed));
    let mut next = start;
    let mut requests = tokio::task::JoinSet::new();
    while next < start + lasts {
        sleep_until(next).await;
        let takes = LEAST + exponential(&mut rng, LEAST);
        let takes = takes.mul_f64((load.slowness)(next - start));
        let (service, tally) = (service.clone(), Arc::clone(&tally));
        requests.spawn(async move {
            let came = Instant::now();
            let deadline = Deadline::at(came + TIME);
            let mut request = Request::new(());
            request.extensions_mut().insert(Job { came, takes });
            request.extensions_mut().insert(deadline);
            let answer = service.oneshot(request).await.unwrap();
            let mut tally = tally.lock().unwrap();
            tally.offered += 1;
            if !answer.status().is_success() {
                tally.refused.push(came.elapsed());
            } else if Instant::now() <= deadline.instant() {
                tally.in_time += 1;
            } else {
                tally.late += 1;
            }
        });
        next += exponential(&mut rng, mean_gap((load.offered)(next - start)));
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
    let mut tally = tally.lock().unwrap();
    tally.lasted = start.elapsed();
    tally.clone()
}

#[derive(Clone, Copy)]
struct Job {
    came: Instant,
    takes: Duration,
}

fn mean_gap(load: f64) -> Duration {
    Duration::from_secs(1).div_f64(CAPACITY * load)
}

fn exponential(rng: &mut Rng, mean: Duration) -> Duration {
    mean.mul_f64(-(1.0 - rng.f64()).ln())
}
