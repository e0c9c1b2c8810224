//! Metric capture, with the macros that code under test uses.
#![allow(clippy::disallowed_macros, reason = "these tests are about the macros")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use gw_testkit::metrics_capture::{MetricsCapture, Value};
use metrics::{counter, describe_counter, gauge, histogram};

#[test]
fn values_are_read_by_name_and_labels_in_any_order() {
    let capture = MetricsCapture::new();
    capture.run(|| {
        counter!("hits_total", "policy" => "a", "decision" => "deny").increment(2);
        counter!("hits_total", "policy" => "b", "decision" => "deny").increment(5);
        gauge!("level").set(2.5);
        histogram!("wait_seconds", "lane" => "log").record(3.0);
        histogram!("wait_seconds", "lane" => "log").record(1.0);
    });
    capture.assert_counter("hits_total", &[("decision", "deny"), ("policy", "a")], 2);
    assert_eq!(capture.counter_sum("hits_total"), 7);
    capture.assert_gauge("level", &[], 2.5);
    assert_eq!(
        capture.histogram("wait_seconds", &[("lane", "log")]),
        [1.0, 3.0]
    );
    capture.assert_recorded("wait_seconds", &[("lane", "log")], 2);
    assert_eq!(capture.find("hits_total", &[("policy", "a")]), None);
    capture.assert_absent("misses_total");
    let names: Vec<_> = capture
        .series()
        .into_iter()
        .map(|series| series.name)
        .collect();
    assert_eq!(names, ["hits_total", "hits_total", "level", "wait_seconds"]);
}

/// metrics-util's own snapshot sets what it reads to 0; then the second assertion would see -1.
#[test]
fn reading_leaves_the_values_alone() {
    let capture = MetricsCapture::new();
    capture.run(|| {
        gauge!("in_flight").increment(1.0);
        histogram!("wait_seconds").record(1.0);
        counter!("hits_total").increment(1);
        for _ in 0..2 {
            capture.assert_gauge("in_flight", &[], 1.0);
            capture.assert_recorded("wait_seconds", &[], 1);
            capture.assert_counter("hits_total", &[], 1);
        }
        gauge!("in_flight").decrement(1.0);
    });
    capture.assert_gauge("in_flight", &[], 0.0);
}

#[test]
fn a_handle_stays_with_the_capture_it_was_registered_under() {
    let capture = MetricsCapture::new();
    let early = counter!("hits_total");
    early.increment(1);
    capture.assert_absent("hits_total");
    let late = capture.run(|| counter!("hits_total"));
    std::thread::spawn(move || late.increment(3))
        .join()
        .unwrap();
    capture.assert_counter("hits_total", &[], 3);
}

#[test]
fn captures_do_not_see_each_other() {
    let (one, other) = (MetricsCapture::new(), MetricsCapture::new());
    one.run(|| counter!("hits_total").increment(1));
    other.run(|| counter!("hits_total").increment(2));
    assert_eq!(
        (
            one.counter("hits_total", &[]),
            other.counter("hits_total", &[])
        ),
        (1, 2)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_is_in_scope_on_every_thread() {
    let capture = MetricsCapture::new();
    let inside = capture.clone();
    let task = tokio::spawn(async move {
        let work = async {
            for _ in 0..100 {
                counter!("polls_total").increment(1);
                tokio::task::yield_now().await;
            }
        };
        inside.scope(work).await;
        counter!("polls_total").increment(1);
    });
    gw_testkit::within("the task", task).await.unwrap();
    capture.assert_counter("polls_total", &[], 100);
}

#[test]
fn descriptions_are_kept() {
    let capture = MetricsCapture::new();
    capture.run(|| describe_counter!("hits_total", metrics::Unit::Count, "What was hit."));
    let description = capture.description("hits_total").unwrap();
    assert_eq!(
        (description.unit, description.text.as_str()),
        (Some(metrics::Unit::Count), "What was hit.")
    );
    assert_eq!(capture.description("misses_total"), None);
    capture.assert_absent("hits_total");
}

#[test]
fn a_missing_or_wrong_metric_is_an_error_that_lists_what_there_is() {
    let capture = MetricsCapture::new();
    capture.run(|| counter!("hits_total", "policy" => "a").increment(2));
    let message = |check: &dyn Fn()| {
        let panicked = catch_unwind(AssertUnwindSafe(check)).unwrap_err();
        *panicked.downcast::<String>().unwrap()
    };
    let missing = message(&|| capture.assert_counter("hits_total", &[], 2));
    assert!(
        missing.contains("no counter hits_total[]") && missing.contains("\"policy\""),
        "{missing}"
    );
    let wrong_kind = message(&|| capture.assert_gauge("hits_total", &[("policy", "a")], 2.0));
    assert!(
        wrong_kind.contains(&format!("but a {:?}", Value::Counter(2))),
        "{wrong_kind}"
    );
    let wrong_value = message(&|| capture.assert_counter("hits_total", &[("policy", "a")], 3));
    assert!(wrong_value.contains("counter hits_total"), "{wrong_value}");
}
