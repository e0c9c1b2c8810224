use std::fmt;
use std::sync::OnceLock;

use gw_core::context::{RouteMatch, UpstreamName};
use metrics::{Counter, Histogram};

use super::bounded::Bounded;
use super::route::{PerClass, RouteMetrics, pick, status_class};
use super::{OTHER, OVERFLOW, REJECTIONS, UPSTREAM_DURATION};
use crate::observation::Observed;

const MAX_UPSTREAMS: usize = 256;
const MAX_REJECTIONS: usize = 256;

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
        if !route.ended(observed) {
            self.overflowed();
        }
        if let (Some(upstream), Some(_)) = (&exchange.upstream, exchange.upstream_time) {
            let class = status_class(observed.status);
            self.upstream(upstream, class, observed.times.upstream.as_secs_f64());
        }
        if let Some(code) = observed.verdict.code {
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

impl fmt::Debug for RequestMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.routes.iter().filter(|slot| slot.get().is_some());
        f.debug_struct("RequestMetrics")
            .field("max_routes", &self.routes.len())
            .field("routes", &registered.count())
            .finish_non_exhaustive()
    }
}

/// FNV-1a: names are short.
fn hash(name: &str) -> usize {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step) as usize
}
