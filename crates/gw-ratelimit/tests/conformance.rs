//! The contract that every gw layer keeps, as the shared suite tests it.
#![allow(clippy::unwrap_used, reason = "a test")]

use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{Policy, Quota, RateLimitLayer};

mod that_refuses {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        layer: |on_reject| RateLimitLayer::builder()
            .policy(Policy::new("per_ip", Quota::per_hour(1).burst(2)).key(ClientIp::new()))
            .policy(Policy::new("total", Quota::per_hour(1).burst(50)))
            .build()
            .unwrap()
            .on_reject(on_reject),
    }
}

mod that_lets_all_pass {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| RateLimitLayer::builder()
            .policy(Policy::new("per_ip", Quota::per_second(1_000_000)).key(ClientIp::new()))
            .build()
            .unwrap()
            .on_reject(on_reject),
    }
}
