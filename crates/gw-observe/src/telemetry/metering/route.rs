use std::sync::OnceLock;

use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram};

use super::bounded::Bounded;
use super::{ABORTS, ACTIVE, DURATION, NONE, OTHER, OVERHEAD, REQUESTS, UPSTREAM_CALLS};
use crate::observation::Observed;
use crate::vocabulary::{EndedBy, Phase, ResponseSource};

/// Series of `gateway_requests_total` for one route; over it, statuses are counted by class and methods as one.
const SERIES_PER_ROUTE: usize = 64;

/// The classes of statuses, and none.
const STATUS_CLASSES: [&str; 6] = [NONE, "1xx", "2xx", "3xx", "4xx", "5xx"];

static METHODS: [Method; 10] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
    Method::QUERY,
];

pub(super) type PerClass<T> = [OnceLock<T>; STATUS_CLASSES.len()];

/// The metrics of one route.
pub(super) struct RouteMetrics {
    pub(super) label: String,
    pub(super) active: Gauge,
    overhead: Histogram,
    upstream_calls: Histogram,
    durations: PerClass<Histogram>,
    requests: Bounded<Answered, Counter>,
    other_requests: [PerClass<Counter>; ResponseSource::ALL.len() + 1],
    aborts: [OnceLock<Counter>; Phase::ALL.len()],
}

/// The labels of a request but for its route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answered {
    /// The place in [`METHODS`]; past its end for all others.
    method: u8,
    status: Option<StatusCode>,
    source: Option<ResponseSource>,
}

impl RouteMetrics {
    pub(super) fn new(label: &str) -> Box<Self> {
        let label = label.to_owned();
        Box::new(Self {
            active: metrics::gauge!(ACTIVE, "route" => label.clone()),
            overhead: metrics::histogram!(OVERHEAD, "route" => label.clone()),
            upstream_calls: metrics::histogram!(UPSTREAM_CALLS, "route" => label.clone()),
            durations: PerClass::default(),
            requests: Bounded::new(SERIES_PER_ROUTE),
            other_requests: Default::default(),
            aborts: Default::default(),
            label,
        })
    }

    /// A request has ended. False if there was no room for its labels.
    pub(super) fn ended(&self, observed: &Observed<'_>) -> bool {
        let (times, verdict) = (&observed.times, &observed.verdict);
        let class = status_class(observed.status);
        if let Some((slot, label)) = pick(&self.durations, class) {
            let register = || metrics::histogram!(DURATION, "route" => self.label.clone(), "status_class" => label);
            slot.get_or_init(register).record(times.total.as_secs_f64());
        }
        self.overhead.record(times.gateway.as_secs_f64());
        let attempts = observed.exchange.attempts;
        self.upstream_calls.record(f64::from(attempts));
        if verdict.ended_by == EndedBy::Client
            && let Some(slot) = self.aborts.get(verdict.phase as usize)
        {
            let register = || metrics::counter!(ABORTS, "route" => self.label.clone(), "phase" => verdict.phase.as_str());
            slot.get_or_init(register).increment(1);
        }
        let answered = Answered::new(observed.method, observed.status, verdict.source);
        self.count(answered, class)
    }

    /// Counts a request. False if there was no room for its labels.
    fn count(&self, answered: Answered, class: usize) -> bool {
        let own = self.requests.get_or_insert(
            answered.hash(),
            |it| *it == answered,
            || {
                let status = answered.status.as_ref().map_or(NONE, StatusCode::as_str);
                let counter = self.register(answered.method(), status, answered.source);
                (answered, counter)
            },
        );
        if let Some(counter) = own {
            counter.increment(1);
            return true;
        }
        let slots = self.other_requests.get(answered.source_place());
        if let Some((slot, class)) = slots.and_then(|slots| pick(slots, class)) {
            let register = || self.register(OTHER, class, answered.source);
            slot.get_or_init(register).increment(1);
        }
        false
    }

    fn register(
        &self,
        method: &'static str,
        status: &str,
        source: Option<ResponseSource>,
    ) -> Counter {
        metrics::counter!(
            REQUESTS,
            "route" => self.label.clone(),
            "method" => method,
            "status" => status.to_owned(),
            "source" => source.map_or(NONE, ResponseSource::as_str),
        )
    }
}

impl Answered {
    fn new(method: &Method, status: Option<StatusCode>, source: Option<ResponseSource>) -> Self {
        let place = METHODS.iter().position(|known| known == method);
        Self {
            method: place.unwrap_or(METHODS.len()) as u8,
            status,
            source,
        }
    }

    fn method(self) -> &'static str {
        let known = METHODS.get(usize::from(self.method));
        known.map_or(OTHER, Method::as_str)
    }

    /// The place in [`ResponseSource::ALL`], counted from 1; 0 for none.
    fn source_place(self) -> usize {
        self.source.map_or(0, |source| source as usize + 1)
    }

    /// Spreads what often comes together: a few statuses, a few methods.
    fn hash(self) -> usize {
        let status = self.status.map_or(0, |status| status.as_u16());
        usize::from(status) * 7 + usize::from(self.method) * 4 + self.source_place()
    }
}

pub(super) fn status_class(status: Option<StatusCode>) -> usize {
    status.map_or(0, |status| usize::from(status.as_u16() / 100).min(5))
}

pub(super) fn pick<T>(slots: &PerClass<T>, class: usize) -> Option<(&OnceLock<T>, &'static str)> {
    Some((slots.get(class)?, STATUS_CLASSES.get(class)?))
}
