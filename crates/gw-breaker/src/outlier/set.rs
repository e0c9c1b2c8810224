use std::sync::Arc;
use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::endpoint::EndpointHealth;
use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use super::config::OutlierConfig;
use super::judge::FINE;
use super::log2;
use super::member::Member;
use super::record::{LAST, Record};
use super::roster::{Change, Roster};
use super::snapshot::{EndpointSnapshot, EndpointState, OutlierSnapshot};
use super::telemetry::{self, Metrics};
use crate::sync::{AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering, lock};

/// The endpoints of one upstream, who of them is out, and what an operator may read and change. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outliers {
    shared: Arc<Shared>,
}

/// The endpoints by number, for a balancer; see [`Outliers::endpoints`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EndpointSet {
    shared: Arc<Shared>,
    records: Arc<[Arc<Record>]>,
}

/// Relaxed everywhere: each number stands for itself, and what belongs together is behind the lock.
#[derive(Debug)]
struct Shared {
    /// When the running interval ends. Who moves it on compares the endpoints.
    interval_end: AtomicU64,
    interval: AtomicU64,
    panic_until: AtomicU64,
    /// From which latency on a request that was given up counts as that slow: what was usual in the last interval
    /// that could tell.
    usual_latency: AtomicU64,
    consecutive: AtomicU32,
    off: AtomicU8,
    start: Instant,
    upstream: Arc<str>,
    metrics: Metrics,
    roster: Mutex<Roster>,
}

impl Outliers {
    /// The most endpoints in a set.
    pub const MAX_ENDPOINTS: usize = 10_000;

    /// For the endpoints of this upstream; there are none yet. The name is for log lines and metrics.
    ///
    /// # Errors
    ///
    /// Which field of `config` is out of its range.
    pub fn new(upstream: impl Into<Arc<str>>, config: &OutlierConfig) -> Result<Self, ConfigError> {
        let settings = config.check()?;
        let upstream = upstream.into();
        let shared = Shared {
            interval_end: AtomicU64::new(settings.interval),
            interval: AtomicU64::new(settings.interval),
            panic_until: AtomicU64::new(0),
            usual_latency: AtomicU64::new(NOT_KNOWN),
            consecutive: AtomicU32::new(settings.consecutive),
            off: AtomicU8::new(0),
            start: Instant::now(),
            metrics: Metrics::new(Arc::clone(&upstream)),
            upstream,
            roster: Mutex::new(Roster::new(settings, config.rng())),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// From now on these are the set. The first one is number 0; a name that stands there twice is one endpoint.
    ///
    /// What is known of names that stay is kept, and reports to an [`EndpointSet`] that was given before still count for
    /// them, so a balancer may swap its list while requests run. Endpoints that leave are forgotten.
    ///
    /// # Errors
    ///
    /// More than [`Outliers::MAX_ENDPOINTS`]; the set stays as it was.
    pub fn endpoints<N: Into<Arc<str>>>(
        &self,
        names: impl IntoIterator<Item = N>,
    ) -> Result<EndpointSet, ConfigError> {
        let bounded = names.into_iter().take(Self::MAX_ENDPOINTS + 1);
        let names: Vec<Arc<str>> = bounded.map(Into::into).collect();
        if names.len() > Self::MAX_ENDPOINTS {
            return Err(ConfigError::new("endpoints", "must be at most 10000"));
        }
        let now = self.shared.now();
        let records = self.shared.change(now, |roster, _| roster.replace(names));
        Ok(EndpointSet {
            shared: Arc::clone(&self.shared),
            records: records.into(),
        })
    }

    /// Says whether a health check finds the endpoint healthy. One that is not is out until it is said to be healthy again;
    /// then it is in, unless it is ejected as well. Returns whether there is such an endpoint.
    pub fn set_healthy(&self, endpoint: &str, healthy: bool) -> bool {
        let what = if healthy { "healthy" } else { "unhealthy" };
        self.tell(endpoint, what, |member, now| {
            let changes = member.unhealthy == healthy;
            member.unhealthy = !healthy;
            if changes && healthy {
                member.back(now);
            }
            changes
        })
    }

    /// Forces the endpoint out until [`Outliers::readmit`], in every mode, and even if too few are left. Returns whether
    /// there is such an endpoint.
    pub fn eject(&self, endpoint: &str) -> bool {
        self.tell(endpoint, "forced out", |member, _| {
            let changes = !member.forced_out;
            member.forced_out = true;
            member.ejection = None;
            changes
        })
    }

    /// Ends the endpoint's ejection, forced or not, and forgets what it did. What a health check said stays. Returns whether
    /// there is such an endpoint.
    pub fn readmit(&self, endpoint: &str) -> bool {
        self.tell(endpoint, "readmitted", |member, now| {
            member.forced_out = false;
            member.forgive();
            member.back(now);
            true
        })
    }

    /// What is done with outliers.
    pub fn mode(&self) -> Mode {
        lock(&self.shared.roster).mode
    }

    /// Changes what is done with outliers, from now on. It is the kill switch: [`Mode::Shadow`] ejects, counts and logs, but
    /// all endpoints stay usable, also those that a health check finds unhealthy; [`Mode::Off`] neither counts nor ejects, and
    /// forgets who is ejected. Endpoints that were forced out stay out in every mode.
    pub fn set_mode(&self, mode: Mode) {
        let now = self.shared.now();
        let changed = self.shared.change(now, |roster, _| {
            if mode == Mode::Off {
                for member in &mut roster.members {
                    member.forgive();
                    member.back(now);
                    member.publish(now);
                }
            }
            self.shared
                .off
                .store(u8::from(mode == Mode::Off), Ordering::Relaxed);
            std::mem::replace(&mut roster.mode, mode) != mode
        });
        if changed {
            telemetry::mode_changed(&self.shared.upstream, mode);
        }
    }

    /// Changes the rules, from now on. Ejections that run keep their time; an interval that runs keeps its length,
    /// and of a row of failures that runs the next one may be the last.
    ///
    /// # Errors
    ///
    /// Which field of `config` is out of its range; the rules stay as they were.
    pub fn reconfigure(&self, config: &OutlierConfig) -> Result<(), ConfigError> {
        let settings = config.check()?;
        let shared = &self.shared;
        shared.change(shared.now(), |roster, _| {
            // First, so that no failure is counted under the old rule that the roster then takes for the last but one.
            shared
                .consecutive
                .store(settings.consecutive, Ordering::Relaxed);
            roster.reconfigure(settings);
            shared.interval.store(settings.interval, Ordering::Relaxed);
        });
        Ok(())
    }

    /// What is known of the endpoints at about this moment.
    pub fn snapshot(&self) -> OutlierSnapshot {
        let shared = &self.shared;
        let now = shared.now();
        let panic_until = shared.panic_until.load(Ordering::Relaxed);
        let roster = lock(&shared.roster);
        OutlierSnapshot {
            mode: roster.mode,
            panicking: roster.mode == Mode::Enforce && now < panic_until,
            endpoints: roster
                .members
                .iter()
                .map(|member| shared.describe(member, now))
                .collect(),
        }
    }

    /// Sets the gauges to how many endpoints are in and out now. To be called when metrics are read: else they show what held
    /// when a request last changed it. There are none without the feature `metrics`.
    pub fn record_gauges(&self) {
        let shared = &self.shared;
        shared.metrics.register();
        shared.change(shared.now(), |_, _| ());
    }

    fn tell(
        &self,
        endpoint: &str,
        what: &'static str,
        tell: impl FnOnce(&mut Member, u64) -> bool,
    ) -> bool {
        let now = self.shared.now();
        let changed = self.shared.change(now, |roster, _| {
            let member = roster.find(endpoint)?;
            let changed = tell(member, now);
            member.publish(now);
            Some(changed)
        });
        if changed == Some(true) {
            telemetry::told(&self.shared.upstream, endpoint, what);
        }
        changed.is_some()
    }
}

impl EndpointSet {
    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// A failure of which was seen that it counts before the endpoint was ejected.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(super) fn fails_late(&self, endpoint: usize, now: Instant) {
        let record = &self.records[endpoint];
        self.shared.failed(record, self.shared.nanos(now));
    }
}

/// A number that is not in the set is usable, and reports of it count for nobody.
impl EndpointHealth for EndpointSet {
    #[inline]
    fn is_usable(&self, endpoint: usize, now: Instant) -> bool {
        let Some(record) = self.records.get(endpoint) else {
            return true;
        };
        record.is_usable(self.shared.nanos(now), || {
            self.shared.panic_until.load(Ordering::Relaxed)
        })
    }

    #[inline]
    fn report(&self, endpoint: usize, outcome: Outcome, latency: Duration, now: Instant) {
        let sent = now.checked_sub(latency).unwrap_or(self.shared.start);
        self.report_sent(endpoint, outcome, sent, latency, now);
    }

    #[inline]
    fn report_sent(
        &self,
        endpoint: usize,
        outcome: Outcome,
        sent: Instant,
        latency: Duration,
        now: Instant,
    ) {
        let shared = &*self.shared;
        let off = shared.off.load(Ordering::Relaxed) != 0;
        let Some(record) = self.records.get(endpoint).filter(|_| !off) else {
            return;
        };
        let now = shared.nanos(now);
        if now >= shared.interval_end.load(Ordering::Relaxed) {
            shared.end_interval(now);
        }
        if record.was_out(shared.nanos(sent)) {
            return;
        }
        let latency = nanos(latency);
        match outcome {
            Outcome::Success => record.succeeded(latency),
            Outcome::Failure => shared.failed(record, now),
            Outcome::Throttled(_) => record.throttled(),
            // It would have taken longer still. Who leaves before what is usual says nothing.
            Outcome::Ignored => {
                if latency >= shared.usual_latency.load(Ordering::Relaxed) {
                    record.given_up(latency);
                }
            }
        }
    }
}

impl Shared {
    fn now(&self) -> u64 {
        self.nanos(Instant::now())
    }

    /// Since the start; a moment before it is the start.
    fn nanos(&self, at: Instant) -> u64 {
        nanos(at.saturating_duration_since(self.start))
    }

    fn instant(&self, nanos: u64) -> Instant {
        self.start + Duration::from_nanos(nanos)
    }

    #[cold]
    fn end_interval(&self, now: u64) {
        let end = self.interval_end.load(Ordering::Relaxed);
        let interval = self.interval.load(Ordering::Relaxed);
        let Some(over) = now.checked_sub(end) else {
            return;
        };
        // Whole intervals, so that they do not drift. Up to now only the first of them had any reports.
        let elapsed = over / interval + 1;
        let next = end.saturating_add(elapsed.saturating_mul(interval));
        let won =
            self.interval_end
                .compare_exchange(end, next, Ordering::Relaxed, Ordering::Relaxed);
        if won.is_ok() {
            self.metrics.register();
            let usual = self.change(now, |roster, changes| {
                roster.end_interval(now, elapsed, changes)
            });
            // Else it is what it was: where too many are given up to tell, that is what is to be seen.
            if let Some(usual) = usual {
                self.usual_latency.store(usual, Ordering::Relaxed);
            }
        }
    }

    #[inline]
    fn failed(&self, record: &Arc<Record>, now: u64) {
        // Equal, not more: of those that fail at the same time one trips it.
        if record.failed() == self.consecutive.load(Ordering::Relaxed) {
            self.trip(record, now);
        }
    }

    #[cold]
    fn trip(&self, record: &Arc<Record>, now: u64) {
        self.metrics.register();
        self.change(now, |roster, changes| roster.trip(record, now, changes));
    }

    /// Changes the roster, tells those who ask what holds from now on, and tells what changed once the lock is free.
    fn change<T>(&self, now: u64, change: impl FnOnce(&mut Roster, &mut Vec<Change>) -> T) -> T {
        let mut changes = Vec::new();
        let (result, mode, census) = {
            let mut roster = lock(&self.roster);
            let result = change(&mut roster, &mut changes);
            roster.settle(now, &mut changes);
            let panic_until = roster.panic_until(now, &mut changes);
            self.panic_until.store(panic_until, Ordering::Relaxed);
            (result, roster.mode, roster.census(now))
        };
        for change in &changes {
            if let Change::Ejected { reason, .. } = change {
                self.metrics.ejected(mode, *reason);
            }
            telemetry::changed(&self.upstream, mode, change);
        }
        self.metrics.counted(mode, census);
        result
    }

    fn describe(&self, member: &Member, now: u64) -> EndpointSnapshot {
        let state = match member.ejection {
            _ if member.forced_out => EndpointState::ForcedOut,
            _ if member.unhealthy => EndpointState::Unhealthy,
            Some(ejection) if now < ejection.until => EndpointState::Ejected {
                until: self.instant(ejection.until),
                reason: ejection.reason,
            },
            _ => EndpointState::In,
        };
        let last = &member.last;
        EndpointSnapshot {
            name: Arc::clone(&member.name),
            state,
            ejections: member.ejections,
            multiplier: member.multiplier,
            consecutive: member.record.streak(),
            requests: last.requests(),
            failures: last.failures,
            throttled: last.throttled,
            latency: last.mean_log().map(|log| log2::to_duration(log / FINE)),
        }
    }
}

/// Longer than any latency.
const NOT_KNOWN: u64 = u64::MAX;

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).map_or(LAST, |nanos| nanos.min(LAST))
}
