//! What cannot be built.

use gw_logingest::intake::{IngestLimits, LogIngestBuilder, OnInvalid, Watermarks};

use gw_testkit::body::ScriptedBody;
use serde_json::json;

use super::intake_support::*;

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    let field = |change: fn(LogIngestBuilder<FakeQueue>) -> LogIngestBuilder<FakeQueue>| {
        change(builder(&FakeQueue::new()))
            .build()
            .unwrap_err()
            .field()
            .to_owned()
    };
    assert_eq!(field(|b| b.max_body_bytes(0)), "max_body_bytes");
    assert_eq!(field(|b| b.max_body_bytes(u64::MAX)), "max_body_bytes");
    assert_eq!(field(|b| b.max_events(0)), "max_events");
    assert_eq!(field(|b| b.idle_timeout(seconds(0))), "idle_timeout");
    assert_eq!(field(|b| b.body_timeout(seconds(9999))), "body_timeout");
    assert_eq!(
        field(|b| b.on_invalid(OnInvalid::Wrap { service: "".into() })),
        "on_invalid.service"
    );
    assert_eq!(
        field(|b| {
            let mut marks = Watermarks::default();
            marks.shed_debug = 10;
            b.watermarks(marks)
        }),
        "watermarks"
    );
}

/// Story: an incident needed smaller batches and an earlier mark, and the process had to be started anew for them.
#[tokio::test(start_paused = true)]
async fn limits_change_while_it_runs() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let handle = ingest.handle();
    let (body, uploading) = ScriptedBody::script()
        .data("[")
        .hold()
        .data(array(3).split_off(1))
        .build();
    let begun = tokio::spawn({
        let ingest = ingest.clone();
        async move { send(&ingest, request("application/json", body)).await }
    });
    uploading.held().await;

    let mut limits = handle.snapshot().limits;
    assert_eq!(limits, IngestLimits::default());
    limits.max_events = 2;
    limits.event.bytes = 500;
    limits.watermarks.suppress_own = 10;
    handle.set_limits(limits).unwrap();
    let mut unusable = limits;
    unusable.max_events = 0;
    let refused = handle.set_limits(unusable).unwrap_err();
    assert_eq!(refused.field(), "max_events");
    assert_eq!(handle.snapshot().limits, limits);

    let answer = send(&ingest, post(array(3))).await;
    assert_eq!((answer.status, answer.detail("maximum")), (413, &json!(2)));
    let long = event("info", &"x".repeat(500));
    assert_eq!(send(&ingest, post(long)).await.status, 422);
    queue.fill(10);
    let answer = send(&ingest, post(array(2))).await;
    assert_eq!(
        (answer.status, answer.header("x-gw-log-limits")),
        (202, "60:self:all")
    );
    // Whoever has begun goes by what held then.
    uploading.resume();
    assert_eq!(begun.await.unwrap().status, 202);
}
