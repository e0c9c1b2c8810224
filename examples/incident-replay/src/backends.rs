//! The services behind the gateway, in one process: authentication, the log backend, and the search node that it
//! writes to.

mod auth;
mod logs;
mod sink;

use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::serve::ListenerExt as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use self::sink::Sink;
use crate::child;

/// How much the search node bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Capacity {
    /// All that comes.
    Endless,
    /// What the scenario says.
    Scarce,
}

/// Where the services listen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) auth: SocketAddr,
    pub(crate) logs: SocketAddr,
    pub(crate) sink: SocketAddr,
}

/// What happened behind the gateway.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Served {
    /// Logins that reached the auth service.
    pub(crate) logins: u64,
    /// Different documents in the search node.
    pub(crate) indexed: u64,
    /// Documents that it rejected for want of room.
    pub(crate) rejected: u64,
}

/// Serves until the parent says stop.
pub(crate) async fn run(seed: u64, capacity: Capacity) -> io::Result<()> {
    let auth = auth::Auth::new(seed);
    let sink = Sink::start(capacity).await;
    let addresses = Addresses {
        auth: listen(auth.router()).await?,
        logs: listen(logs::router(sink.address())).await?,
        sink: sink.address(),
    };
    let served = async {
        let (indexed, rejected) = sink.counts();
        Served {
            logins: auth.count(),
            indexed,
            rejected,
        }
    };
    child::serve(&addresses, served).await
}

async fn listen(router: Router) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(address)
}
