//! Log lines. Alone in its binary: whether a line is enabled is cached for the whole process, and a test that logs without
//! a subscriber at the same time can disable it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::time::Duration;

use gw_breaker::outlier::{EndpointHealth as _, OutlierConfig, Outliers};
use gw_breaker::{Mode, Outcome};
use gw_testkit::log_capture::LogCapture;
use tokio::time::Instant;

#[test]
fn lines_are_logged_when_something_changes() {
    let capture = LogCapture::new();
    capture.run(|| {
        let outliers = Outliers::new("orders", &OutlierConfig::new()).unwrap();
        let set = outliers.endpoints(["a", "b", "c", "d"]).unwrap();
        let now = Instant::now();
        for _ in 0..100 {
            set.report(1, Outcome::Failure, Duration::ZERO, now);
        }
        outliers.set_healthy("a", false);
        outliers.set_healthy("a", false);
        outliers.set_healthy("c", false);
        outliers.set_healthy("c", true);
        outliers.set_healthy("a", true);
        let later = now + Duration::from_secs(60);
        set.report(0, Outcome::Success, Duration::ZERO, later);
        outliers.set_mode(Mode::Shadow);
        outliers.set_mode(Mode::Shadow);
    });
    let messages: Vec<_> = capture
        .events()
        .into_iter()
        .map(|event| event.message)
        .collect();
    const SET: &str = "outlier: an endpoint's state was set";
    assert_eq!(
        messages,
        [
            "outlier: an endpoint is ejected",
            SET,
            "outlier: too few endpoints are left, so all of them are used",
            SET,
            "outlier: enough endpoints are left, those that are out are not used",
            SET,
            SET,
            "outlier: an endpoint is back",
            "outlier: mode changed",
        ]
    );
    let ejected = capture.only("outlier: an endpoint is ejected");
    for (field, value) in [
        ("upstream", "orders"),
        ("endpoint", "b"),
        ("reason", "consecutive"),
    ] {
        assert_eq!(ejected.field(field).as_deref(), Some(value));
    }
}
