//! A fleet of endpoints behind a balancer, in virtual time: hours pass in seconds, and each run with the same seed is the
//! same. The ejection is the real one.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test support: a broken expectation stops the test"
)]
#![allow(dead_code, reason = "no one who simulates uses all of it")]

pub(crate) mod published;

use std::time::Duration;

use fastrand::Rng;
use gw_breaker::Outcome;
use gw_breaker::outlier::{EndpointHealth as _, EndpointState, OutlierConfig, Outliers, Reason};
use tokio::time::Instant;

use self::published::Published;

/// How one endpoint, or all, behave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    /// The share of requests that fail.
    pub(crate) errors: f64,
    /// How many times as long as usual it takes.
    pub(crate) slow: f64,
}

/// Who is how, from when until when, in seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// `None`: all of them.
    pub(crate) endpoint: Option<usize>,
    pub(crate) from: f64,
    pub(crate) until: f64,
    pub(crate) behaviour: Behaviour,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) endpoints: usize,
    /// Requests per second for each endpoint, at random moments.
    pub(crate) load: f64,
    /// By how much the load differs between night and noon: 0 not at all, 1 all of it.
    pub(crate) tide: f64,
    /// The share of requests that fail anywhere.
    pub(crate) errors: f64,
    /// The standard deviation of the logarithm of the latencies; their median is 20 ms.
    pub(crate) spread: f64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) interval: Duration,
    /// In seconds.
    pub(crate) length: f64,
    pub(crate) seed: u64,
}

/// What happened to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ejection {
    pub(crate) endpoint: usize,
    /// In seconds.
    pub(crate) at: f64,
    pub(crate) reason: Reason,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Second {
    pub(crate) requests: u32,
    pub(crate) failures: u32,
    /// The sum of the latencies, in milliseconds.
    pub(crate) millis: f64,
    /// Those that the first endpoint got.
    pub(crate) first: u32,
    pub(crate) out: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Trace {
    pub(crate) ejections: Vec<Ejection>,
    pub(crate) seconds: Vec<Second>,
    pub(crate) requests: u64,
    /// How often the rule as it was published would have ejected an endpoint that had no fault.
    pub(crate) published: u64,
    /// The same for each interval.
    pub(crate) published_at: Vec<u32>,
}

/// Latencies and pauses by chance, from tables: to draw each one takes too long without optimisation.
struct Tables {
    /// Nanoseconds.
    latencies: Vec<f64>,
    /// In mean pauses.
    pauses: Vec<f64>,
}

const ENTRIES: usize = 4096;
const MEDIAN: f64 = 20e6;
const NANOS: f64 = 1e9;

impl Scenario {
    /// A healthy fleet at 20 requests a second for each endpoint.
    pub(crate) fn of(endpoints: usize, length: f64) -> Self {
        Self {
            endpoints,
            load: 20.0,
            tide: 0.0,
            errors: 0.005,
            spread: 0.8,
            faults: Vec::new(),
            interval: Duration::from_secs(10),
            length,
            seed: 1,
        }
    }

    pub(crate) fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// With the first endpoint like this, from then on.
    pub(crate) fn grey(mut self, from: f64, errors: f64, slow: f64) -> Self {
        self.faults.push(Fault {
            endpoint: Some(0),
            from,
            until: f64::MAX,
            behaviour: Behaviour { errors, slow },
        });
        self
    }

    pub(crate) fn run(&self) -> Trace {
        self.run_with(OutlierConfig::new())
    }

    pub(crate) fn run_with(&self, config: OutlierConfig) -> Trace {
        // With the clock paused the set begins at the very start, so that each run is the same.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(self.drive(config.interval(self.interval).seed(self.seed)))
    }

    async fn drive(&self, config: OutlierConfig) -> Trace {
        let tables = Tables::new(self.spread);
        let mut rng = Rng::with_seed(self.seed);
        let outliers = Outliers::new("fleet", &config).unwrap();
        let set = outliers
            .endpoints((0..self.endpoints).map(|n| n.to_string()))
            .unwrap();
        let start = Instant::now();
        let mut trace = Trace::default();
        let mut published = Published::new(self.endpoints);
        let mut ejected = vec![0; self.endpoints];
        let (mut second, mut next_second) = (Second::default(), NANOS);
        let mut next_interval = self.interval.as_secs_f64() * NANOS;
        let mut behaviours = self.behaviours(0.0);
        let mut pause = NANOS / self.load_at(0.0);
        let (mut at, end) = (0.0_f64, self.length * NANOS);
        while at < end {
            at += tables.pauses[rng.usize(..ENTRIES)] * pause;
            if at >= next_second {
                self.look(&outliers, at, start, &mut ejected, &mut trace)
                    .await;
                second.out = outliers_out(&outliers);
                trace.seconds.push(std::mem::take(&mut second));
                behaviours = self.behaviours(at);
                pause = NANOS / self.load_at(at);
                next_second += NANOS;
            }
            if at >= next_interval {
                let healthy = |n: usize| !self.faults.iter().any(|f| f.endpoint == Some(n));
                let ejected = published.end_interval(healthy);
                trace.published += u64::from(ejected);
                trace.published_at.push(ejected);
                next_interval += self.interval.as_secs_f64() * NANOS;
            }
            let now = start + Duration::from_nanos(at as u64);
            // Chosen at random among those that are usable.
            let mut endpoint = rng.usize(..self.endpoints);
            while !set.is_usable(endpoint, now) {
                endpoint = rng.usize(..self.endpoints);
            }
            let behaviour = behaviours[endpoint];
            let latency = tables.latencies[rng.usize(..ENTRIES)] * behaviour.slow;
            let failed = rng.f64() < behaviour.errors;
            let outcome = if failed {
                Outcome::Failure
            } else {
                Outcome::Success
            };
            second.requests += 1;
            second.failures += u32::from(failed);
            second.millis += latency / 1e6;
            second.first += u32::from(endpoint == 0);
            published.report(endpoint, failed);
            trace.requests += 1;
            // Reported when it began: the order of ends is no different.
            let latency = Duration::from_nanos(latency as u64);
            set.report(endpoint, outcome, latency, now + latency);
        }
        trace
    }

    /// Notes what was ejected in the last second.
    async fn look(
        &self,
        outliers: &Outliers,
        at: f64,
        start: Instant,
        ejected: &mut [u64],
        trace: &mut Trace,
    ) {
        // A handle reads the clock itself.
        let now = start + Duration::from_nanos(at as u64);
        tokio::time::advance(now.saturating_duration_since(Instant::now())).await;
        let snapshot = outliers.snapshot();
        for (endpoint, state) in snapshot.endpoints.iter().enumerate() {
            if state.ejections > ejected[endpoint] {
                ejected[endpoint] = state.ejections;
                if let EndpointState::Ejected { reason, .. } = state.state {
                    trace.ejections.push(Ejection {
                        endpoint,
                        at: at / NANOS,
                        reason,
                    });
                }
            }
        }
    }

    fn load_at(&self, at: f64) -> f64 {
        let day = (at / NANOS / 86_400.0) * std::f64::consts::TAU;
        self.load * self.endpoints as f64 * (1.0 - self.tide * (0.5 + 0.5 * day.cos()))
    }

    fn behaviours(&self, at: f64) -> Vec<Behaviour> {
        let usual = Behaviour {
            errors: self.errors,
            slow: 1.0,
        };
        let mut behaviours = vec![usual; self.endpoints];
        let at = at / NANOS;
        for fault in &self.faults {
            if !(fault.from..fault.until).contains(&at) {
                continue;
            }
            for (n, behaviour) in behaviours.iter_mut().enumerate() {
                if fault.endpoint.is_none_or(|endpoint| endpoint == n) {
                    *behaviour = fault.behaviour;
                }
            }
        }
        behaviours
    }
}

fn outliers_out(outliers: &Outliers) -> usize {
    let snapshot = outliers.snapshot();
    let out = |state: &EndpointState| *state != EndpointState::In;
    snapshot.endpoints.iter().filter(|e| out(&e.state)).count()
}

impl Tables {
    fn new(spread: f64) -> Self {
        let mut rng = Rng::with_seed(0);
        let mut normal = || {
            let radius = (-2.0 * (1.0 - rng.f64()).ln()).sqrt();
            radius * (std::f64::consts::TAU * rng.f64()).cos()
        };
        Self {
            latencies: (0..ENTRIES)
                .map(|_| MEDIAN * (spread * normal()).exp())
                .collect(),
            pauses: (0..ENTRIES)
                .map(|n| -(1.0 - (n as f64 + 0.5) / ENTRIES as f64).ln())
                .collect(),
        }
    }
}
