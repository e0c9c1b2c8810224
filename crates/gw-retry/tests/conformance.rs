//! The contract of every layer.
#![allow(clippy::unwrap_used, reason = "a test")]

mod retry {
    use gw_retry::{Budget, ReplayBody, RetryLayer};

    gw_testkit::conformance! {
        admits: Admits::All,
        request_body: ReplayBody<gw_testkit::gw_core::Body>,
        layer: |_on_reject| RetryLayer::builder(Budget::builder("orders").build().unwrap()).build(),
    }
}

mod deadline {
    use std::time::Duration;

    use gw_retry::timeout::DeadlineLayer;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| DeadlineLayer::new().limit(Duration::from_secs(3600)).unwrap().on_reject(on_reject),
    }
}

mod attempt_timeout {
    use std::time::Duration;

    use gw_retry::timeout::{AttemptTimeoutLayer, AttemptTimeouts};

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| {
            let hour = Duration::from_secs(3600);
            let limits = AttemptTimeouts::new().attempt(hour).unwrap().first_byte(hour).unwrap();
            AttemptTimeoutLayer::new(limits.idle(hour).unwrap()).on_reject(on_reject)
        },
    }
}

mod hedge {
    use gw_retry::hedge::HedgeLayer;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_on_reject| HedgeLayer::builder("orders").build().unwrap(),
    }
}
