//! A gateway in front of one upstream. The order of its stages is a type: swap two of the lines below, and it does not compile.
//!
//! `typed-pipeline UPSTREAM [LISTEN]`, such as `typed-pipeline http://127.0.0.1:9000`. It prints what it is made of, and an access
//! log. Try: `curl -i -H 'x-api-key: k1' http://127.0.0.1:3000/orders`, and the same without the key.
#![allow(clippy::print_stdout, reason = "it says what it is made of")]

use std::{env, error::Error, time::Duration};

use gw_breaker::BreakerLayer;
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_observe::{AccessLog, ObserveLayer};
use gw_pipeline::inbound::{
    ApiKey, ApiKeys, ApiKeysLayer, IdentityHeaders, IdentityHeadersLayer, IpFilterLayer, KeyDigest,
    RequestIdLayer, Route, RouteResolveLayer, RouteTable, ScopesLayer,
};
use gw_pipeline::server::{Server, ServerConfig};
use gw_pipeline::upstream::{Forward, Upstream};
use gw_pipeline::{Pipeline, TrustedProxies};
use gw_ratelimit::key::{ClientIp, Consumer};
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use gw_retry::{Budget, RetryLayer};
use http::Method;
use tokio::net::TcpListener;

/// The SHA-256 of the key `k1`: the key itself is nowhere here.
const K1: &str = "6ab9f1eb8f7d3388f4f9d586f66e99fd54080df2c446f0e58668b09c08a16dd0";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let upstream = env::args().nth(1).ok_or("which upstream?")?;
    let listen = env::args().nth(2);
    let listen = listen.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let orders = Route::prefix("orders", "/orders").methods([Method::GET]);
    let orders = orders.upstream("orders").lane("orders");
    let orders = orders.deadline(Duration::from_secs(5));
    let routes = RouteTable::builder().route(orders).build()?;
    let per_client = Policy::new("per_client", Quota::per_second(50)).key(ClientIp::new());
    let per_consumer = Policy::new("per_consumer", Quota::per_second(20)).key(Consumer);
    let lanes = BulkheadLayer::builder(200).lane(LaneConfig::new("orders").queue(50));
    let acme = ApiKey::new("acme", K1.parse::<KeyDigest>()?).scopes(["orders:read"]);
    let keys = ApiKeys::builder().key(acme).build()?;
    let scopes = ScopesLayer::by_route(&routes, [("orders", ["orders:read"])])?;
    let log = AccessLog::builder().normal(1.0).stdout().start()?;
    // A retry asks the breaker anew, and the breaker sees each attempt's timer expire: this order is a type as well.
    let orders = Upstream::builder("orders")
        .endpoint(upstream.parse()?)
        .retry(RetryLayer::builder(Budget::builder("orders").build()?).build())
        .breaker(BreakerLayer::builder("orders").build()?)
        .build()?;
    let forward = Forward::new([orders])?;

    let gateway = Pipeline::builder()
        .observe(ObserveLayer::builder().access_log(&log).build()?)
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes))
        .ip_filter(IpFilterLayer::new(TrustedProxies::none()))
        .pre_auth_limit(RateLimitLayer::builder().policy(per_client).build()?)
        .admit(lanes.build()?)
        .authenticate(ApiKeysLayer::new(keys))
        .post_auth_limit(RateLimitLayer::builder().policy(per_consumer).build()?)
        .authorize(scopes)
        // The upstream believes these fields, so nobody but the gateway sets them.
        .transform(IdentityHeadersLayer::new(IdentityHeaders::default()))
        .upstreams(forward.describe())
        .forward_keeping_deadline(forward)
        .build();
    print!("{}", gateway.describe());
    assert_eq!(gateway.describe().lint(), [], "nothing is left out");

    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let server = Server::new(ServerConfig::builder().build()?);
    let stop = async { _ = tokio::signal::ctrl_c().await };
    match server.serve(listener, gateway, stop).await.is_clean() {
        true => Ok(()),
        false => Err("requests were cut".into()),
    }
}
