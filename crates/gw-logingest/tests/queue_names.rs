//! Queues beside each other, each with its intake and its consumer.
#![cfg(feature = "metrics")]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests: a broken expectation must stop the test at once"
)]

mod consumer_support;

use std::time::Duration;

use gw_logingest::sink::{Delivery, Item};
use gw_logingest::{DiskQueue, Event, LogIngest, MemoryQueue, Queue as _};
use gw_testkit::metrics_capture::MetricsCapture;
use http::Request;
use tower::ServiceExt as _;

use self::consumer_support::{Letters, Scripted, consumer};

const EVENT: &str =
    r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","service":"s","level":"info","message":"m"}"#;

/// So many requests go through this queue to a sink that takes them one by one.
async fn run(metrics: &MetricsCapture, queue: MemoryQueue, requests: u32) {
    let name = queue.name().map(str::to_owned);
    let label: Vec<_> = name.iter().map(|name| ("queue", name.as_str())).collect();
    let events = "gateway_logingest_queue_events";
    let intake = LogIngest::builder(queue.clone()).build().unwrap();
    for _ in 0..requests {
        let request = Request::post("/")
            .header("content-type", "application/json")
            .body(gw_core::Body::from(EVENT))
            .unwrap();
        let answer = intake.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 202);
    }
    queue.status();
    metrics.assert_gauge(events, &label, f64::from(requests));
    queue.close();
    let taken = |_, events: &[Event]| Delivery::Items(vec![Item::Delivered; events.len()]);
    let (sink, _) = Scripted::new(Duration::from_millis(1), taken);
    let consumer = consumer(queue, sink, &Letters::default()).max_events(1);
    let consumer = consumer.build().unwrap();
    consumer.run(std::future::pending()).await;
    metrics.assert_gauge(events, &label, 0.0);
}

#[tokio::test(start_paused = true)]
async fn all_that_is_measured_around_a_queue_has_its_name() {
    let metrics = MetricsCapture::new();
    let scenario = async {
        let named = |name: &str| MemoryQueue::builder().name(name).build().unwrap();
        run(&metrics, named("audit"), 1).await;
        run(&metrics, named("access"), 3).await;
        run(&metrics, MemoryQueue::builder().build().unwrap(), 2).await;
    };
    metrics.scope(scenario).await;
    for (name, requests) in [(Some("audit"), 1u32), (Some("access"), 3), (None, 2)] {
        let of = |more: &[(&'static str, &'static str)]| -> Vec<_> {
            let name = name.map(|name| ("queue", name));
            more.iter().copied().chain(name).collect()
        };
        metrics.assert_gauge("gateway_logingest_ledger_imbalance", &of(&[]), 0.0);
        assert!(metrics.gauge("gateway_logingest_sink_concurrency_limit", &of(&[])) >= 1.0);
        metrics.assert_gauge("gateway_logingest_dlq_held_clients", &of(&[]), 0.0);
        let requests = u64::from(requests);
        let accepted = of(&[("outcome", "accepted"), ("class", "normal")]);
        metrics.assert_counter("gateway_logingest_events_total", &accepted, requests);
        let delivered = of(&[("outcome", "delivered")]);
        metrics.assert_counter("gateway_logingest_sink_items_total", &delivered, requests);
        let answers = of(&[("code", "2xx")]);
        metrics.assert_counter("gateway_logingest_sink_requests_total", &answers, requests);
    }
}

#[test]
fn a_name_that_is_none_is_refused() {
    let memory = MemoryQueue::builder().name("").build().unwrap_err();
    assert_eq!(memory.field(), "name");
    let dir = tempfile::tempdir().unwrap();
    let disk = DiskQueue::builder(dir.path()).name("").open().unwrap_err();
    assert_eq!(disk.to_string(), "name: must not be empty");
}
