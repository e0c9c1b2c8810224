//! What can be built, and where the types fit.

use bytes::Bytes;
use gw_bulkhead::threads::{ResponseBody, Threads};
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_core::Body;
use http_body::Body as _;
use static_assertions::assert_impl_all;

use super::support::{call, places, request};
use super::{controlled, logs, two_lanes};

#[test]
fn what_cannot_work_is_not_built() {
    let lane = logs().threads(1);
    let error = BulkheadLayer::builder(places(1))
        .lane(lane)
        .build()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "lanes.logs.threads: needs a bulkhead built `with_threads`"
    );
    let lane = logs().threads(257);
    let error = BulkheadLayer::builder(places(1))
        .lane(lane)
        .with_threads()
        .build()
        .unwrap_err();
    assert_eq!(error.to_string(), "lanes.logs.threads: must be at most 256");
    for (lane, message) in [
        (logs().nice(1), "lanes.logs.nice: needs threads"),
        (
            logs().threads(1).nice(20),
            "lanes.logs.nice: must be at most 19",
        ),
        (logs().nice(20), "lanes.logs.nice: must be at most 19"),
    ] {
        let builder = BulkheadLayer::builder(places(1)).lane(lane).with_threads();
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
    let nicest = logs().threads(1).nice(LaneConfig::MAX_NICE);
    let builder = BulkheadLayer::builder(places(1)).lane(nicest);
    assert!(builder.with_threads().build().is_ok());
}

#[test]
fn types_fit_where_they_must() {
    assert_impl_all!(BulkheadLayer<Threads>: Clone, Send, Sync, std::fmt::Debug);
    assert_impl_all!(gw_bulkhead::threads::ResponseBody<Body>: From<Bytes>, Send, std::fmt::Debug);
    fn is_send<T: Send>(_: &T) {}
    let layer = two_lanes(logs());
    let (mut service, _handle) = controlled(&layer);
    is_send(&service);
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(async {
            is_send(&*call(&mut service, request()).await);
        });
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(ResponseBody::<Body>::default().is_end_stream());
}
