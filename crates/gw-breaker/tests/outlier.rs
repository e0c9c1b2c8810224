//! What ejection costs, counts and logs.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use allocation_counter::measure;
use gw_breaker::Outcome;
use gw_breaker::outlier::{EndpointHealth, EndpointSet, OutlierConfig, OutlierSnapshot, Outliers};
use static_assertions::assert_impl_all;
use tokio::time::Instant;

assert_impl_all!(Outliers: Clone, Send, Sync, std::fmt::Debug);
assert_impl_all!(EndpointSet: Clone, Send, Sync, std::fmt::Debug, EndpointHealth);
assert_impl_all!(OutlierConfig: Clone, Send, Sync, Default);
assert_impl_all!(OutlierSnapshot: Clone, Send, Sync, std::fmt::Debug, Eq);

const MS: Duration = Duration::from_millis(1);

#[test]
fn neither_asking_nor_reporting_nor_the_end_of_an_interval_allocates() {
    let outliers = Outliers::new("orders", &OutlierConfig::new()).unwrap();
    let set = outliers.endpoints((0..10).map(|n| n.to_string())).unwrap();
    let start = Instant::now();
    let mut intervals = 0;
    let mut traffic = |seconds: u32| {
        let now = start + Duration::from_secs(1) * seconds;
        for n in 0..200 {
            for endpoint in 0..10 {
                assert!(set.is_usable(endpoint, now));
                // Suspicious for one interval in two, and never ejected.
                let odd = endpoint == 3 && (seconds / 10).is_multiple_of(2);
                let failed = n % if odd { 5 } else { 50 } == 0;
                let outcome = if failed {
                    Outcome::Failure
                } else {
                    Outcome::Success
                };
                set.report(endpoint, outcome, MS, now);
            }
        }
        intervals += 1;
    };
    // The first interval registers metrics.
    traffic(0);
    traffic(10);
    let used = measure(|| (2..20).for_each(|n| traffic(n * 10)));
    assert_eq!(used.count_total, 0);
    assert_eq!(intervals, 20);
    assert!(
        outliers
            .snapshot()
            .endpoints
            .iter()
            .all(|e| e.requests == 200)
    );
}

#[cfg(feature = "metrics")]
mod metrics {
    use gw_breaker::Mode;
    use gw_breaker::outlier::describe;
    use gw_testkit::metrics_capture::MetricsCapture;

    use super::*;

    const ORDERS: &[(&str, &str)] = &[("upstream", "orders")];

    #[tokio::test(start_paused = true)]
    async fn what_a_set_counts() {
        let outliers = Outliers::new("orders", &OutlierConfig::new()).unwrap();
        let set = outliers.endpoints(["a", "b", "c", "d"]).unwrap();
        // Installed after the set was made.
        let capture = MetricsCapture::new();
        capture.run(describe);
        let fail = |endpoint| {
            for _ in 0..5 {
                set.report(endpoint, Outcome::Failure, Duration::ZERO, Instant::now());
            }
        };
        let gauges = |healthy: f64, unhealthy: f64, ejected: f64| {
            capture.assert_gauge("gateway_upstream_healthy", ORDERS, healthy);
            capture.assert_gauge("gateway_upstream_unhealthy", ORDERS, unhealthy);
            capture.assert_gauge("gateway_upstream_ejected", ORDERS, ejected);
        };
        capture
            .scope(async {
                outliers.record_gauges();
                gauges(4.0, 0.0, 0.0);
                fail(1);
                gauges(3.0, 1.0, 1.0);
                outliers.set_healthy("c", false);
                gauges(2.0, 2.0, 1.0);
                outliers.eject("d");
                gauges(1.0, 3.0, 1.0);
                outliers.readmit("d");
                outliers.set_healthy("c", true);
                gauges(3.0, 1.0, 1.0);
                tokio::time::advance(Duration::from_secs(60)).await;
                // It is over, though no request has seen that.
                outliers.record_gauges();
                gauges(4.0, 0.0, 0.0);
                set.report(0, Outcome::Success, MS, Instant::now());
                gauges(4.0, 0.0, 0.0);
                outliers.set_mode(Mode::Shadow);
                fail(2);
                gauges(4.0, 0.0, 0.0);
            })
            .await;
        let reason = &[("upstream", "orders"), ("reason", "consecutive")];
        capture.assert_counter("gateway_ejections_total", reason, 1);
        capture.assert_counter("gateway_shadow_ejections_total", reason, 1);
        for series in capture.series() {
            assert!(
                capture.description(&series.name).is_some(),
                "{}",
                series.name
            );
        }
    }
}
