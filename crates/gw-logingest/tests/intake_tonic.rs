//! Behind tonic's server, with the feature `tonic`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use std::net::SocketAddr;

use intake_support::*;
use tonic::transport::server::TcpConnectInfo;

/// Story: this crate alone had no such feature, so that behind tonic all clients were one.
#[tokio::test(start_paused = true)]
async fn a_client_is_known_by_the_address_that_tonic_tells() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let mut request = post(array(1));
    request.extensions_mut().clear();
    request.extensions_mut().insert(TcpConnectInfo {
        local_addr: None,
        remote_addr: Some(SocketAddr::from(([192, 0, 2, 7], 50051))),
    });
    assert_eq!(send(&ingest, request).await.status, 202);
    assert_eq!(queue.batches()[0].client().as_str(), "ip:192.0.2.7");
}
