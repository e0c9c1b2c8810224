use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gw_core::ConfigError;
use gw_core::key::{TrustedProxies, peer_addr};
use gw_core::stage::{FactSet, Stage};
use http::Extensions;
use tower_layer::Layer;

use crate::access_log::{self, AccessLog};
use crate::ratio::Ratio;
use crate::service::Observe;
use crate::telemetry::{self, RequestMetrics};

/// Applies an [`Observe`]. All services made by it and its clones write into the same log and the same metrics.
#[derive(Debug, Clone)]
pub struct ObserveLayer {
    shared: Arc<Shared>,
}

/// Whose trace context is continued. For all others a trace is started, and what they sent goes nowhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Nobody's. A client could otherwise put its requests into another trace, or have all of them recorded.
    #[default]
    Nobody,
    /// That of peers with these addresses. Nobody's where the server does not say who calls, which is logged once, with what to do.
    Proxies(TrustedProxies),
    /// Everybody's: right where all callers are services of one's own.
    Everybody,
}

/// Builds an [`ObserveLayer`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct ObserveBuilder {
    log: Option<Arc<access_log::Shared>>,
    trust: Trust,
    sample: Option<f64>,
    max_routes: Option<usize>,
}

/// What all services of a layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) log: Option<Arc<access_log::Shared>>,
    pub(crate) metrics: RequestMetrics,
    trust: Trust,
    pub(crate) sample: Ratio,
    /// Said already.
    peer_missing: AtomicBool,
}

/// The share of new traces that is recorded, unless it is said otherwise.
const SAMPLE: f64 = 0.01;
/// How many routes have labels of their own, unless it is said otherwise.
const MAX_ROUTES: usize = 1024;

impl ObserveLayer {
    /// An observer without a log that trusts nobody.
    pub fn builder() -> ObserveBuilder {
        ObserveBuilder::default()
    }
}

impl ObserveBuilder {
    /// The most routes that can have labels of their own.
    pub const MAX_MAX_ROUTES: usize = 65_536;

    /// Writes a line for each request, or for a share of them, into `log`.
    pub fn access_log(mut self, log: &AccessLog) -> Self {
        self.log = Some(log.shared());
        self
    }

    /// Whose trace context is continued. Nobody's, unless it is said otherwise.
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self
    }

    /// The share of the traces that start here which upstreams are asked to record, from 0 to 1: a hundredth, unless it
    /// is said otherwise. Of a trace that is continued, the caller has decided.
    pub const fn sample(mut self, share: f64) -> Self {
        self.sample = Some(share);
        self
    }

    /// How many routes have labels of their own in the metrics: those with the lowest places in the route table, 1024
    /// unless it is said otherwise. All others are counted as the route `other`. One layer serves one route table: a
    /// place that another route has already taken is counted so, too.
    pub const fn max_routes(mut self, routes: usize) -> Self {
        self.max_routes = Some(routes);
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// If the share is not a number from 0 to 1, or there are more than [`MAX_MAX_ROUTES`](Self::MAX_MAX_ROUTES) routes.
    pub fn build(self) -> Result<ObserveLayer, ConfigError> {
        let sample = Ratio::new("sample", self.sample.unwrap_or(SAMPLE))?;
        let routes = self.max_routes.unwrap_or(MAX_ROUTES);
        if routes > Self::MAX_MAX_ROUTES {
            return Err(ConfigError::new("max_routes", "must be at most 65536"));
        }
        let shared = Arc::new(Shared {
            log: self.log,
            metrics: RequestMetrics::new(routes),
            trust: self.trust,
            sample,
            peer_missing: AtomicBool::new(false),
        });
        Ok(ObserveLayer { shared })
    }
}

impl Shared {
    /// Whether the trace context of a request is continued.
    pub(crate) fn trusts(&self, extensions: &Extensions) -> bool {
        let proxies = match &self.trust {
            Trust::Nobody => return false,
            Trust::Everybody => return true,
            Trust::Proxies(proxies) => proxies,
        };
        match peer_addr(extensions) {
            Ok(peer) => proxies.contains(peer.ip()),
            Err(missing) => {
                if !self.peer_missing.swap(true, Ordering::Relaxed) {
                    telemetry::peer_missing(&missing);
                }
                false
            }
        }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe::new(inner, Arc::clone(&self.shared))
    }
}

/// Needs nothing and establishes no fact: it is the outermost stage.
impl<F: FactSet> Stage<F> for ObserveLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}
