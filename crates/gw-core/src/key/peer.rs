use std::net::SocketAddr;

use http::Extensions;

use super::MissingKey;
use crate::context::PeerAddr;

/// The address of the other end of the connection.
///
/// Read from [`PeerAddr`], or with the features `axum` and `tonic` from what these servers provide. Where that is missing, axum's
/// `MockConnectInfo` stands in, as it does for axum's own extractor.
///
/// # Errors
///
/// [`MissingKey`] with what to do, if the server provides none.
pub fn peer_addr(extensions: &Extensions) -> Result<SocketAddr, MissingKey> {
    const REMEDY: &str = "serve axum with into_make_service_with_connect_info::<SocketAddr>() and the feature `axum` of \
                          the gw crate, tonic with its feature `tonic`, or insert its PeerAddr into the request's extensions";
    let ours = extensions.get::<PeerAddr>().map(|peer| peer.0);
    #[cfg(feature = "axum")]
    let ours = ours.or_else(|| {
        extensions
            .get::<axum::extract::ConnectInfo<SocketAddr>>()
            .map(|info| info.0)
    });
    #[cfg(feature = "tonic")]
    let ours = ours.or_else(|| {
        extensions
            .get::<tonic::transport::server::TcpConnectInfo>()
            .and_then(|info| info.remote_addr())
    });
    #[cfg(feature = "axum")]
    let ours = ours.or_else(|| {
        extensions
            .get::<axum::extract::connect_info::MockConnectInfo<SocketAddr>>()
            .map(|mock| mock.0)
    });
    ours.ok_or_else(|| MissingKey::new("peer address", REMEDY))
}
