//! Log lines. Alone in its binary: whether a line is enabled is cached for the whole process, and a test that logs without
//! a subscriber at the same time can disable it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;

use gw_bulkhead::{LaneConfig, Lanes, Mode};
use gw_testkit::log_capture::LogCapture;
use tokio::time::Instant;

const fn places(total: u32) -> NonZeroU32 {
    NonZeroU32::new(total).unwrap()
}

#[test]
fn lines_are_logged_when_something_changes() {
    let capture = LogCapture::new();
    capture.run(|| {
        let lanes = Lanes::new(places(1), [LaneConfig::new("core")]).unwrap();
        let core = lanes.find("core").unwrap();
        let _held = lanes.try_admit(core).unwrap();
        for _ in 0..100 {
            drop(lanes.enter(core, Instant::now()));
        }
        lanes.set_mode(Mode::Shadow);
        lanes.resize(places(2));
        drop(lanes.drain());
    });
    let messages: Vec<_> = capture
        .events()
        .into_iter()
        .map(|event| event.message)
        .collect();
    assert_eq!(
        messages,
        [
            "bulkhead: a lane begins to refuse requests",
            "bulkhead: mode changed",
            "bulkhead: total changed",
            "bulkhead: draining, new requests are refused",
        ]
    );
    let refusing = capture.only("bulkhead: a lane begins to refuse requests");
    assert_eq!(refusing.field("lane").as_deref(), Some("core"));
    assert_eq!(refusing.field("reason").as_deref(), Some("lane_full"));
}
