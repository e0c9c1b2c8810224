//! Log capture, with the macros that code under test uses.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use gw_testkit::log_capture::{LogCapture, LogValue};
use tracing::{Instrument, Level, debug, info, info_span, warn};

#[test]
fn fields_keep_their_types() {
    let capture = LogCapture::new();
    let error = io::Error::other("disk full");
    capture.run(|| {
        warn!(
            code = "CIRCUIT_OPEN",
            attempts = 3_u64,
            delta = -1_i64,
            ratio = 0.5,
            shadow = true,
            shown = %"plain",
            debugged = ?Some(1),
            error = &error as &dyn std::error::Error,
            "breaker opened for {}",
            "auth"
        );
    });
    let event = capture.only("breaker opened for auth");
    assert_eq!(
        (event.level, event.target.as_str()),
        (Level::WARN, module_path!())
    );
    let expected = [
        ("attempts", LogValue::U64(3)),
        ("code", LogValue::Str("CIRCUIT_OPEN".into())),
        ("debugged", LogValue::Formatted("Some(1)".into())),
        ("delta", LogValue::I64(-1)),
        ("error", LogValue::Formatted("disk full".into())),
        ("ratio", LogValue::F64(0.5)),
        ("shadow", LogValue::Bool(true)),
        ("shown", LogValue::Formatted("plain".into())),
    ];
    assert_eq!(event.fields.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn spans_come_with_their_fields_outermost_first() {
    let capture = LogCapture::new();
    capture.run(|| {
        info_span!("request", trace_id = "abc", status = tracing::field::Empty).in_scope(|| {
            tracing::Span::current().record("status", 503);
            info_span!("stage", name = "admit").in_scope(|| info!(name = "own", "refused"));
        });
        info!("outside");
    });
    let event = capture.only("refused");
    let names: Vec<_> = event.spans.iter().map(|span| span.name).collect();
    assert_eq!(names, ["request", "stage"]);
    assert_eq!(event.field("trace_id").as_deref(), Some("abc"));
    assert_eq!(event.field("status").as_deref(), Some("503"));
    assert_eq!(event.field("name").as_deref(), Some("own"));
    assert_eq!(event.field("absent"), None);
    assert!(capture.only("outside").spans.is_empty());
}

#[test]
fn captures_do_not_see_each_other_nor_what_is_outside() {
    let (one, other) = (LogCapture::new(), LogCapture::new());
    info!("nowhere");
    one.run(|| info!("in one"));
    other.run(|| info!("in the other"));
    assert_eq!((one.events().len(), other.events().len()), (1, 1));
    one.only("in one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_is_in_scope_on_every_thread() {
    let capture = LogCapture::new();
    let steps = async {
        for n in 0..50 {
            info!(n, "step");
            tokio::task::yield_now().await;
        }
    };
    // The span must be made inside the scope as well, or nobody listens to it.
    let work = async { steps.instrument(info_span!("work", id = 7)).await };
    let task = tokio::spawn(capture.scope(work));
    gw_testkit::within("the task", task).await.unwrap();
    let events = capture.events();
    assert_eq!(events.len(), 50);
    assert!(
        events
            .iter()
            .all(|event| event.field("id").as_deref() == Some("7"))
    );
}

#[test]
fn events_can_be_picked_by_target() {
    let capture = LogCapture::new();
    capture.run(|| {
        info!(target: "gw_bulkhead", "a");
        info!(target: "gw_bulkhead::limiter", "b");
        info!(target: "gw_bulkheads", "c");
    });
    let messages: Vec<_> = capture
        .events_from("gw_bulkhead")
        .into_iter()
        .map(|event| event.message)
        .collect();
    assert_eq!(messages, ["a", "b"]);
}

#[test]
fn silence_is_asserted_from_a_level_on() {
    let capture = LogCapture::new();
    capture.run(|| debug!("detail"));
    capture.assert_silent(Level::INFO);
    let loud = catch_unwind(AssertUnwindSafe(|| capture.assert_silent(Level::DEBUG)));
    assert!(loud.is_err());
}

#[test]
fn a_secret_is_found_in_message_field_and_span() {
    let says: [&dyn Fn(); 3] = [
        &|| info!("token s3cret"),
        &|| info!(token = "s3cret", "used"),
        &|| info_span!("login", token = "s3cret").in_scope(|| info!("used")),
    ];
    for say in says {
        let capture = LogCapture::new();
        capture.run(say);
        capture.assert_never_says("other");
        assert!(catch_unwind(AssertUnwindSafe(|| capture.assert_never_says("s3cret"))).is_err());
    }
}

#[test]
#[should_panic(expected = "2 events say \"twice\"")]
fn only_means_one() {
    let capture = LogCapture::new();
    capture.run(|| {
        info!("twice");
        info!("twice");
    });
    capture.only("twice");
}
