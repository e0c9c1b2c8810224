//! One client cannot fill a lane; what its requests beyond are told; and what the machine's load does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::pin::Pin;

use gw_bulkhead::key::{ClientIp, Header};
use gw_bulkhead::{
    Arrival, BulkheadHandle, Criticality, Entry, KeySnapshot, LaneConfig, Load, Reason, Signal,
};
use gw_core::Rejection;
use gw_core::context::ClientAddr;
use http::{HeaderName, Request};
use http_body_util::BodyExt as _;
use support::{call, first_lane, in_flight, inner, one_lane, poll, recorded, refused, request};
use tokio::time::Instant;
use tower::{Layer as _, Service};

const TWO: NonZeroU32 = NonZeroU32::new(2).unwrap();

fn from(client: u8) -> Request<()> {
    let mut request = request();
    let address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, client));
    request.extensions_mut().insert(ClientAddr::new(address));
    request
}

fn keys(handle: &BulkheadHandle) -> KeySnapshot {
    first_lane(handle).per_key.unwrap()
}

#[tokio::test]
async fn a_client_beyond_its_share_is_told_so_and_others_are_not_touched() {
    let lane = LaneConfig::new("logs").per_key(ClientIp::new(), TWO);
    let layer = one_lane(10, lane);
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let greedy = [
        call(&mut service, from(1)).await,
        call(&mut service, from(1)).await,
    ];
    let (request, record) = recorded(from(1));
    let response = call(&mut service, request).await.await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(
        refused(&record),
        (Some("admit"), Some("RATE_LIMIT_EXCEEDED"))
    );
    let code = response.extensions().get::<Rejection>().unwrap().code();
    assert_eq!(*code, gw_bulkhead::RATE_LIMIT_EXCEEDED);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["error"]["details"]["reason"], "per_key");

    let _other = call(&mut service, from(2)).await;
    assert_eq!(in_flight(&handle), 3);
    let KeySnapshot {
        max,
        keys: seen,
        busiest,
        ..
    } = keys(&handle);
    assert_eq!((max, seen, busiest), (2, 2, 2));
    drop(greedy);
    assert_eq!((keys(&handle).keys, in_flight(&handle)), (1, 1));
    assert!(poll(&mut call(&mut service, from(1)).await).is_pending());
}

/// Story: keys of `Lanes::key` were never those that the layer makes, so that work that is no request was counted apart from its
/// client's requests.
#[tokio::test]
async fn work_without_a_request_is_counted_with_its_clients_requests() {
    let lane = LaneConfig::new("logs").per_key(ClientIp::new(), NonZeroU32::MIN);
    let layer = one_lane(10, lane);
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let mut runs = call(&mut service, from(1)).await;
    assert!(poll(&mut runs).is_pending());
    let handle = layer.handle();
    let lanes = handle.lanes();
    let lane = lanes.find("logs").unwrap();
    let enter = |client| {
        let key = lanes.key(IpAddr::V4(Ipv4Addr::new(192, 0, 2, client)));
        lanes.enter(lane, Arrival::at(Instant::now()).key(key))
    };
    assert!(matches!(enter(1), Entry::Refused(refusal) if refusal.reason() == Reason::PerKey));
    let Entry::Admitted(work) = enter(2) else {
        panic!("it has nothing yet");
    };
    assert_eq!(
        call(&mut service, from(2)).await.await.unwrap().status(),
        429
    );
    drop(work);
    assert!(poll(&mut call(&mut service, from(2)).await).is_pending());
}

/// Story: the layer could not be told to look where axum puts it, so that all clients of a router were one.
#[cfg(feature = "axum")]
#[tokio::test]
async fn axum_tells_who_calls() {
    use axum::extract::ConnectInfo;
    use std::net::SocketAddr;

    let from = |client| {
        let mut request = request();
        let peer = SocketAddr::from(([192, 0, 2, client], 49152));
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    };
    let lane = LaneConfig::new("core").per_key(ClientIp::new(), TWO);
    let layer = one_lane(10, lane);
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _held = [
        call(&mut service, from(1)).await,
        call(&mut service, from(2)).await,
    ];
    assert_eq!((keys(&handle).keys, keys(&handle).busiest), (2, 1));
}

#[tokio::test]
async fn requests_without_a_key_are_one_client() {
    let key = Header::new(HeaderName::from_static("x-tenant"));
    let layer = one_lane(10, LaneConfig::new("core").per_key(key, TWO));
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let _without = [
        call(&mut service, request()).await,
        call(&mut service, request()).await,
    ];
    assert_eq!(
        call(&mut service, request()).await.await.unwrap().status(),
        429
    );
    // Not even one whose key is empty is that one.
    let empty = Request::builder().header("x-tenant", "").body(()).unwrap();
    assert!(poll(&mut call(&mut service, empty).await).is_pending());
}

#[tokio::test]
async fn who_waits_counts_and_whatever_way_it_goes_it_counts_no_longer() {
    let lane = LaneConfig::new("core")
        .queue(8)
        .per_key(ClientIp::new(), TWO);
    let layer = one_lane(1, lane);
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let mut rng = fastrand::Rng::with_seed(1);
    type Answer<S> = Pin<Box<<S as Service<Request<()>>>::Future>>;
    fn of<S: Service<Request<()>>>(_: &S) -> Vec<(u8, Answer<S>)> {
        Vec::new()
    }
    let mut open = of(&service);
    for _ in 0..2_000 {
        if rng.bool() || open.is_empty() {
            let client = rng.u8(0..4);
            let mut answer = call(&mut service, from(client)).await;
            // Queued or running; a refused one is ready.
            if rng.bool() || poll(&mut answer).is_pending() {
                open.push((client, answer));
            }
        } else {
            open.swap_remove(rng.usize(..open.len()));
        }
        assert!(keys(&handle).busiest <= 2);
        let lane = first_lane(&handle);
        assert!(lane.in_flight <= 1 && lane.queued <= 8);
    }
    drop(open);
    let lane = first_lane(&handle);
    assert_eq!((lane.in_flight, lane.queued, keys(&handle).keys), (0, 0, 0));
    assert!(lane.rejected.per_key > 100);
}

#[tokio::test]
async fn under_load_the_less_critical_request_is_refused_within_a_guarantee_too() {
    let layer = one_lane(10, LaneConfig::new("core").guaranteed(1.0));
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    handle.pressure().set(Signal::Memory, Load::Elevated);
    let mut sheddable = request();
    sheddable.extensions_mut().insert(Criticality::Sheddable);
    let (sheddable, record) = recorded(sheddable);
    let response = call(&mut service, sheddable).await.await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(refused(&record), (Some("admit"), Some("OVERLOADED")));
    assert!(poll(&mut call(&mut service, request()).await).is_pending());
    assert_eq!(first_lane(&handle).rejected.pressure, 1);
    assert_eq!(handle.snapshot().load, Load::Elevated);
}
