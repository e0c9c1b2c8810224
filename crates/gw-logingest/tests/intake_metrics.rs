//! The metrics of the intake, with the feature `metrics`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod intake_support;

use gw_logingest::{LogIngest, Mode};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use gw_testkit::metrics_capture::{MetricsCapture, Value};
use intake_support::*;
use tokio::time::timeout;

#[tokio::test(start_paused = true)]
async fn a_recorder_installed_later_counts() {
    let queue = FakeQueue::new();
    // Built outside of the scope.
    let ingest = builder(&queue).build().unwrap();
    let capture = MetricsCapture::new();
    let lines = format!(
        "{}\n{}\nbroken",
        event("error", "a"),
        of_kind("upload_failure", "own")
    );
    let broken_off = format!("[{},{},", event("info", "a"), event("info", "a"));
    let shadowed = format!("[{},{}]", event("info", "a"), event("debug", "a"));
    let received = lines.len() + "[".len() + broken_off.len() + shadowed.len();
    capture
        .scope(async {
            send(&ingest, ndjson(lines)).await;
            send(&ingest, post("[")).await;
            send(&ingest, post(broken_off)).await;
            queue.fill(96);
            ingest.handle().set_mode(Mode::Shadow);
            send(&ingest, post(shadowed)).await;
        })
        .await;
    let requests = "gateway_logingest_requests_total";
    capture.assert_counter(requests, &[("code", "ACCEPTED"), ("format", "ndjson")], 1);
    capture.assert_counter(requests, &[("code", "ACCEPTED"), ("format", "json")], 1);
    capture.assert_counter(
        requests,
        &[("code", "MALFORMED_REQUEST"), ("format", "json")],
        2,
    );
    let events = "gateway_logingest_events_total";
    capture.assert_counter(events, &[("outcome", "accepted"), ("class", "error")], 1);
    capture.assert_counter(events, &[("outcome", "accepted"), ("class", "self")], 1);
    capture.assert_counter(events, &[("outcome", "rejected"), ("class", "unknown")], 1);
    capture.assert_counter(events, &[("outcome", "refused"), ("class", "unknown")], 2);
    capture.assert_counter(
        "gateway_logingest_reject_total",
        &[("code", "invalid_json")],
        1,
    );
    capture.assert_gauge("gateway_logingest_ledger_imbalance", &[], 0.0);
    let bytes = "gateway_logingest_bytes_total";
    capture.assert_counter(bytes, &[("stage", "received")], received as u64);
    let stored = queue.batches();
    let stored = stored.iter().map(|batch| batch.encoded().len());
    capture.assert_counter(bytes, &[("stage", "stored")], stored.sum::<usize>() as u64);
    let shadowed = "gateway_logingest_shadowed_events_total";
    capture.assert_counter(shadowed, &[("rule", "shed")], 1);
    capture.assert_counter(shadowed, &[("rule", "audit_only")], 2);
    assert_eq!(capture.counter_sum(events), 7);
}

/// Story: who hung up within a body had sent nothing.
#[tokio::test(start_paused = true)]
async fn bytes_of_requests_that_were_given_up_count_as_received() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let gate = Gate::new();
    queue.append_by(Append::Wait(gate.clone()));
    let capture = MetricsCapture::new();
    let (half, whole) = (format!("[{},", event("info", "a")), array(2));
    let received = half.len() + whole.len();
    capture
        .scope(async {
            let (body, handle) = ScriptedBody::script().data(half).hold().build();
            let reading = send(&ingest, request("application/json", body));
            assert!(timeout(seconds(1), reading).await.is_err());
            assert!(handle.is_dropped());
            let storing = send(&ingest, post(whole));
            assert!(timeout(seconds(1), storing).await.is_err());
        })
        .await;
    let bytes = "gateway_logingest_bytes_total";
    capture.assert_counter(bytes, &[("stage", "received")], received as u64);
}

/// Whatever clients send, no label takes its value from them.
#[tokio::test(start_paused = true)]
async fn labels_are_a_closed_set() {
    let queue = FakeQueue::new();
    let ingest: LogIngest<_> = builder(&queue).build().unwrap();
    let capture = MetricsCapture::new();
    capture
        .scope(async {
            for n in 0..200 {
                let mut request = post(format!(r#"{{"trace_id":"{n}","x{n}":1}}"#));
                request
                    .headers_mut()
                    .insert("content-type", format!("application/x{n}").parse().unwrap());
                send(&ingest, request).await;
                send(&ingest, post(format!(r#"{{"trace_id":"{n}","x{n}":1}}"#))).await;
            }
        })
        .await;
    assert!(capture.series().len() < 10, "{:?}", capture.series());
    assert!(
        capture
            .series()
            .iter()
            .any(|series| matches!(series.value, Value::Counter(200)))
    );
}

#[test]
fn each_metric_is_described() {
    let capture = MetricsCapture::new();
    capture.run(gw_logingest::describe);
    for name in [
        "requests_total",
        "events_total",
        "reject_total",
        "ledger_imbalance",
        "shadowed_events_total",
        "bytes_total",
        "recovery_truncated_bytes_total",
        "loops_total",
        "queue_bytes",
        "sink_items_total",
    ] {
        assert!(
            capture
                .description(&format!("gateway_logingest_{name}"))
                .is_some(),
            "{name}"
        );
    }
}
