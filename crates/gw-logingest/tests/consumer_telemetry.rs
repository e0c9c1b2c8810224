//! Metrics and log lines of the consumer, with the features `metrics` and `tracing`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod consumer_support;

use std::future::pending;
use std::time::Duration;

use gw_logingest::queue::Leased;
use gw_logingest::sink::{Delivery, Fault, Item, Reason};
use gw_logingest::{Queue, Want};
use gw_testkit::log_capture::LogCapture;
use gw_testkit::metrics_capture::MetricsCapture;

use self::consumer_support::{Letters, Scripted, all, batch_by, consumer, fill, queue};

#[tokio::test(start_paused = true)]
async fn numbers_and_changes_of_state_are_told() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    fill(&queue, 0..10, 10).await;
    queue.close();
    let (sink, _) = Scripted::new(Duration::from_millis(1), |number, events| match number {
        0 | 1 => Delivery::Retry {
            after: None,
            fault: Fault::Throttled,
        },
        2 => Delivery::Blocked(Reason::new("Forbidden", "no").with_status(403)),
        3 => {
            let mut items = vec![Item::Delivered; events.len()];
            items[0] = Item::Duplicate;
            items[1] = Item::Rejected(Reason::new("k", "m"));
            items[2] = Item::Retry;
            Delivery::Items(items)
        }
        _ => all(Item::Delivered)(events),
    });
    let (metrics, logs) = (MetricsCapture::new(), LogCapture::new());
    let consumer = consumer(queue, sink, &letters).build().unwrap();
    metrics.scope(logs.scope(consumer.run(pending()))).await;

    let requests = "gateway_logingest_sink_requests_total";
    for (code, count) in [("429", 2), ("4xx", 1), ("2xx", 2)] {
        metrics.assert_counter(requests, &[("code", code)], count);
    }
    let items = "gateway_logingest_sink_items_total";
    for (outcome, count) in [
        ("delivered", 8),
        ("duplicate", 1),
        ("retried", 31),
        ("dead", 1),
    ] {
        metrics.assert_counter(items, &[("outcome", outcome)], count);
    }
    let dead = "gateway_logingest_dlq_events_total";
    metrics.assert_counter(dead, &[("reason", "rejected")], 1);
    metrics.assert_gauge("gateway_logingest_sink_paused", &[], 0.0);

    let states: Vec<_> = logs
        .events_from("gw_logingest::consumer::telemetry")
        .iter()
        .filter_map(|event| event.field("state"))
        .collect();
    assert_eq!(states, ["backing_off", "blocked", "delivering", "stopped"]);
}

/// Who asked whether delivery was paused had no answer until it had been once; and one that was stopped while it was paused
/// remained so.
#[tokio::test(start_paused = true)]
async fn gauges_are_there_at_the_start_and_come_back_at_the_end() {
    const PAUSED: &str = "gateway_logingest_sink_paused";
    const HELD: &str = "gateway_logingest_dlq_held_clients";
    let (queue, letters) = (queue(), Letters::bounded(10));
    letters.share(0);
    let (sink, _) = Scripted::new(Duration::from_millis(1), |number, events| match number {
        0 => all(Item::Rejected(Reason::new("k", "m")))(events),
        _ => Delivery::Blocked(Reason::new("Forbidden", "no").with_status(403)),
    });
    let metrics = MetricsCapture::new();
    let consumer = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = consumer.handle();
    let scenario = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        metrics.assert_gauge(PAUSED, &[], 0.0);
        metrics.assert_gauge(HELD, &[], 0.0);
        let poison = batch_by("poison", &[("p".to_owned(), 10)]);
        queue.append(poison).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        fill(&queue, 0..10, 10).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        metrics.assert_gauge(PAUSED, &[], 1.0);
        metrics.assert_gauge(HELD, &[], 1.0);
    };
    metrics.scope(consumer.run(scenario)).await;
    metrics.assert_gauge(PAUSED, &[], 0.0);
    metrics.assert_gauge(HELD, &[], 0.0);
    assert_eq!(handle.status().held_clients, 0);
}

#[tokio::test(start_paused = true)]
async fn answers_are_counted_by_their_class() {
    let queue = queue();
    fill(&queue, 0..10, 10).await;
    queue.close();
    // A sink behind a proxy that knows it by another name, and one whose port is somebody else's.
    let (sink, _) = Scripted::new(Duration::from_millis(1), |number, events| match number {
        0 => Delivery::Blocked(Reason::new("Found", "").with_status(302)),
        1 => Delivery::Blocked(Reason::new("No Content", "").with_status(204)),
        2 => Delivery::Blocked(Reason::new("of a sink without statuses", "")),
        3 => Delivery::Blocked(Reason::new("Forbidden", "").with_status(403)),
        _ => all(Item::Delivered)(events),
    });
    let metrics = MetricsCapture::new();
    let consumer = consumer(queue, sink, &Letters::bounded(10));
    metrics
        .scope(consumer.build().unwrap().run(pending()))
        .await;
    for (code, count) in [("other", 3), ("4xx", 1), ("2xx", 1)] {
        let requests = "gateway_logingest_sink_requests_total";
        metrics.assert_counter(requests, &[("code", code)], count);
    }
}

/// An alert on the age of the oldest batch saw nothing of a queue in memory.
#[tokio::test(start_paused = true)]
async fn a_queue_in_memory_is_measured_like_one_on_disk() {
    let queue = queue();
    let metrics = MetricsCapture::new();
    let down = |_, _: &[gw_logingest::Event]| Delivery::Retry {
        after: None,
        fault: Fault::Unavailable,
    };
    let (sink, _) = Scripted::new(Duration::from_millis(1), down);
    let consumer = consumer(queue.clone(), sink, &Letters::default());
    let delivering = consumer.build().unwrap();
    let scenario = async {
        fill(&queue, 0..25, 10).await;
        // Nothing comes, nothing goes, and nobody asks.
        let stop = tokio::time::sleep(Duration::from_secs(6));
        delivering.run(stop).await;
    };
    metrics.scope(scenario).await;
    let gauge = |name: &str| format!("gateway_logingest_queue_{name}");
    metrics.assert_gauge(&gauge("events"), &[], 25.0);
    let status = queue.status();
    metrics.assert_gauge(&gauge("bytes"), &[], status.bytes as f64);
    let ratio = status.bytes as f64 / status.capacity as f64;
    metrics.assert_gauge(&gauge("capacity_ratio"), &[], ratio);
    metrics.assert_gauge(&gauge("serving"), &[], 1.0);
    let age = metrics.gauge(&gauge("oldest_age_seconds"), &[]);
    assert!(age > 0.0, "{age}");
    queue.close();
    metrics.assert_gauge(&gauge("serving"), &[], 0.0);
    metrics.assert_gauge(&gauge("events"), &[], 25.0);
    // Nobody looks at a queue that has been delivered to its end.
    let everything = Want {
        bytes: usize::MAX,
        events: usize::MAX,
    };
    let leased = queue.lease(everything).await;
    leased.into_iter().for_each(Leased::acknowledge);
    metrics.assert_gauge(&gauge("events"), &[], 0.0);
    metrics.assert_gauge(&gauge("oldest_age_seconds"), &[], 0.0);
}
