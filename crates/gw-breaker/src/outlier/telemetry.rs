//! Every metric name and every log line of outlier ejection.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where these metrics are named"
)]

use gw_core::Mode;

pub(super) use self::metering::Metrics;
#[cfg(feature = "metrics")]
pub use self::metering::describe;
use super::roster::Change;

#[cfg(feature = "metrics")]
mod metering {
    use std::fmt;
    use std::sync::{Arc, OnceLock};

    use gw_core::Mode;
    use metrics::{Counter, Gauge, Unit};

    use crate::outlier::roster::Census;
    use crate::outlier::snapshot::Reason;

    const HEALTHY: &str = "gateway_upstream_healthy";
    const UNHEALTHY: &str = "gateway_upstream_unhealthy";
    const EJECTED: &str = "gateway_upstream_ejected";
    const EJECTIONS: &str = "gateway_ejections_total";
    const SHADOW: &str = "gateway_shadow_ejections_total";

    const REASONS: [Reason; 3] = [Reason::Consecutive, Reason::FailureRate, Reason::Latency];

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            HEALTHY,
            Unit::Count,
            "Endpoints of the upstream that are in use."
        );
        metrics::describe_gauge!(
            UNHEALTHY,
            Unit::Count,
            "Endpoints of the upstream that are out: ejected, unhealthy or forced out."
        );
        metrics::describe_gauge!(
            EJECTED,
            Unit::Count,
            "Endpoints of the upstream that are ejected as outliers."
        );
        metrics::describe_counter!(
            EJECTIONS,
            Unit::Count,
            "Ejections of endpoints, by reason (consecutive, failure_rate, latency)."
        );
        metrics::describe_counter!(
            SHADOW,
            Unit::Count,
            "Ejections that were decided in shadow mode, and not done."
        );
    }

    /// The handles of one upstream. They are registered when they are first used, so that a recorder installed after the
    /// set was built still counts.
    pub(in crate::outlier) struct Metrics {
        upstream: Arc<str>,
        gauges: OnceLock<Gauges>,
        ejections: [OnceLock<Counter>; REASONS.len()],
        shadow: [OnceLock<Counter>; REASONS.len()],
    }

    struct Gauges {
        healthy: Gauge,
        unhealthy: Gauge,
        ejected: Gauge,
    }

    impl Metrics {
        pub(in crate::outlier) fn new(upstream: Arc<str>) -> Self {
            Self {
                upstream,
                gauges: OnceLock::new(),
                ejections: Default::default(),
                shadow: Default::default(),
            }
        }

        pub(in crate::outlier) fn ejected(&self, mode: Mode, reason: Reason) {
            let (counters, name) = match mode {
                Mode::Shadow => (&self.shadow, SHADOW),
                _ => (&self.ejections, EJECTIONS),
            };
            let same = |(other, _): &(Reason, _)| *other == reason;
            if let Some((_, counter)) = REASONS.into_iter().zip(counters).find(same) {
                let upstream = Arc::clone(&self.upstream);
                let register =
                    || metrics::counter!(name, "upstream" => upstream, "reason" => reason.as_str());
                counter.get_or_init(register).increment(1);
            }
        }

        /// Registers the gauges, with what is counted next. Called when requests run: a set is made before there is a recorder.
        pub(in crate::outlier) fn register(&self) {
            self.gauges.get_or_init(|| Gauges {
                healthy: metrics::gauge!(HEALTHY, "upstream" => Arc::clone(&self.upstream)),
                unhealthy: metrics::gauge!(UNHEALTHY, "upstream" => Arc::clone(&self.upstream)),
                ejected: metrics::gauge!(EJECTED, "upstream" => Arc::clone(&self.upstream)),
            });
        }

        /// How many are out; in shadow mode nobody is but by force.
        pub(in crate::outlier) fn counted(&self, mode: Mode, census: Census) {
            let Some(gauges) = self.gauges.get() else {
                return;
            };
            let (out, ejected) = match mode {
                Mode::Enforce => (census.out, census.ejected),
                _ => (0, 0),
            };
            let out = out + census.forced_out;
            // Far below what a float counts exactly.
            gauges.healthy.set((census.members - out) as f64);
            gauges.unhealthy.set(out as f64);
            gauges.ejected.set(ejected as f64);
        }
    }

    impl fmt::Debug for Metrics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let registered = self.gauges.get().is_some();
            f.debug_struct("Metrics")
                .field("registered", &registered)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use std::sync::Arc;

    use gw_core::Mode;

    use crate::outlier::roster::Census;
    use crate::outlier::snapshot::Reason;

    #[derive(Debug)]
    pub(in crate::outlier) struct Metrics;

    impl Metrics {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(in crate::outlier) fn new(_: Arc<str>) -> Self {
            Self
        }

        pub(in crate::outlier) fn ejected(&self, _: Mode, _: Reason) {}

        pub(in crate::outlier) fn register(&self) {}

        pub(in crate::outlier) fn counted(&self, _: Mode, _: Census) {}
    }
}

/// Called when no lock is held.
pub(super) fn changed(upstream: &str, mode: Mode, change: &Change) {
    #[cfg(feature = "tracing")]
    match change {
        Change::Ejected {
            endpoint,
            reason,
            nanos,
        } => tracing::warn!(
            upstream,
            endpoint = &**endpoint,
            reason = reason.as_str(),
            seconds = nanos / 1_000_000_000,
            ?mode,
            "outlier: an endpoint is ejected"
        ),
        Change::Back { endpoint } => tracing::info!(
            upstream,
            endpoint = &**endpoint,
            ?mode,
            "outlier: an endpoint is back"
        ),
        Change::Panic(true) => tracing::warn!(
            upstream,
            "outlier: too few endpoints are left, so all of them are used"
        ),
        Change::Panic(false) => tracing::info!(
            upstream,
            "outlier: enough endpoints are left, those that are out are not used"
        ),
    }
    let _ = (upstream, mode, change);
}

/// Called when an operator or a health check says so.
pub(super) fn told(upstream: &str, endpoint: &str, what: &'static str) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        upstream,
        endpoint,
        what,
        "outlier: an endpoint's state was set"
    );
    let _ = (upstream, endpoint, what);
}

pub(super) fn mode_changed(upstream: &str, mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(upstream, ?mode, "outlier: mode changed");
    let _ = (upstream, mode);
}
