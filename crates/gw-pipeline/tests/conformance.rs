//! The stages of this crate keep the contract of every layer.

#![allow(clippy::unwrap_used, reason = "assertions")]

use gw_core::Body;
use gw_core::key::TrustedProxies;
use gw_pipeline::inbound::{
    IdentityHeaders, IdentityHeadersLayer, IpFilterLayer, RequestBody, RequestIdLayer, Route,
    RouteResolveLayer, RouteTable,
};
use gw_pipeline::outbound::AnswerLayer;
use gw_pipeline::plain;

mod request_id {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| RequestIdLayer::new(),
    }
}

mod route_resolve {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        request_body: RequestBody<Body>,
        layer: |on_reject| {
            let table = RouteTable::builder().route(Route::prefix("all", "/")).build().unwrap();
            RouteResolveLayer::new(table).on_reject(on_reject)
        },
    }
}

mod ip_filter {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| IpFilterLayer::new(TrustedProxies::none()).on_reject(on_reject),
    }
}

mod identity_headers {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| IdentityHeadersLayer::new(IdentityHeaders::default()),
    }
}

mod answer {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| AnswerLayer::new(),
    }
}

mod foreign_layer {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| plain(tower::layer::util::Identity::new()),
    }
}

mod pipeline {
    use super::*;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |_| gw_pipeline::Pipeline::builder().request_id(RequestIdLayer::new()).into_layer(),
    }
}

#[cfg(feature = "api-keys")]
mod api_keys {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gw_pipeline::inbound::{ApiKeys, ApiKeysLayer};

    gw_testkit::conformance! {
        admits: Admits::Total(2),
        layer: |on_reject| {
            let asked = AtomicUsize::new(0);
            ApiKeysLayer::new(ApiKeys::builder().build().unwrap())
                // The suite's requests carry no keys: the first two pass because of this, and the others are refused.
                .public(move |_| asked.fetch_add(1, Ordering::Relaxed) < 2)
                .on_reject(on_reject)
        },
    }
}

mod scopes {
    use gw_core::context::RouteMatch;
    use gw_pipeline::inbound::{Route, RouteTable, ScopesLayer};
    use http::Request;
    use tower::ServiceBuilder;

    gw_testkit::conformance! {
        admits: Admits::All,
        layer: |on_reject| {
            let table = RouteTable::builder().route(Route::prefix("all", "/")).build().unwrap();
            let scopes = ScopesLayer::by_route(&table, [("all", ["orders:read"])]).unwrap();
            let unmatched = |mut request: Request<_>| {
                request.extensions_mut().insert(RouteMatch::unmatched());
                request
            };
            ServiceBuilder::new().map_request(unmatched).layer(scopes.on_reject(on_reject)).into_inner()
        },
    }
}
