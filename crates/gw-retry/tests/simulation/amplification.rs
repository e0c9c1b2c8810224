//! What is sent to an upstream over what clients ask for, by the share of attempts that fail.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use gw_retry::RetryLayer;
use http::{HeaderName, Request, Response, StatusCode};
use tokio::time::{Instant, sleep, sleep_until};
use tower::util::BoxCloneService;
use tower::{ServiceExt as _, service_fn};

use super::{
    Allowed, Body, Gateway, Lost, RATIO, SHARE, SHARE_MIN, every, gateway, get, in_virtual_time,
};

/// Requests a second.
pub(crate) const OFFERED: u32 = 100;
/// Retries a second that a ratio allows in any case.
pub(crate) const MIN_PER_SECOND: u32 = 5;
/// How long each attempt takes, whether it fails or not.
pub(crate) const LATENCY: Duration = Duration::from_millis(100);
/// Counted is from here on, when all is as it stays, in seconds.
const FROM: u32 = 10;
/// And to here: that is the time for which a request allows for retries.
const TO: u32 = 20;
/// The attempts that a default policy allows.
pub(crate) const ATTEMPTS: u32 = 3;

/// Gateways one behind the other, all of which retry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tiers {
    pub(crate) count: u32,
    pub(crate) allowed: Allowed,
    /// Whether they know each other's fields: which attempt it is, and whether to try again.
    pub(crate) tell: bool,
    pub(crate) fails: Fails,
}

/// What becomes of an attempt that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fails {
    /// It is answered, by a 503.
    Answered,
    /// Its connection breaks. The gateway next to it makes that a 502, outside of its retries.
    Broken,
}

struct Upstream {
    counted: Range<Instant>,
    sent: u32,
    random: Rng,
}

impl Tiers {
    /// Sent over offered, where this percentage of the attempts fails.
    pub(crate) fn amplification(self, percent: u8) -> f64 {
        in_virtual_time(self.run(percent))
    }

    /// What it never exceeds.
    pub(crate) fn bound(self) -> f64 {
        let offered = f64::from(OFFERED);
        let one = match self.allowed {
            Allowed::Nothing => 1.0,
            Allowed::Anything => f64::from(ATTEMPTS),
            Allowed::Ratio => 1.0 + RATIO.max(f64::from(MIN_PER_SECOND) / offered),
            // A retry is on its way for as long as the attempt before it, at least.
            Allowed::ShareOfActive => {
                let min = f64::from(SHARE_MIN) / (offered * LATENCY.as_secs_f64());
                1.0 + (SHARE / (1.0 - SHARE)).max(min)
            }
        };
        match (self.tell, self.fails) {
            // What the innermost has given up on, the others leave alone.
            (true, Fails::Answered) => one,
            // The one that sees the break, and the next, for which it is an answer. What that one sends again, the other
            // leaves alone: a sum.
            (true, Fails::Broken) => 1.0 + f64::from(self.count.min(2)) * (one - 1.0),
            (false, _) => one.powi(i32::try_from(self.count).unwrap()),
        }
    }

    async fn run(self, percent: u8) -> f64 {
        let start = Instant::now();
        let upstream = Arc::new(Mutex::new(Upstream {
            counted: start + every(1) * FROM..start + every(1) * TO,
            sent: 0,
            random: Rng::with_seed(u64::from(percent)),
        }));
        let seen = Arc::clone(&upstream);
        let inner =
            service_fn(move |_: Request<Body>| attempt(Arc::clone(&seen), percent, self.fails));
        let mut tiers: Gateway = BoxCloneService::new(inner);
        for tier in 0..self.count {
            let answered =
                |outcome: Result<_, Lost>| Ok(outcome.unwrap_or_else(|Lost| bad_gateway()));
            tiers = BoxCloneService::new(gateway(self.layer(tier), tiers).map_result(answered));
        }
        for request in 0..OFFERED * TO {
            sleep_until(start + every(OFFERED) * request).await;
            tokio::spawn(tiers.clone().oneshot(get()));
        }
        sleep_until(start + every(1) * TO).await;
        let sent = upstream.lock().unwrap().sent;
        f64::from(sent) / f64::from(OFFERED * (TO - FROM))
    }

    fn layer(self, tier: u32) -> gw_retry::RetryBuilder {
        let budget = self.allowed.budget(MIN_PER_SECOND);
        let layer = RetryLayer::builder(budget).seed(u64::from(tier) << 32);
        if self.tell {
            return layer;
        }
        let own = |name: &str| HeaderName::try_from(format!("x-tier-{tier}-{name}")).unwrap();
        layer
            .attempt_field(own("attempt"))
            .should_retry_field(own("should-retry"))
    }
}

async fn attempt(
    upstream: Arc<Mutex<Upstream>>,
    percent: u8,
    fails: Fails,
) -> Result<Response<Body>, Lost> {
    let failed = upstream.lock().unwrap().arrived(percent);
    sleep(LATENCY).await;
    match (failed, fails) {
        (false, _) => Ok(Response::new(Body::new())),
        (true, Fails::Answered) => Ok(answer(StatusCode::SERVICE_UNAVAILABLE)),
        (true, Fails::Broken) => Err(Lost),
    }
}

fn bad_gateway() -> Response<Body> {
    answer(StatusCode::BAD_GATEWAY)
}

fn answer(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::new());
    *response.status_mut() = status;
    response
}

impl Upstream {
    /// Counts an attempt; whether it is to fail.
    fn arrived(&mut self, percent: u8) -> bool {
        self.sent += u32::from(self.counted.contains(&Instant::now()));
        self.random.u8(0..100) < percent
    }
}
