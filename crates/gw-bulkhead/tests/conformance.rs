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

/// Here it is the one client that is at its limit, not the lane.
mod counted_by_client {
    use gw_bulkhead::Codel;
    use gw_bulkhead::key::Global;

    use super::*;

    gw_testkit::conformance! {
        admits: Admits::InFlight(2),
        layer: |on_reject| {
            let lane = LaneConfig::new("core")
                .queue(8)
                .codel(Codel::new().adaptive_lifo())
                .deadline_aware(true)
                .per_key(Global, TWO);
            let places = NonZeroU32::new(100).unwrap();
            BulkheadLayer::builder(places).lane(lane).build().unwrap().on_reject(on_reject)
        },
    }
}
