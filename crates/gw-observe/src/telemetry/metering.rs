//! Handles are registered when they are first used, so that a recorder installed after the layer was built still counts,
//! and are kept: a request looks nothing up in the registry. Each set of labels has a bound; what is beyond it is counted
//! under labels that stand for the rest, and in [`OVERFLOW`].

mod bounded;

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use gw_core::context::{RouteMatch, UpstreamName};
use http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Unit};

use self::bounded::Bounded;
use crate::access_log::Outcome;
use crate::observation::Observed;
use crate::vocabulary::{EndedBy, Phase, ResponseSource};

const REQUESTS: &str = "gateway_requests_total";
const DURATION: &str = "gateway_request_duration_seconds";
const OVERHEAD: &str = "gateway_overhead_duration_seconds";
const UPSTREAM_DURATION: &str = "gateway_upstream_request_duration_seconds";
const UPSTREAM_CALLS: &str = "gateway_upstream_calls_per_request";
const REJECTIONS: &str = "gateway_rejections_total";
const ACTIVE: &str = "gateway_active_requests";
const ABORTS: &str = "gateway_client_aborts_total";
const LINES: &str = "gateway_access_log_lines_total";
const OVERFLOW: &str = "gateway_label_overflow_total";

/// The buckets that suit the histograms of this crate, by name: without any, exporters make summaries of them, which
/// cannot be added up over instances.
pub const HISTOGRAM_BUCKETS: [(&str, &[f64]); 4] = [
    (DURATION, SECONDS),
    (UPSTREAM_DURATION, SECONDS),
    (
        OVERHEAD,
        &[
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
        ],
    ),
    (UPSTREAM_CALLS, &[0.0, 1.0, 2.0, 3.0, 5.0, 8.0]),
];

/// The boundaries that OpenTelemetry recommends for the duration of requests.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests that have ended, by route, method, status (none if there was no answer) and source of the answer \
         (gateway, upstream, service, none)."
    );
    metrics::describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time from a request's head to the end of its answer."
    );
    metrics::describe_histogram!(
        OVERHEAD,
        Unit::Seconds,
        "Part of the duration in which neither the upstream nor the client was waited for."
    );
    metrics::describe_histogram!(
        UPSTREAM_DURATION,
        Unit::Seconds,
        "Part of the duration in which the upstream was waited for, over all attempts."
    );
    metrics::describe_histogram!(
        UPSTREAM_CALLS,
        Unit::Count,
        "How often an upstream was tried for one request."
    );
    metrics::describe_counter!(
        REJECTIONS,
        Unit::Count,
        "Requests that the gateway refused or failed, by stage and code."
    );
    metrics::describe_gauge!(
        ACTIVE,
        Unit::Count,
        "Requests whose answer has not ended yet."
    );
    metrics::describe_counter!(
        ABORTS,
        Unit::Count,
        "Requests given up by the client, by how far they had come (request, upstream, response)."
    );
    metrics::describe_counter!(
        LINES,
        Unit::Count,
        "What became of the access log's line of each request (written, sampled_out, over_budget, lost_full, \
         lost_write, lost_closed)."
    );
    metrics::describe_counter!(
        OVERFLOW,
        Unit::Count,
        "Observations counted under labels that stand for the rest, because there was no room for their own."
    );
}

/// Series of `gateway_requests_total` for one route; over it, statuses are counted by class and methods as one.
const SERIES_PER_ROUTE: usize = 64;
const MAX_UPSTREAMS: usize = 256;
const MAX_REJECTIONS: usize = 256;
/// What stands for the rest.
const OTHER: &str = "other";
/// What stands for an answer that there was not.
const NONE: &str = "none";

/// The classes of statuses, and none.
const STATUS_CLASSES: [&str; 6] = [NONE, "1xx", "2xx", "3xx", "4xx", "5xx"];
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

type PerClass<T> = [OnceLock<T>; STATUS_CLASSES.len()];

/// The metrics of all requests of one layer.
pub(crate) struct RequestMetrics {
    routes: Box<[OnceLock<Box<RouteMetrics>>]>,
    unmatched: OnceLock<Box<RouteMetrics>>,
    other: OnceLock<Box<RouteMetrics>>,
    upstreams: Bounded<UpstreamName, PerClass<Histogram>>,
    other_upstreams: PerClass<Histogram>,
    rejections: Bounded<(&'static str, &'static str), Counter>,
    other_rejections: OnceLock<Counter>,
    overflow: OnceLock<Counter>,
}

/// Where the metrics of a request's route are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouteIndex {
    Table(usize),
    Unmatched,
    Other,
}

/// The metrics of one route.
struct RouteMetrics {
    label: String,
    active: Gauge,
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
    /// 0 for none.
    status: u16,
    source: Option<ResponseSource>,
}

impl RequestMetrics {
    pub(crate) fn new(max_routes: usize) -> Self {
        Self {
            routes: (0..max_routes).map(|_| OnceLock::new()).collect(),
            unmatched: OnceLock::new(),
            other: OnceLock::new(),
            upstreams: Bounded::new(MAX_UPSTREAMS),
            other_upstreams: Default::default(),
            rejections: Bounded::new(MAX_REJECTIONS),
            other_rejections: OnceLock::new(),
            overflow: OnceLock::new(),
        }
    }

    /// A request of this route is active from now on.
    pub(crate) fn enter(&self, route: Option<&RouteMatch>) -> RouteIndex {
        let index = self.index(route);
        self.route(index).active.increment(1.0);
        index
    }

    /// A request has ended, which was active as one of the route `active`.
    pub(crate) fn ended(&self, observed: &Observed<'_>, active: Option<RouteIndex>) {
        if let Some(active) = active {
            self.route(active).active.decrement(1.0);
        }
        let exchange = observed.exchange;
        let route = self.route(self.index(exchange.route.as_ref()));
        let verdict = &observed.verdict;
        let class = status_class(observed.status);
        let answered = Answered::new(observed.method, observed.status, verdict.source);
        if !route.count(answered, class) {
            self.overflowed();
        }
        let seconds = |duration: Duration| duration.as_secs_f64();
        if let Some((slot, label)) = pick(&route.durations, class) {
            let register = || metrics::histogram!(DURATION, "route" => route.label.clone(), "status_class" => label);
            slot.get_or_init(register)
                .record(seconds(observed.times.total));
        }
        route.overhead.record(seconds(observed.times.gateway));
        route.upstream_calls.record(f64::from(exchange.attempts));
        if verdict.ended_by == EndedBy::Client
            && let Some(slot) = route.aborts.get(verdict.phase as usize)
        {
            let register = || metrics::counter!(ABORTS, "route" => route.label.clone(), "phase" => verdict.phase.as_str());
            slot.get_or_init(register).increment(1);
        }
        if let (Some(upstream), Some(_)) = (&exchange.upstream, exchange.upstream_time) {
            self.upstream(upstream, class, seconds(observed.times.upstream));
        }
        if let Some(code) = verdict.code {
            self.rejected(exchange.refused_by.unwrap_or("unknown"), code.name());
        }
    }

    fn index(&self, route: Option<&RouteMatch>) -> RouteIndex {
        let Some((route, place)) = route.and_then(|route| Some((route, route.ordinal()?))) else {
            return RouteIndex::Unmatched;
        };
        let own = self.routes.get(place).is_some_and(|slot| {
            let metrics = slot.get_or_init(|| RouteMetrics::new(route.name()));
            metrics.label == route.name()
        });
        if own {
            return RouteIndex::Table(place);
        }
        self.overflowed();
        RouteIndex::Other
    }

    fn route(&self, index: RouteIndex) -> &RouteMetrics {
        let known = match index {
            RouteIndex::Table(place) => self.routes.get(place).and_then(OnceLock::get),
            RouteIndex::Unmatched => Some(
                self.unmatched
                    .get_or_init(|| RouteMetrics::new(RouteMatch::UNMATCHED)),
            ),
            RouteIndex::Other => None,
        };
        known.unwrap_or_else(|| self.other.get_or_init(|| RouteMetrics::new(OTHER)))
    }

    fn upstream(&self, name: &UpstreamName, class: usize, seconds: f64) {
        let own = self.upstreams.get_or_insert(
            hash(name.as_str()),
            |it| it == name,
            || (name.clone(), PerClass::default()),
        );
        if own.is_none() {
            self.overflowed();
        }
        let label = own.map_or(OTHER, |_| name.as_str());
        if let Some((slot, class)) = pick(own.unwrap_or(&self.other_upstreams), class) {
            let register = || metrics::histogram!(UPSTREAM_DURATION, "upstream" => label.to_owned(), "status_class" => class);
            slot.get_or_init(register).record(seconds);
        }
    }

    fn rejected(&self, stage: &'static str, code: &'static str) {
        let register = |stage: &'static str, code: &'static str| metrics::counter!(REJECTIONS, "stage" => stage, "code" => code);
        let own = self.rejections.get_or_insert(
            hash(code) ^ hash(stage),
            |it| *it == (stage, code),
            || ((stage, code), register(stage, code)),
        );
        if own.is_none() {
            self.overflowed();
        }
        own.unwrap_or_else(|| self.other_rejections.get_or_init(|| register(OTHER, OTHER)))
            .increment(1);
    }

    fn overflowed(&self) {
        self.overflow
            .get_or_init(|| metrics::counter!(OVERFLOW))
            .increment(1);
    }
}

impl RouteMetrics {
    fn new(label: &str) -> Box<Self> {
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

    /// Counts a request. False if there was no room for its labels.
    fn count(&self, answered: Answered, class: usize) -> bool {
        let own = self.requests.get_or_insert(
            answered.hash(),
            |it| *it == answered,
            || {
                let status = StatusCode::from_u16(answered.status);
                let status = status.as_ref().map_or(NONE, StatusCode::as_str);
                (
                    answered,
                    self.register(answered.method(), status, answered.source),
                )
            },
        );
        if let Some(counter) = own {
            counter.increment(1);
            return true;
        }
        let source = answered.source.map_or(0, |source| source as usize + 1);
        let slots = self.other_requests.get(source);
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
            status: status.map_or(0, |status| status.as_u16()),
            source,
        }
    }

    fn method(self) -> &'static str {
        const NAMES: [&str; METHODS.len()] = [
            "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE",
        ];
        NAMES
            .get(usize::from(self.method))
            .copied()
            .unwrap_or(OTHER)
    }

    /// Spreads what often comes together: a few statuses, a few methods.
    fn hash(self) -> usize {
        let source = self.source.map_or(0, |source| source as usize + 1);
        usize::from(self.status) * 7 + usize::from(self.method) * 4 + source
    }
}

fn status_class(status: Option<StatusCode>) -> usize {
    status.map_or(0, |status| usize::from(status.as_u16() / 100).min(5))
}

fn pick<T>(slots: &PerClass<T>, class: usize) -> Option<(&OnceLock<T>, &'static str)> {
    Some((slots.get(class)?, STATUS_CLASSES.get(class)?))
}

/// FNV-1a: names are short.
fn hash(name: &str) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step) as usize
}

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.routes.iter().filter(|slot| slot.get().is_some());
        f.debug_struct("RequestMetrics")
            .field("max_routes", &self.routes.len())
            .field("routes", &registered.count())
            .finish_non_exhaustive()
    }
}

/// Counts what becomes of the access log's lines.
#[derive(Default)]
pub(crate) struct LineMetrics(OnceLock<[Counter; Outcome::ALL.len()]>);

impl LineMetrics {
    pub(crate) fn register(&self) {
        self.0.get_or_init(|| {
            Outcome::ALL.map(|outcome| metrics::counter!(LINES, "outcome" => outcome.as_str()))
        });
    }

    pub(crate) fn add(&self, outcome: Outcome, lines: u64) {
        if let Some(counter) = self.0.get().and_then(|it| it.get(outcome as usize)) {
            counter.increment(lines);
        }
    }
}

impl fmt::Debug for LineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.0.get().is_some();
        f.debug_tuple("LineMetrics").field(&registered).finish()
    }
}
