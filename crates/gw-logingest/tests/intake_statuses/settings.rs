//! What cannot be built.

use gw_logingest::intake::{LogIngestBuilder, OnInvalid, Watermarks};

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
