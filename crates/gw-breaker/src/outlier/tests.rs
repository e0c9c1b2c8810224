//! The set as a whole, by its public interface and a clock that is computed.

mod ejects;
mod live;
mod model;
mod returns;
mod share;

use std::ops::Range;
use std::time::Duration;

use gw_core::Mode;
use gw_core::classify::Outcome;
use gw_core::endpoint::EndpointHealth as _;
use tokio::time::Instant;

use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A set named 0, 1, 2 .. and the time.
struct World {
    outliers: Outliers,
    set: EndpointSet,
    now: Instant,
}

/// The handle reads the clock itself, so it is paused and moved along.
fn world(endpoints: usize, config: OutlierConfig) -> World {
    let outliers = Outliers::new("orders", &config.seed(7)).unwrap();
    let set = outliers.endpoints(names(endpoints)).unwrap();
    World {
        outliers,
        set,
        now: Instant::now(),
    }
}

fn names(endpoints: usize) -> Vec<String> {
    (0..endpoints).map(|n| n.to_string()).collect()
}

impl World {
    async fn pass(&mut self, time: Duration) {
        tokio::time::advance(time).await;
        self.now = Instant::now();
    }

    fn report(&self, endpoint: usize, outcome: Outcome, times: usize) {
        for _ in 0..times {
            self.set.report(endpoint, outcome, MS, self.now);
        }
    }

    fn fail(&self, endpoint: usize, times: usize) {
        self.report(endpoint, Outcome::Failure, times);
    }

    /// Each endpoint has so many requests, and this one so many failures and that latency.
    fn interval(&self, requests: usize, endpoint: usize, failures: usize, latency: Duration) {
        let endpoints = self.set.len();
        for n in 0..requests {
            for place in 0..endpoints {
                let odd = place == endpoint;
                let outcome = if odd && n % (requests / failures.max(1)).max(1) == 0 && failures > 0
                {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                let latency = if odd { latency } else { MS };
                self.set.report(place, outcome, latency, self.now);
            }
        }
    }

    /// Each of these endpoints has 200 requests, of which so many in ten fail.
    fn traffic(&self, endpoints: Range<usize>, tenths: impl Fn(usize) -> usize) {
        for n in 0..200 {
            for place in endpoints.clone() {
                let outcome = match n % 10 < tenths(place) {
                    true => Outcome::Failure,
                    false => Outcome::Success,
                };
                self.set.report(place, outcome, MS, self.now);
            }
        }
    }

    fn usable(&self) -> Vec<usize> {
        (0..self.set.len())
            .filter(|n| self.set.is_usable(*n, self.now))
            .collect()
    }

    fn state(&self, endpoint: usize) -> EndpointState {
        self.outliers.snapshot().endpoints[endpoint].state
    }

    fn reason(&self, endpoint: usize) -> Option<Reason> {
        match self.state(endpoint) {
            EndpointState::Ejected { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// How long it will be out.
    fn left(&self, endpoint: usize) -> Duration {
        match self.state(endpoint) {
            EndpointState::Ejected { until, .. } => until - self.now,
            state => panic!("{state:?}"),
        }
    }

    /// Its ejection ends, and a second more passes.
    async fn come_back(&mut self, endpoint: usize) {
        let left = self.left(endpoint);
        self.pass(left + SECOND).await;
    }
}

fn config() -> OutlierConfig {
    OutlierConfig::new()
}
