//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use gw_core::Mode;
use gw_core::key::MissingKey;

pub(crate) use self::metering::PolicyMetrics;
#[cfg(feature = "metrics")]
pub use self::metering::describe;
use crate::config::OnMissingKey;
use crate::quota::Quota;

#[cfg(feature = "metrics")]
mod metering {
    use std::sync::{Arc, OnceLock};

    use metrics::{Counter, Gauge, Unit};

    const HITS: &str = "gateway_rate_limit_hits_total";
    const KEYS: &str = "gateway_rate_limit_keys";
    const FILL: &str = "gateway_rate_limit_fill_ratio";
    const LATE: &str = "gateway_rate_limit_late_cells_total";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_counter!(
            HITS,
            Unit::Count,
            "Requests decided by a rate-limit policy, by decision (allowed, limited, would_limit, skipped)."
        );
        metrics::describe_gauge!(
            KEYS,
            Unit::Count,
            "Keys whose state a rate-limit policy holds."
        );
        metrics::describe_gauge!(
            FILL,
            Unit::Count,
            "How much of its quota the busiest key of a rate-limit policy has used up, 0 to 1, when it was recorded."
        );
        metrics::describe_counter!(
            LATE,
            Unit::Count,
            "Cells charged or given back after a request was admitted, by kind (charged, refunded)."
        );
        #[cfg(feature = "redis")]
        crate::redis::describe();
    }

    /// The handles of one policy. Each is registered when it is first used, so that a recorder installed after the
    /// limiter was built still counts, and nothing is exported that never happened.
    #[derive(Debug)]
    pub(crate) struct PolicyMetrics {
        policy: Arc<str>,
        allowed: Lazy<Counter>,
        limited: Lazy<Counter>,
        would_limit: Lazy<Counter>,
        skipped: Lazy<Counter>,
        keys: Lazy<Gauge>,
        fill: Lazy<Gauge>,
        late: Lazy<Counter>,
        refunded: Lazy<Counter>,
    }

    // The handles themselves say nothing in `Debug`, and not all of them have it.
    struct Lazy<T>(OnceLock<T>);

    impl<T> std::fmt::Debug for Lazy<T> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(if self.0.get().is_some() {
                "registered"
            } else {
                "unused"
            })
        }
    }

    impl PolicyMetrics {
        pub(crate) fn new(policy: Arc<str>) -> Self {
            Self {
                policy,
                allowed: Lazy(OnceLock::new()),
                limited: Lazy(OnceLock::new()),
                would_limit: Lazy(OnceLock::new()),
                skipped: Lazy(OnceLock::new()),
                keys: Lazy(OnceLock::new()),
                fill: Lazy(OnceLock::new()),
                late: Lazy(OnceLock::new()),
                refunded: Lazy(OnceLock::new()),
            }
        }

        pub(crate) fn allowed(&self) {
            self.hit(&self.allowed, "allowed");
        }

        pub(crate) fn limited(&self) {
            self.hit(&self.limited, "limited");
        }

        pub(crate) fn would_limit(&self) {
            self.hit(&self.would_limit, "would_limit");
        }

        pub(crate) fn skipped(&self) {
            self.hit(&self.skipped, "skipped");
        }

        pub(crate) fn keys_changed(&self, change: i64) {
            let register = || metrics::gauge!(KEYS, "policy" => Arc::clone(&self.policy));
            self.keys.0.get_or_init(register).increment(change as f64);
        }

        pub(crate) fn fill(&self, ratio: f64) {
            let register = || metrics::gauge!(FILL, "policy" => Arc::clone(&self.policy));
            self.fill.0.get_or_init(register).set(ratio);
        }

        pub(crate) fn charged_late(&self, cells: u32) {
            self.late(&self.late, "charged", cells);
        }

        pub(crate) fn refunded(&self, cells: u32) {
            self.late(&self.refunded, "refunded", cells);
        }

        fn late(&self, counter: &Lazy<Counter>, kind: &'static str, cells: u32) {
            let register =
                || metrics::counter!(LATE, "policy" => Arc::clone(&self.policy), "kind" => kind);
            counter.0.get_or_init(register).increment(cells.into());
        }

        fn hit(&self, counter: &Lazy<Counter>, decision: &'static str) {
            let register = || metrics::counter!(HITS, "policy" => Arc::clone(&self.policy), "decision" => decision);
            counter.0.get_or_init(register).increment(1);
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use std::sync::Arc;

    #[derive(Debug)]
    pub(crate) struct PolicyMetrics;

    impl PolicyMetrics {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(crate) fn new(_: Arc<str>) -> Self {
            Self
        }

        pub(crate) fn allowed(&self) {}

        pub(crate) fn limited(&self) {}

        pub(crate) fn would_limit(&self) {}

        pub(crate) fn skipped(&self) {}

        pub(crate) fn keys_changed(&self, _: i64) {}

        pub(crate) fn fill(&self, _: f64) {}

        pub(crate) fn charged_late(&self, _: u32) {}

        pub(crate) fn refunded(&self, _: u32) {}
    }
}

/// Something that is said once.
#[derive(Debug, Default)]
pub(crate) struct Once(AtomicBool);

impl Once {
    pub(crate) fn run(&self, say: impl FnOnce()) {
        if !self.0.load(Ordering::Relaxed) && !self.0.swap(true, Ordering::Relaxed) {
            say();
        }
    }
}

pub(crate) fn mode_changed(policy: &str, mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(policy, ?mode, "rate limit: mode changed");
    let _ = (policy, mode);
}

pub(crate) fn quota_changed(policy: &str, tier: Option<&str>, quota: Quota) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        policy,
        tier,
        cells = quota.cells(),
        period = ?quota.period(),
        burst = quota.max_burst(),
        sliding_window = quota.is_sliding_window(),
        "rate limit: quota changed"
    );
    let _ = (policy, tier, quota);
}

pub(crate) fn key_missing(policy: &str, missing: &MissingKey, rule: OnMissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        policy,
        %missing,
        on_missing_key = ?rule,
        "rate limit: a request has no key for this policy; logged once"
    );
    let _ = (policy, missing, rule);
}

pub(crate) fn bytes_uncharged(policy: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        policy,
        "rate limit: the bytes of answers are charged to no policy: no layer further out has one of this name that takes late charges; logged once"
    );
    let _ = policy;
}

pub(crate) fn full(policy: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        policy,
        "rate limit: no room, keys are forgotten in debt and newcomers begin with it; memory is for too few keys; logged once"
    );
    let _ = policy;
}
