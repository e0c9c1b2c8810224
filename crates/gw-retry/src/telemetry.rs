//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use std::fmt;

use gw_core::Mode;
use gw_core::context::TraceContext;
use tokio::time::Instant;

pub(crate) use self::metering::BudgetMetrics;
#[cfg(feature = "metrics")]
pub use self::metering::describe;
use self::metering::timed_out;
use crate::budget::Budget;
use crate::handle::RetryHandle;
use crate::timeout::Timer;

/// What became of a hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hedged {
    /// It answered first.
    Won,
    /// The first copy answered first, or both failed.
    Lost,
    /// Whoever asked left before it was known.
    Left,
    /// It was due, and the cap on extra load, the budget or a layer further in did not allow it.
    Refused,
    /// It was due, and the layer is in shadow mode.
    Shadow,
}

impl Hedged {
    const ALL: [Self; 5] = [
        Self::Won,
        Self::Lost,
        Self::Left,
        Self::Refused,
        Self::Shadow,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Lost => "lost",
            Self::Left => "left",
            Self::Refused => "refused",
            Self::Shadow => "shadow",
        }
    }
}

#[cfg(feature = "metrics")]
mod metering {
    use std::sync::OnceLock;

    use gw_core::context::UpstreamName;
    use metrics::{Counter, Unit};

    use super::Hedged;
    use crate::decide::Reason;

    const RETRIES: &str = "gateway_retries_total";
    const EXHAUSTED: &str = "gateway_retry_budget_exhausted_total";
    const HEDGES: &str = "gateway_hedges_total";
    const TIMEOUTS: &str = "gateway_timeouts_total";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_counter!(
            RETRIES,
            Unit::Count,
            "Requests sent again, by the reason (not_sent, unprocessed, unknown, status, grpc, throttled); shadow for those that would have been."
        );
        metrics::describe_counter!(
            EXHAUSTED,
            Unit::Count,
            "Retries and hedges that the upstream's budget did not allow for; in its shadow mode they were sent all the same."
        );
        metrics::describe_counter!(
            HEDGES,
            Unit::Count,
            "Second copies of slow requests, by what became of them (won, lost, left, refused, shadow)."
        );
        metrics::describe_counter!(
            TIMEOUTS,
            Unit::Count,
            "Requests and answers cut by a timer (deadline, attempt, first_byte, idle); shadow for those that would have been."
        );
    }

    /// The handles of one budget. They are registered when they are first used, so that a recorder installed after the
    /// layer was built still counts.
    pub(crate) struct BudgetMetrics {
        upstream: UpstreamName,
        retries: [OnceLock<Counter>; Reason::ALL.len()],
        shadow: OnceLock<Counter>,
        exhausted: OnceLock<Counter>,
        hedges: [OnceLock<Counter>; Hedged::ALL.len()],
    }

    impl BudgetMetrics {
        pub(crate) fn new(upstream: &UpstreamName) -> Self {
            Self {
                upstream: upstream.clone(),
                retries: Default::default(),
                shadow: OnceLock::new(),
                exhausted: OnceLock::new(),
                hedges: Default::default(),
            }
        }

        pub(crate) fn retried(&self, reason: Reason) {
            let same = |(other, _): &(&Reason, _)| **other == reason;
            if let Some((_, counter)) = Reason::ALL.iter().zip(&self.retries).find(same) {
                self.retry(counter, reason.as_str());
            }
        }

        pub(crate) fn shadowed(&self) {
            self.retry(&self.shadow, "shadow");
        }

        fn retry(&self, counter: &OnceLock<Counter>, reason: &'static str) {
            let register =
                || metrics::counter!(RETRIES, "upstream" => self.label(), "reason" => reason);
            counter.get_or_init(register).increment(1);
        }

        pub(super) fn exhausted(&self) {
            let register = || metrics::counter!(EXHAUSTED, "upstream" => self.label());
            self.exhausted.get_or_init(register).increment(1);
        }

        pub(crate) fn hedged(&self, outcome: Hedged) {
            let same = |(other, _): &(Hedged, _)| *other == outcome;
            if let Some((_, counter)) = Hedged::ALL.into_iter().zip(&self.hedges).find(same) {
                let register = || metrics::counter!(HEDGES, "upstream" => self.label(), "outcome" => outcome.as_str());
                counter.get_or_init(register).increment(1);
            }
        }

        fn label(&self) -> String {
            self.upstream.as_str().to_owned()
        }
    }

    /// A timer has cut a request or an answer: rare enough to look the counter up.
    pub(super) fn timed_out(timer: &'static str) {
        metrics::counter!(TIMEOUTS, "timer" => timer).increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use gw_core::context::UpstreamName;

    use super::Hedged;
    use crate::decide::Reason;

    pub(crate) struct BudgetMetrics;

    impl BudgetMetrics {
        pub(crate) fn new(_: &UpstreamName) -> Self {
            Self
        }

        pub(crate) fn retried(&self, _: Reason) {}

        pub(crate) fn shadowed(&self) {}

        pub(super) fn exhausted(&self) {}

        pub(crate) fn hedged(&self, outcome: Hedged) {
            let _ = (outcome.as_str(), Hedged::ALL);
        }
    }

    pub(super) fn timed_out(_: &'static str) {}
}

/// The budget did not allow for a retry or hedge; in its shadow mode that is sent all the same. Each is counted; one a second is logged.
#[cold]
pub(crate) fn exhausted(budget: &Budget, trace: Option<&TraceContext>, now: Instant) {
    budget.metrics().exhausted();
    if budget.is_news(now) {
        #[cfg(feature = "tracing")]
        tracing::warn!(
            event = "retry_budget_exceeded",
            service = budget.upstream().as_str(),
            ?budget,
            trace_id = trace.map(|trace| tracing::field::display(trace.trace_id)),
            "retry: the budget is used up"
        );
        let _ = trace;
    }
}

pub(crate) fn budget_changed(budget: &Budget) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        service = budget.upstream().as_str(),
        ?budget,
        "retry: budget changed"
    );
    let _ = budget;
}

/// Said when a budget is built, or changed to one, or begins to enforce as one, that allows for nothing: failures will not be
/// retried, and nobody will see why.
pub(crate) fn zero_budget(budget: &Budget) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        service = budget.upstream().as_str(),
        ?budget,
        "retry: the budget is zero, nothing will ever be retried"
    );
    let _ = budget;
}

pub(crate) fn policy_changed(retries: &RetryHandle) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        service = retries.budget().upstream().as_str(),
        policy = ?retries.policy(),
        "retry: policy changed"
    );
    let _ = retries;
}

/// What they are now.
pub(crate) fn limits_changed(layer: &'static str, limits: &impl fmt::Debug) {
    #[cfg(feature = "tracing")]
    tracing::info!(layer, ?limits, "retry: limits changed");
    let _ = (layer, limits);
}

pub(crate) fn mode_changed(layer: &'static str, mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(layer, ?mode, "retry: mode changed");
    let _ = (layer, mode);
}

/// A timer has fired. Told per request at debug: it is the request's fate, and the counter has the sum.
pub(crate) fn timer_fired(timer: Timer) {
    timed_out(timer.as_str());
    #[cfg(feature = "tracing")]
    tracing::debug!(timer = timer.as_str(), "retry: a timer expired");
}

/// A timer would have fired, in shadow mode.
pub(crate) fn timer_shadowed(timer: Timer) {
    timed_out("shadow");
    #[cfg(feature = "tracing")]
    tracing::debug!(timer = timer.as_str(), "retry: a timer would have expired");
    let _ = timer;
}
