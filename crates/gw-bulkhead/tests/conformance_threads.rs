//! The contract of every layer, for a lane on a thread of its own.
//!
//! Without the cases that expect a place back in the moment in which a future or a body is dropped: what runs on the
//! lane's thread is dropped there, when the thread gets round to it. `threads.rs` waits for that.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;

use gw_bulkhead::threads::Threads;
use gw_bulkhead::{BulkheadLayer, LaneConfig, Respond, RespondWith};
use gw_core::Body;
use gw_testkit::conformance::{self, Admits, AnyBody, AxumBody, FullBody, GwBody, TonicBody};

const ADMITS: Admits = Admits::InFlight(2);

fn layer<R>(on_reject: R) -> BulkheadLayer<Threads, R> {
    // One thread: the suite answers calls in the order in which they were made, which two would not keep.
    let lane = LaneConfig::new("core").threads(1);
    let layer = BulkheadLayer::builder(NonZeroU32::new(2).unwrap())
        .lane(lane)
        .with_threads();
    layer.build().unwrap().on_reject(on_reject)
}

macro_rules! cases {
    ($($case:ident)*) => {
        $(
            #[tokio::test]
            async fn $case() {
                async fn over<B: AnyBody>() {
                    conformance::$case::<_, B, _, Body>(layer(RespondWith::new(B::whole)), ADMITS).await;
                }
                over::<AxumBody>().await;
                over::<GwBody>().await;
                over::<FullBody>().await;
                over::<TonicBody>().await;
            }
        )*
    };
}

cases! {
    sixteen_layers_share_one_limit
    touches_nothing_when_it_refuses
    forwards_readiness
    holds_nothing_when_idle
    gives_back_at_the_last_frame
    holds_until_the_body_ends
    keeps_bodies_as_they_are
    keeps_errors_of_bodies
    keeps_bounds_of_the_size
    works_inside_compression
}

#[tokio::test]
async fn holds_through_axum_serve() {
    conformance::holds_through_axum_serve(layer(Respond::new()), ADMITS).await;
}

#[tokio::test]
async fn keeps_upgraded_connections() {
    conformance::keeps_upgraded_connections(layer(Respond::new()), ADMITS).await;
}
