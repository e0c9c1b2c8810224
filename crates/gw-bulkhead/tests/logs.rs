//! Log lines. Alone in its binary: whether a line is enabled is cached for the whole process, and a test that logs without
//! a subscriber at the same time can disable it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::num::NonZeroU32;

use bytes::Bytes;
use gw_bulkhead::key::ClientIp;
use gw_bulkhead::{BulkheadLayer, LaneConfig, Lanes, Load, Mode, Signal};
use gw_testkit::log_capture::LogCapture;
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tower::{Layer as _, Service as _, service_fn};

const fn places(total: u32) -> NonZeroU32 {
    NonZeroU32::new(total).unwrap()
}

/// Requests that nobody has told the peer's address of, in a lane that counts by it.
fn without_key() {
    let lane = LaneConfig::new("logs").per_key(ClientIp::new(), places(2));
    let layer = BulkheadLayer::builder(places(2)).lane(lane).build();
    let answer =
        |_| std::future::ready(Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())));
    let mut service = layer.unwrap().layer(service_fn(answer));
    for _ in 0..3 {
        drop(service.call(Request::new(())));
    }
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
        // Story: mode, total and drain were told each time, so a configuration that was applied again and again filled the log.
        lanes.set_mode(Mode::Enforce);
        lanes.resize(places(1));
        for _ in 0..2 {
            // Twice the same, so once a change.
            lanes.set_mode(Mode::Shadow);
            lanes.resize(places(2));
            lanes.pressure().set(Signal::Memory, Load::High);
        }
        without_key();
        drop((lanes.drain(), lanes.drain()));
        let shadow = LaneConfig::new("logs").mode(Mode::Shadow);
        let lanes = Lanes::new(places(1), [shadow]).unwrap();
        let logs = lanes.find("logs").unwrap();
        let _entries = [(); 3].map(|()| lanes.enter(logs, Instant::now()));
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
            "bulkhead: the load of the machine changed",
            "bulkhead: requests without a key are counted as one client",
            "bulkhead: draining, new requests are refused",
            "bulkhead: a lane in shadow mode begins to let requests pass that it would refuse",
        ]
    );
    let missing = capture.only("bulkhead: requests without a key are counted as one client");
    assert_eq!(missing.field("lane").as_deref(), Some("logs"));
    assert!(
        missing.field("missing").unwrap().contains("peer"),
        "says what would provide it"
    );
    let refusing = capture.only("bulkhead: a lane begins to refuse requests");
    assert_eq!(refusing.field("lane").as_deref(), Some("core"));
    assert_eq!(refusing.field("reason").as_deref(), Some("lane_full"));
}
