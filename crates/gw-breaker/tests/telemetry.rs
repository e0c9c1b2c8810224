//! Names, labels and numbers as a recorder sees them, and log lines. Alone in its binary: whether a line is enabled is
//! cached for the whole process.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use gw_breaker::{BreakerLayer, Mode};
use gw_testkit::log_capture::LogCapture;
use gw_testkit::metrics_capture::MetricsCapture;
use http::Request;
use support::{Inner, SECOND, config};
use tokio::time::advance;
use tower::{Layer as _, ServiceExt as _};

const STATE: &str = "gateway_circuit_breaker_state";
const TRANSITIONS: &str = "gateway_circuit_breaker_transitions_total";
const REJECTIONS: &str = "gateway_circuit_breaker_rejections_total";

#[tokio::test(start_paused = true)]
async fn a_recorder_sees_states_changes_and_refusals() {
    let layer = BreakerLayer::builder("orders")
        .config(config())
        .build()
        .unwrap();
    let inner = Inner::new();
    let send = async |status| {
        inner.status(status);
        layer
            .layer(inner.clone())
            .oneshot(Request::new(()))
            .await
            .unwrap();
    };
    // Installed after the layer was built: it must count all the same.
    let recorder = MetricsCapture::new();
    let logs = LogCapture::new();
    let orders = [("upstream", "orders")];
    let lived = async {
        gw_breaker::describe();
        recorder.assert_absent(STATE);
        layer.handle().record_gauges();
        recorder.assert_gauge(STATE, &orders, 0.0);
        send(200).await;
        recorder.assert_gauge(STATE, &orders, 0.0);
        for _ in 0..3 {
            send(500).await;
        }
        recorder.assert_gauge(STATE, &orders, 1.0);
        for _ in 0..5 {
            send(200).await;
        }
        layer.handle().set_mode(Mode::Shadow);
        send(200).await;
        layer.handle().set_mode(Mode::Enforce);
        advance(10 * SECOND).await;
        send(200).await;
        recorder.assert_gauge(STATE, &orders, 2.0);
        send(200).await;
        recorder.assert_gauge(STATE, &orders, 0.0);
    };
    logs.scope(recorder.scope(lived)).await;
    for (to, times) in [("open", 1), ("half_open", 1), ("closed", 1)] {
        recorder.assert_counter(TRANSITIONS, &[("upstream", "orders"), ("to", to)], times);
    }
    for (decision, times) in [("rejected", 5), ("would_reject", 1)] {
        recorder.assert_counter(
            REJECTIONS,
            &[("upstream", "orders"), ("decision", decision)],
            times,
        );
    }
    for name in [STATE, TRANSITIONS, REJECTIONS] {
        assert!(recorder.description(name).is_some());
    }
    // A line for each change, and none for a request.
    let lines: Vec<_> = logs
        .events_from("gw_breaker")
        .into_iter()
        .filter_map(|line| line.field("to"))
        .collect();
    assert_eq!(lines, ["open", "half_open", "closed"]);
}
