//! The contract that every gw layer keeps, as the shared suite tests it.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::sink;

use gw_observe::{AccessLog, ObserveLayer, RequestBody, Trust};

mod without_a_log {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        request_body: RequestBody<gw_core::Body>,
        layer: |_| ObserveLayer::builder().build().unwrap(),
    }
}

mod with_all {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        request_body: RequestBody<gw_core::Body>,
        layer: |_| {
            let log = AccessLog::builder().writer(sink()).normal(1.0).start().unwrap();
            let layer = ObserveLayer::builder().access_log(&log).trust(Trust::Everybody);
            // Dropped here: the layer works on, and counts its lines as lost.
            layer.build().unwrap()
        },
    }
}
