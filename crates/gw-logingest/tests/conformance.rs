//! The contract that every gw layer keeps, as the shared suite tests it.
//!
//! The suite's requests are not for the intake, so this covers all that the layer passes on. It renders no refusals into
//! the inner service's body type, so the renderers of the suite are not used.
#![allow(clippy::unwrap_used, reason = "a test")]

use gw_logingest::{LogIngest, MemoryQueue};

gw_testkit::conformance! {
    admits: Admits::All,
    layer: |_on_reject| LogIngest::builder(MemoryQueue::builder().build().unwrap())
        .build()
        .unwrap()
        .layer("/api/logs")
        .unwrap(),
}
