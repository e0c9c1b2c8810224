//! What is counted, and under which labels.

use gw_pipeline::server::{CloseReason, describe};
use gw_testkit::client::Client;
use gw_testkit::metrics_capture::MetricsCapture;

use crate::support::{Running, echo_path};

/// Story: connections that a bound refused or closed were counted in the snapshot alone, and nobody was told.
#[tokio::test]
async fn what_a_bound_closes_is_counted() {
    let running = Running::start(|b| b.max_connections_per_ip(1)).await;
    echo_path(&running.service);
    let mut first = Client::connect(running.addr).await;
    first.get("/").await;
    assert_eq!(first.read_answer().await.status(), 200);
    for refused in 1..=2 {
        drop(Client::connect(running.addr).await);
        running.closed(CloseReason::PerIpLimit, refused).await;
    }
    // Installed after the server was started, and read twice.
    let capture = MetricsCapture::new();
    capture.run(|| {
        describe();
        running.server.handle().record_gauges("public");
        running.server.handle().record_gauges("public");
    });
    let public = ("listener", "public");
    capture.assert_gauge("gateway_active_connections", &[public], 1.0);
    for reason in CloseReason::ALL {
        let count = match reason {
            CloseReason::PerIpLimit => 2,
            _ => 0,
        };
        let labels = [public, ("reason", reason.as_str())];
        capture.assert_counter("gateway_closed_connections_total", &labels, count);
    }
    capture.assert_counter("gateway_accept_errors_total", &[public], 0);
    capture.assert_counter("gateway_stalled_streams_total", &[public], 0);
    for series in capture.series() {
        let described = capture.description(&series.name).is_some();
        assert!(described, "{} is not described", series.name);
    }
}
