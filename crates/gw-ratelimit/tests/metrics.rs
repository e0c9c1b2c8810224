//! Names, labels and numbers as a recorder sees them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeMap;

use gw_ratelimit::{Limiter, Mode, Quota};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use tokio::time::Instant;

#[test]
fn a_recorder_sees_decisions_and_keys() {
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(2))
        .policy_in("s", Quota::per_hour(1), Mode::Shadow)
        .build()
        .unwrap();
    // Installed after the limiter was built: it must count all the same.
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        gw_ratelimit::describe();
        let policies = ["p", "s"].map(|name| limiter.policy(name).unwrap());
        for _ in 0..3 {
            let charges = policies.map(|policy| limiter.charge(policy, "k", 1));
            limiter.check_all(&charges, Instant::now());
        }
    });

    let mut seen = BTreeMap::new();
    for (key, unit, help, value) in snapshotter.snapshot().into_vec() {
        assert!(unit.is_some() && help.is_some());
        let labels: Vec<&str> = key.key().labels().map(|label| label.value()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(_) => panic!("no histogram here"),
        };
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    let expected = [
        ("gateway_rate_limit_hits_total p allowed", 2.0),
        ("gateway_rate_limit_hits_total p limited", 1.0),
        ("gateway_rate_limit_hits_total s allowed", 1.0),
        ("gateway_rate_limit_hits_total s would_limit", 2.0),
        ("gateway_rate_limit_keys p", 1.0),
        ("gateway_rate_limit_keys s", 1.0),
    ];
    assert_eq!(
        seen,
        expected
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    );
}
