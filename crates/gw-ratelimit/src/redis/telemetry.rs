//! What happened between the limiter and Redis: counts, metrics, and lines when it changes who decides.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where the metrics of this module are named"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::link::Failure;
use super::settings::OnFailure;
use super::warnings::Warnings;

#[cfg(feature = "metrics")]
pub use self::metering::HISTOGRAM_BUCKETS;
#[cfg(feature = "metrics")]
pub(crate) use self::metering::describe;

/// Who decided on a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Store,
    Lease,
    Failure(OnFailure),
}

impl Source {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Lease => "lease",
            Self::Failure(OnFailure::LocalFallback) => "local_fallback",
            Self::Failure(OnFailure::Open) => "open",
            Self::Failure(OnFailure::Closed) => "closed",
        }
    }
}

/// Relaxed everywhere: these are counts for people, and nothing is decided by them.
#[derive(Debug)]
pub(super) struct StoreTally {
    asked: AtomicU64,
    failed: AtomicU64,
    by_store: AtomicU64,
    by_lease: AtomicU64,
    by_rule: AtomicU64,
    late_lost: AtomicU64,
    metrics: metering::StoreMetrics,
    /// Taken when Redis is not asked any more, and by probes; no other request comes by here.
    warnings: Mutex<Warnings>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) asked: u64,
    pub(super) failed: u64,
    pub(super) by_store: u64,
    pub(super) by_lease: u64,
    pub(super) by_rule: u64,
    pub(super) late_lost: u64,
}

impl StoreTally {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            asked: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            by_store: AtomicU64::new(0),
            by_lease: AtomicU64::new(0),
            by_rule: AtomicU64::new(0),
            late_lost: AtomicU64::new(0),
            metrics: metering::StoreMetrics::new(name),
            warnings: Mutex::default(),
        }
    }

    /// A question is about to be asked.
    pub(super) fn asked(&self) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.metrics.asked();
    }

    /// It was answered, so that `rule` does not decide.
    pub(super) fn answered(&self, took: Duration, rule: OnFailure) {
        self.metrics.answered(took, Source::Failure(rule).label());
    }

    pub(super) fn failed(&self, failure: &Failure, took: Duration) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.metrics.failed(failure.reason(), took);
    }

    pub(super) fn decided(&self, source: Source) {
        let count = match source {
            Source::Store => &self.by_store,
            Source::Lease => &self.by_lease,
            Source::Failure(_) => &self.by_rule,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.metrics.decided(source);
    }

    /// Redis could not be told of cells that were charged late or given back: too much was waiting.
    pub(super) fn turned_away(&self, cells: u64) {
        self.late_lost(cells, "full");
    }

    /// The same: it did not answer, or nobody waited for it.
    pub(super) fn undelivered(&self, cells: u64) {
        self.late_lost(cells, "unanswered");
    }

    fn late_lost(&self, cells: u64, reason: &'static str) {
        self.late_lost.fetch_add(cells, Ordering::Relaxed);
        self.metrics.late_lost(cells, reason);
    }

    /// Redis answers again, and `rule` does not decide any more.
    pub(super) fn closed(&self, name: &str, rule: OnFailure) {
        self.metrics.mode(true, Source::Failure(rule).label());
        let is_said = self.warnings().is_said();
        #[cfg(feature = "tracing")]
        if is_said {
            tracing::info!(store = name, "rate limit: Redis answers again and decides");
        }
        let _ = (name, is_said);
    }

    /// It is not asked any more.
    pub(super) fn opened(&self, rule: OnFailure) {
        self.metrics.mode(false, Source::Failure(rule).label());
        self.warnings().opened();
    }

    /// It is not asked for now, and why. People are told once a minute at the most.
    pub(super) fn is_away(&self, name: &str, failure: &Failure, rule: OnFailure, now: Instant) {
        let Some(times) = self.warnings().due(now) else {
            return;
        };
        #[cfg(feature = "tracing")]
        tracing::warn!(
            store = name,
            error = %failure,
            decides = Source::Failure(rule).label(),
            times,
            "rate limit: Redis does not answer and is not asked for now"
        );
        let _ = (name, failure, rule, times);
    }

    fn warnings(&self) -> MutexGuard<'_, Warnings> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn counts(&self) -> Counts {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counts {
            asked: load(&self.asked),
            failed: load(&self.failed),
            by_store: load(&self.by_store),
            by_lease: load(&self.by_lease),
            by_rule: load(&self.by_rule),
            late_lost: load(&self.late_lost),
        }
    }
}

#[cfg(feature = "metrics")]
mod metering {
    use std::fmt;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use metrics::{Counter, Gauge, Histogram, Unit};

    use super::Source;
    use crate::redis::OnFailure;

    const CALLS: &str = "gateway_rate_limit_store_calls_total";
    const FAILURES: &str = "gateway_rate_limit_store_failures_total";
    const DECISIONS: &str = "gateway_rate_limit_store_decisions_total";
    const DURATION: &str = "gateway_rate_limit_store_call_duration_seconds";
    const MODE: &str = "gateway_rate_limit_store_mode";
    const LATE_LOST: &str = "gateway_rate_limit_store_late_lost_cells_total";

    /// The buckets that suit the histogram of this module, by name: without any, exporters make a summary of it, which
    /// cannot be added up over instances.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub const HISTOGRAM_BUCKETS: [(&str, &[f64]); 1] = [(
        DURATION,
        &[
            0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0,
        ],
    )];

    pub(crate) fn describe() {
        metrics::describe_counter!(
            CALLS,
            Unit::Count,
            "Questions to the shared store of rate limits."
        );
        metrics::describe_counter!(
            FAILURES,
            Unit::Count,
            "Questions to the shared store that got no answer, by reason (connection, refused, reply, timeout)."
        );
        metrics::describe_counter!(
            DECISIONS,
            Unit::Count,
            "Requests by who decided on them (store, lease, local_fallback, open, closed)."
        );
        metrics::describe_histogram!(
            DURATION,
            Unit::Seconds,
            "How long questions to the shared store took, failed ones included."
        );
        metrics::describe_counter!(
            LATE_LOST,
            Unit::Count,
            "Cells charged late or given back that the shared store could not be told of, by reason (full, unanswered)."
        );
        metrics::describe_gauge!(
            MODE,
            Unit::Count,
            "1 for who decides now (store, local_fallback, open, closed), 0 for the others."
        );
    }

    /// Handles are registered when they are first used, so that a recorder installed after the limiter was built still
    /// counts.
    pub(super) struct StoreMetrics {
        store: Arc<str>,
        calls: OnceLock<Counter>,
        failures: [OnceLock<Counter>; 4],
        decisions: [OnceLock<Counter>; 5],
        duration: OnceLock<Histogram>,
        modes: [OnceLock<Gauge>; 2],
        late_lost: [OnceLock<Counter>; 2],
        /// Whether the first mode was told.
        mode_told: OnceLock<()>,
    }

    const REASONS: [&str; 4] = ["connection", "refused", "reply", "timeout"];

    impl StoreMetrics {
        pub(super) fn new(store: Arc<str>) -> Self {
            Self {
                store,
                calls: OnceLock::new(),
                failures: Default::default(),
                decisions: Default::default(),
                duration: OnceLock::new(),
                modes: Default::default(),
                late_lost: Default::default(),
                mode_told: OnceLock::new(),
            }
        }

        pub(super) fn asked(&self) {
            let register = || metrics::counter!(CALLS, "store" => Arc::clone(&self.store));
            self.calls.get_or_init(register).increment(1);
        }

        pub(super) fn answered(&self, took: Duration, rule: &'static str) {
            self.took(took);
            // The rule's as well: another limiter of this name may have gone while Redis was away.
            if self.mode_told.set(()).is_ok() {
                self.mode(true, rule);
            }
        }

        pub(super) fn failed(&self, reason: &'static str, took: Duration) {
            self.took(took);
            let counters = REASONS.iter().zip(&self.failures);
            for (_, counter) in counters.filter(|(name, _)| **name == reason) {
                let register = || metrics::counter!(FAILURES, "store" => Arc::clone(&self.store), "reason" => reason);
                counter.get_or_init(register).increment(1);
            }
        }

        pub(super) fn decided(&self, source: Source) {
            let at = match source {
                Source::Store => 0,
                Source::Lease => 1,
                Source::Failure(OnFailure::LocalFallback) => 2,
                Source::Failure(OnFailure::Open) => 3,
                Source::Failure(OnFailure::Closed) => 4,
            };
            if let Some(counter) = self.decisions.get(at) {
                let register = || metrics::counter!(DECISIONS, "store" => Arc::clone(&self.store), "source" => source.label());
                counter.get_or_init(register).increment(1);
            }
        }

        pub(super) fn late_lost(&self, cells: u64, reason: &'static str) {
            let [full, unanswered] = &self.late_lost;
            let counter = if reason == "full" { full } else { unanswered };
            let register = || metrics::counter!(LATE_LOST, "store" => Arc::clone(&self.store), "reason" => reason);
            counter.get_or_init(register).increment(cells);
        }

        pub(super) fn mode(&self, answers: bool, rule: &'static str) {
            let _ = self.mode_told.set(());
            let [up, down] = &self.modes;
            let (up, down) = (
                up.get_or_init(|| self.gauge("store")),
                down.get_or_init(|| self.gauge(rule)),
            );
            up.set(f64::from(u8::from(answers)));
            down.set(f64::from(u8::from(!answers)));
        }

        fn gauge(&self, mode: &'static str) -> Gauge {
            metrics::gauge!(MODE, "store" => Arc::clone(&self.store), "mode" => mode)
        }

        fn took(&self, took: Duration) {
            let register = || metrics::histogram!(DURATION, "store" => Arc::clone(&self.store));
            self.duration.get_or_init(register).record(took);
        }
    }

    // The handles say nothing in `Debug`, and not all of them have it.
    impl fmt::Debug for StoreMetrics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("StoreMetrics")
                .field("store", &self.store)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use std::sync::Arc;
    use std::time::Duration;

    use super::Source;

    #[derive(Debug)]
    pub(super) struct StoreMetrics;

    impl StoreMetrics {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(super) fn new(_: Arc<str>) -> Self {
            Self
        }

        pub(super) fn asked(&self) {}

        pub(super) fn answered(&self, _: Duration, _: &'static str) {}

        pub(super) fn failed(&self, _: &'static str, _: Duration) {}

        pub(super) fn decided(&self, _: Source) {}

        pub(super) fn late_lost(&self, _: u64, _: &'static str) {}

        pub(super) fn mode(&self, _: bool, _: &'static str) {}
    }
}
