//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use gw_core::Mode;
use gw_core::key::MissingKey;

#[cfg(feature = "metrics")]
pub use self::metering::describe;
pub(crate) use self::metering::{BreakerMetrics, CountGauge};
use crate::state::State;

#[cfg(feature = "metrics")]
mod metering {
    use std::fmt;
    use std::sync::OnceLock;

    use gw_core::context::UpstreamName;
    use metrics::{Counter, Gauge, Unit};

    use crate::state::State;

    const STATE: &str = "gateway_circuit_breaker_state";
    const TRANSITIONS: &str = "gateway_circuit_breaker_transitions_total";
    const REJECTIONS: &str = "gateway_circuit_breaker_rejections_total";
    const BREAKERS: &str = "gateway_circuit_breakers";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            STATE,
            Unit::Count,
            "What the circuit breaker of an upstream does: 0 closed, 1 open, 2 half-open."
        );
        metrics::describe_counter!(
            TRANSITIONS,
            Unit::Count,
            "Changes of a circuit breaker's state, by the state it changed to."
        );
        metrics::describe_counter!(
            REJECTIONS,
            Unit::Count,
            "Requests that a circuit breaker refused, by decision (rejected, would_reject)."
        );
        metrics::describe_gauge!(
            BREAKERS,
            Unit::Count,
            "Circuit breakers that a keyed layer holds."
        );
    }

    /// The handles of one breaker. Each is registered when it is first used, so that a recorder installed after the layer
    /// was built still counts.
    pub(crate) struct BreakerMetrics {
        upstream: UpstreamName,
        /// Whether the name is this breaker's alone. Several that share one have no state to show.
        alone: bool,
        state: OnceLock<Gauge>,
        transitions: [OnceLock<Counter>; State::ALL.len()],
        rejected: OnceLock<Counter>,
        would_reject: OnceLock<Counter>,
    }

    impl BreakerMetrics {
        pub(crate) const fn new(upstream: UpstreamName, alone: bool) -> Self {
            Self {
                upstream,
                alone,
                state: OnceLock::new(),
                transitions: [const { OnceLock::new() }; State::ALL.len()],
                rejected: OnceLock::new(),
                would_reject: OnceLock::new(),
            }
        }

        /// Whether the gauge is there, or there is to be none.
        #[inline]
        pub(crate) fn is_shown(&self) -> bool {
            !self.alone || self.state.get().is_some()
        }

        #[cold]
        pub(crate) fn state(&self, state: State) {
            if self.alone {
                let register = || metrics::gauge!(STATE, "upstream" => self.label());
                self.state.get_or_init(register).set(state.level());
            }
        }

        pub(crate) fn changed_to(&self, state: State) {
            let same = |(other, _): &(State, _)| *other == state;
            if let Some((_, counter)) = State::ALL.into_iter().zip(&self.transitions).find(same) {
                let register = || metrics::counter!(TRANSITIONS, "upstream" => self.label(), "to" => state.as_str());
                counter.get_or_init(register).increment(1);
            }
        }

        pub(crate) fn rejected(&self) {
            self.decided(&self.rejected, "rejected");
        }

        pub(crate) fn would_reject(&self) {
            self.decided(&self.would_reject, "would_reject");
        }

        fn decided(&self, counter: &OnceLock<Counter>, decision: &'static str) {
            let register = || metrics::counter!(REJECTIONS, "upstream" => self.label(), "decision" => decision);
            counter.get_or_init(register).increment(1);
        }

        fn label(&self) -> metrics::SharedString {
            self.upstream.as_str().to_owned().into()
        }
    }

    /// How many breakers a keyed layer holds. The handle is registered as those of breakers are.
    pub(crate) struct CountGauge {
        layer: UpstreamName,
        gauge: OnceLock<Gauge>,
    }

    impl CountGauge {
        pub(crate) const fn new(layer: UpstreamName) -> Self {
            Self {
                layer,
                gauge: OnceLock::new(),
            }
        }

        pub(crate) fn set(&self, count: usize) {
            let register = || metrics::gauge!(BREAKERS, "layer" => self.layer.as_str().to_owned());
            self.gauge.get_or_init(register).set(count as f64);
        }
    }

    impl fmt::Debug for CountGauge {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("CountGauge")
                .field("layer", &self.layer)
                .finish_non_exhaustive()
        }
    }

    // The handles themselves say nothing in `Debug`, and not all of them have it.
    impl fmt::Debug for BreakerMetrics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("BreakerMetrics")
                .field("upstream", &self.upstream)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use gw_core::context::UpstreamName;

    use crate::state::State;

    #[derive(Debug)]
    pub(crate) struct BreakerMetrics;

    impl BreakerMetrics {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(crate) fn new(_: UpstreamName, _: bool) -> Self {
            Self
        }

        #[inline]
        pub(crate) fn is_shown(&self) -> bool {
            true
        }

        pub(crate) fn state(&self, _: State) {}

        pub(crate) fn changed_to(&self, _: State) {}

        pub(crate) fn rejected(&self) {}

        pub(crate) fn would_reject(&self) {}
    }

    #[derive(Debug)]
    pub(crate) struct CountGauge;

    impl CountGauge {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(crate) fn new(_: UpstreamName) -> Self {
            Self
        }

        pub(crate) fn set(&self, _: usize) {}
    }
}

pub(crate) fn changed(upstream: &str, from: State, to: State, opened: u8) {
    #[cfg(feature = "tracing")]
    match to {
        State::Open | State::ForcedOpen => tracing::warn!(
            upstream,
            from = from.as_str(),
            to = to.as_str(),
            opened,
            "circuit breaker: state changed"
        ),
        _ => tracing::info!(
            upstream,
            from = from.as_str(),
            to = to.as_str(),
            opened,
            "circuit breaker: state changed"
        ),
    }
    let _ = (upstream, from, to, opened);
}

/// Called at the first request of a keyed layer that has nothing to tell its breaker by.
pub(crate) fn key_missing(upstream: &str, missing: &MissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        upstream,
        %missing,
        "circuit breaker: requests without a key share one breaker"
    );
    let _ = (upstream, missing);
}

pub(crate) fn mode_changed(upstream: &str, mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(upstream, ?mode, "circuit breaker: mode changed");
    let _ = (upstream, mode);
}

pub(crate) fn reconfigured(upstream: &str) {
    #[cfg(feature = "tracing")]
    tracing::info!(upstream, "circuit breaker: configuration changed");
    let _ = upstream;
}
