//! What makes an upstream's sockets, and what the system is asked to do for them.

use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::GaiResolver;

use super::config::Protocol;
use super::resolver::Resolver;

pub(super) type Connector = HttpConnector<Resolver<GaiResolver>>;

/// After so long without a word from the peer its system is asked for one,
const KEEPALIVE: Duration = Duration::from_secs(15);
/// and again so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// until so many were asked for in vain.
const KEEPALIVE_RETRIES: u32 = 3;

/// Peers that are gone without a word are found within half a minute.
///
/// HTTP/2 needs it most: a connection is for many, and pings are rare (see
/// [`ping_interval`](super::UpstreamBuilder::ping_interval)). What was sent keeps the system from asking until it is confirmed or
/// given up, a quarter of an hour by default; so there it is given up sooner, which also finds a process that no longer
/// reads. Not over HTTP/1, where a tunnel's peer may take its time.
pub(super) fn connector(protocol: Protocol) -> Connector {
    let mut connector = HttpConnector::new_with_resolver(Resolver::new(GaiResolver::new()));
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE));
    connector.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    connector.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    // Elsewhere pings must do.
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    if protocol == Protocol::Http2 {
        connector.set_tcp_user_timeout(Some(KEEPALIVE + KEEPALIVE_RETRIES * KEEPALIVE_INTERVAL));
    }
    #[cfg(not(any(target_os = "android", target_os = "fuchsia", target_os = "linux")))]
    let _ = protocol;
    connector
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use http::Uri;
    use socket2::SockRef;
    use tokio::net::TcpListener;
    use tower_service::Service as _;

    use super::*;

    #[tokio::test]
    async fn who_is_gone_is_found_within_half_a_minute() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", listener.local_addr().unwrap());
        for (protocol, user_timeout) in [
            (Protocol::Http2, Some(Duration::from_secs(30))),
            (Protocol::Http1, None),
        ] {
            let uri = Uri::try_from(&uri).unwrap();
            let io = connector(protocol).call(uri).await.unwrap().into_inner();
            let socket = SockRef::from(&io);
            assert_eq!(socket.tcp_user_timeout().unwrap(), user_timeout);
            let interval = socket.tcp_keepalive_interval().unwrap();
            let found = socket.tcp_keepalive_time().unwrap()
                + interval * socket.tcp_keepalive_retries().unwrap();
            assert_eq!(found, Duration::from_secs(30));
        }
    }
}
