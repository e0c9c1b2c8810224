//! The contract of every layer.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;

use gw_bulkhead::{BulkheadLayer, LaneConfig};

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

gw_testkit::conformance! {
    admits: Admits::InFlight(2),
    layer: |on_reject| {
        let lane = LaneConfig::new("core");
        BulkheadLayer::builder(TWO).lane(lane).build().unwrap().on_reject(on_reject)
    },
}

mod limited_in_time {
    use std::time::Duration;

    use super::*;

    gw_testkit::conformance! {
        admits: Admits::InFlight(2),
        layer: |on_reject| {
            let lane = LaneConfig::new("core").max_hold(Duration::from_secs(3600));
            BulkheadLayer::builder(TWO).lane(lane).build().unwrap().on_reject(on_reject)
        },
    }
}
