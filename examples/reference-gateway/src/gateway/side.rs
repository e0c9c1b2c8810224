use std::io;
use std::net::TcpListener;
use std::time::Duration;

use axum::Router;
use gw_pipeline::server::{Server, ServerConfig};

use super::metrics::{Metrics, upkeep};
use super::own_thread::OwnThread;

/// For requests of operators that are under way when the traffic has ended.
const GRACE: Duration = Duration::from_secs(1);

/// The most connections at a time, and those of them from one address. These listeners are for the machine's own tools and for
/// balancers, which need few: descriptors are the traffic's, and a health listener may be where others reach it.
const CONNECTIONS: usize = 256;
const CONNECTIONS_PER_IP: usize = 64;

/// Serves `router` on a thread called `name`, which also keeps `metrics` tidy if it is given them.
pub(super) fn serve(
    name: &str,
    listener: TcpListener,
    router: Router,
    metrics: Option<Metrics>,
) -> io::Result<OwnThread> {
    let config = ServerConfig::builder()
        .shutdown_grace(GRACE)
        .max_connections(CONNECTIONS)
        .max_connections_per_ip(CONNECTIONS_PER_IP)
        .build()
        .map_err(io::Error::other)?;
    OwnThread::start(name, |stopped| {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Ok(async move {
            if let Some(metrics) = metrics {
                tokio::spawn(upkeep(metrics));
            }
            let server = Server::new(config);
            let _drained = server
                .serve(listener, router, async { drop(stopped.await) })
                .await;
        })
    })
}
