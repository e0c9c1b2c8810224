//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use gw_core::key::MissingKey;

pub(crate) use self::metering::PolicyMetrics;
#[cfg(feature = "metrics")]
pub use self::metering::describe;
use crate::config::Mode;
use crate::quota::Quota;

#[cfg(feature = "metrics")]
mod metering {
    use std::sync::{Arc, OnceLock};

    use metrics::{Counter, Gauge, Unit};

    const HITS: &str = "gateway_rate_limit_hits_total";
    const KEYS: &str = "gateway_rate_limit_keys";

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
    }
}

pub(crate) fn mode_changed(policy: &str, mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(policy, ?mode, "rate limit: mode changed");
    let _ = (policy, mode);
}

pub(crate) fn quota_changed(policy: &str, quota: Quota) {
    #[cfg(feature = "tracing")]
    tracing::info!(
        policy,
        cells = quota.cells(),
        period = ?quota.period(),
        burst = quota.max_burst(),
        "rate limit: quota changed"
    );
    let _ = (policy, quota);
}

pub(crate) fn key_missing(policy: &str, missing: MissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(policy, %missing, "rate limit: a request has no key for this policy; logged once");
    let _ = (policy, missing);
}

pub(crate) fn full(policy: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        policy,
        "rate limit: no room for a new key, newcomers share one quota; raise max_keys; logged once"
    );
    let _ = policy;
}
