//! A breaker for each client, whose address the server tells.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::net::{IpAddr, SocketAddr};

use axum::extract::ConnectInfo;
use gw_breaker::BreakerLayer;
use gw_breaker::key::ClientIp;
use http::Request;
use support::{Inner, config};
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer as _, ServiceExt as _};

/// Story: the crate had no feature by which the address is read from axum or tonic. All clients were without a key, and shared
/// one breaker, unless another crate of the build happened to switch that on.
#[tokio::test(start_paused = true)]
async fn clients_of_axum_and_tonic_have_breakers_of_their_own() {
    let layer = BreakerLayer::builder("per_client")
        .config(config())
        .per_key(ClientIp::new())
        .build()
        .unwrap();
    let peer = |last| SocketAddr::from(([192, 0, 2, last], 40_000));
    let mut by_axum = Request::new(());
    by_axum.extensions_mut().insert(ConnectInfo(peer(1)));
    let mut by_tonic = Request::new(());
    let info = TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(peer(2)),
    };
    by_tonic.extensions_mut().insert(info);

    let inner = Inner::new();
    for request in [by_axum, by_tonic] {
        inner.status(500);
        let answer = layer.layer(inner.clone()).oneshot(request).await;
        assert_eq!(answer.unwrap().status(), 500);
    }
    for client in [peer(1), peer(2)] {
        let address: IpAddr = client.ip();
        let breaker = layer.handle().find(&address).unwrap();
        assert_eq!(breaker.snapshot().consecutive_failures, 1);
    }
}
