//! An upstream that hangs for a while, with a bounded queue in front of it, and what comes after.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_retry::RetryLayer;
use http::{Request, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower::{ServiceExt as _, service_fn};

use super::{Allowed, Body, Lost, every, gateway, get, in_virtual_time};

/// Requests served at once, for so long each: 400 a second.
const WORKERS: usize = 20;
const SERVICE: Duration = Duration::from_millis(50);
pub(crate) const CAPACITY: u32 = 400;
/// Four fifths of it.
pub(crate) const OFFERED: u32 = 320;
/// Requests that may wait or be served: 1.1 s of work, a little more than a client waits for. What does not fit gets a 503.
const QUEUE: usize = 440;
const PATIENCE: Duration = Duration::from_secs(1);
const MIN_PER_SECOND: u32 = 1;
/// In seconds.
pub(crate) const BREAKS: usize = 10;
pub(crate) const MENDED: usize = 40;
pub(crate) const ENDS: usize = 80;

/// What the clients of one run saw, second by second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    /// Answers in time, by the second in which they came.
    pub(crate) good: Vec<u32>,
    /// Attempts that reached the upstream.
    pub(crate) sent: Vec<u32>,
}

struct Upstream {
    start: Instant,
    workers: Semaphore,
    inside: AtomicUsize,
    sent: Mutex<Vec<u32>>,
}

pub(crate) fn run(allowed: Allowed) -> Run {
    in_virtual_time(simulate(allowed))
}

async fn simulate(allowed: Allowed) -> Run {
    let start = Instant::now();
    let upstream = Arc::new(Upstream {
        start,
        workers: Semaphore::new(WORKERS),
        inside: AtomicUsize::new(0),
        sent: Mutex::new(vec![0; ENDS]),
    });
    let inner = Arc::clone(&upstream);
    let inner = service_fn(move |_: Request<Body>| Arc::clone(&inner).attempt());
    let layer = RetryLayer::builder(allowed.budget(MIN_PER_SECOND)).seed(1);
    let gateway = gateway(layer, inner);
    let good = Arc::new(Mutex::new(vec![0; ENDS]));
    for request in 0..OFFERED * u32::try_from(ENDS).unwrap() {
        sleep_until(start + every(OFFERED) * request).await;
        let (answer, good) = (gateway.clone().oneshot(get()), Arc::clone(&good));
        tokio::spawn(async move {
            if answer.await.is_ok_and(|it| it.status() == StatusCode::OK) {
                count(&good, start);
            }
        });
    }
    let good = good.lock().unwrap().clone();
    let sent = upstream.sent.lock().unwrap().clone();
    Run { good, sent }
}

/// One more in the second that it is.
fn count(seconds: &Mutex<Vec<u32>>, start: Instant) {
    let second = usize::try_from(start.elapsed().as_secs()).unwrap();
    if let Some(count) = seconds.lock().unwrap().get_mut(second) {
        *count += 1;
    }
}

impl Upstream {
    /// An attempt, as the gateway sees it: it stops waiting, and the upstream does not learn of that.
    async fn attempt(self: Arc<Self>) -> Result<Response<Body>, Lost> {
        count(&self.sent, self.start);
        if self.inside.fetch_add(1, Ordering::Relaxed) >= QUEUE {
            self.inside.fetch_sub(1, Ordering::Relaxed);
            let mut full = Response::new(Body::new());
            *full.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(full);
        }
        let served = tokio::spawn(self.serve());
        match timeout(PATIENCE, served).await {
            Ok(_) => Ok(Response::new(Body::new())),
            Err(_) => Err(Lost),
        }
    }

    async fn serve(self: Arc<Self>) {
        let second = |number: usize| self.start + Duration::from_secs(number as u64);
        // In order of arrival.
        let _worker = self.workers.acquire().await.unwrap();
        if (second(BREAKS)..second(MENDED)).contains(&Instant::now()) {
            sleep_until(second(MENDED)).await;
        }
        sleep(SERVICE).await;
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }
}
