//! The gauge of a state whose breaker is forgotten.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::num::NonZeroU32;

use gw_breaker::{BreakerLayer, State, UpstreamName};
use gw_testkit::metrics_capture::MetricsCapture;
use http::Request;
use support::{Inner, SECOND, config};
use tokio::time::advance;
use tower::{Layer as _, ServiceExt as _};

const STATE: &str = "gateway_circuit_breaker_state";

/// Story: the gauge of an open breaker that was forgotten said for ever that its upstream was kept away. And who held its handle
/// still, or recorded its gauge, had it say so of the breaker that was made anew under the name.
#[tokio::test(start_paused = true)]
async fn who_is_forgotten_shows_nothing_any_more() {
    let layer = BreakerLayer::builder("other")
        .config(config())
        .per_upstream()
        .capacity(NonZeroU32::MIN)
        .idle(20 * SECOND)
        .build()
        .unwrap();
    let inner = Inner::new();
    let send = async |upstream, status| {
        inner.status(status);
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new(upstream));
        layer.layer(inner.clone()).oneshot(request).await.unwrap();
    };
    let recorder = MetricsCapture::new();
    let orders = [("upstream", "orders")];
    let lived = async {
        for _ in 0..3 {
            send("orders", 500).await;
        }
        recorder.assert_gauge(STATE, &orders, 1.0);
        let orphan = layer.handle().upstream("orders").unwrap();
        send("new", 200).await;
        advance(20 * SECOND).await;
        send("new", 200).await;
        assert!(layer.handle().upstream("orders").is_none());
        recorder.assert_gauge(STATE, &orders, 0.0);
        orphan.record_gauges();
        recorder.assert_gauge(STATE, &orders, 0.0);
        // One of the same name is not the same.
        send("orders", 200).await;
        let successor = layer.handle().upstream("orders").unwrap();
        orphan.reset();
        orphan.force_open();
        recorder.assert_gauge(STATE, &orders, 0.0);
        successor.force_open();
        recorder.assert_gauge(STATE, &orders, 1.0);
        orphan.reset();
        orphan.record_gauges();
        recorder.assert_gauge(STATE, &orders, 1.0);
        // Who waits for its changes hears of them all the same.
        let mut changes = orphan.subscribe();
        orphan.force_open();
        assert_eq!(changes.changed().await, Some(State::ForcedOpen));
    };
    recorder.scope(lived).await;
}
