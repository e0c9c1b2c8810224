//! Log lines. Alone in a process: whoever meets a line first without a subscriber keeps it from those who come later.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use gw_core::context::{SpanId, TraceContext, TraceId};
use gw_retry::{Budget, Mode, RetryLayer, RetryPolicy};
use gw_testkit::log_capture::LogCapture;
use http::Method;
use support::{request, response, run};

#[test]
fn what_is_logged() {
    let capture = LogCapture::new();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().unwrap()
    };
    capture.run(|| {
        runtime().block_on(async {
            let budget = Budget::builder("orders").ratio(0.0).min_per_second(0);
            let layer = RetryLayer::builder(budget.build().unwrap()).build();
            let trace = TraceContext {
                trace_id: TraceId::new([0xab; 16]).unwrap(),
                span_id: SpanId::new([1; 8]).unwrap(),
                sampled: true,
            };
            // A hundred of them within a second are one line.
            for _ in 0..100 {
                let mut sent = request(Method::GET);
                sent.extensions_mut().insert(trace);
                run(&layer, sent, [Ok(response(503))]).await.0.unwrap();
            }
            layer.handle().set_mode(Mode::Off);
            layer.handle().set_mode(Mode::Off);
            layer.handle().set_policy(RetryPolicy::none());
            layer.handle().budget().set_ratio(0.1).unwrap();
        });
    });
    capture.only("retry: the budget is zero, nothing will ever be retried");
    capture.only("retry: mode changed");
    let policy = capture.only("retry: policy changed");
    assert!(policy.field("policy").unwrap().contains("max_attempts: 1"));
    let budget = capture.only("retry: budget changed");
    assert!(budget.field("budget").unwrap().contains("ratio: 0.1"));
    let event = capture.only("retry: the budget is used up");
    let field = |name| event.field(name).unwrap();
    assert_eq!(field("event"), "retry_budget_exceeded");
    assert_eq!(field("service"), "orders");
    assert_eq!(field("trace_id"), "ab".repeat(16));
    let budget = field("budget");
    for part in ["\"orders\"", "ratio: 0.0", "ttl: 10s", "min_per_second: 0"] {
        assert!(budget.contains(part), "{part}: {budget}");
    }
    of_a_budget_that_begins_to_enforce();
}

/// Story: a budget that was zero by mistake was tried out first, and nobody was told when it became one in earnest.
fn of_a_budget_that_begins_to_enforce() {
    let zero = "retry: the budget is zero, nothing will ever be retried";
    let capture = LogCapture::new();
    let budget = capture.run(|| {
        let budget = Budget::builder("orders").ratio(0.0).min_per_second(0);
        let budget = budget.mode(Mode::Shadow).build().unwrap();
        budget.set_mode(Mode::Off);
        budget
    });
    let of_zero = |capture: &LogCapture| {
        let events = capture.events();
        events.iter().filter(|event| event.message == zero).count()
    };
    assert_eq!(of_zero(&capture), 0);
    capture.run(|| budget.set_mode(Mode::Enforce));
    assert_eq!(of_zero(&capture), 1);
}
