//! The gateway's process, in either form.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{child, protected, unprotected};

/// What the gateway process is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The auth service.
    #[arg(long)]
    pub(crate) auth: SocketAddr,
    /// The log backend.
    #[arg(long)]
    pub(crate) logs: SocketAddr,
    /// The search node.
    #[arg(long)]
    pub(crate) sink: SocketAddr,
    /// Where the queue is kept. With it the gateway is protected.
    #[arg(long)]
    pub(crate) queue: Option<PathBuf>,
    /// The protections to leave out.
    #[arg(long)]
    without: Vec<Protection>,
}

impl Options {
    /// Whether this protection is to be left out.
    pub(crate) fn is_without(&self, protection: Protection) -> bool {
        self.without.contains(&protection)
    }
}

/// A protection that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protection {
    /// The limit of uploads a second for each device.
    RateLimit,
    /// The lanes: all routes share one pool of places and the same threads.
    Lanes,
    /// The queue: log uploads wait for the log backend, as before.
    Queue,
}

/// Where the gateway listens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Address {
    pub(crate) gateway: SocketAddr,
}

/// What became of the log events that the gateway itself accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    /// Accepted with 202: on disk.
    pub(crate) accepted: u64,
    /// Delivered to the search node.
    pub(crate) delivered: u64,
    /// Set aside as undeliverable.
    pub(crate) dead: u64,
    /// Still in the queue.
    pub(crate) queued: u64,
}

/// Serves until the parent says stop.
pub(crate) async fn run(options: Options) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = Address {
        gateway: listener.local_addr()?,
    };
    match &options.queue {
        None => {
            tokio::spawn(unprotected::serve(listener, options.auth, options.logs));
            child::serve(&address, async { None::<Ledger> }).await
        }
        Some(directory) => {
            let gateway = protected::start(listener, &options, directory).await?;
            child::serve(&address, async { gateway.ledger() }).await
        }
    }
}
