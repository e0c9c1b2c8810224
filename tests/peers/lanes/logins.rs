//! The clients that are measured: logins, in a closed loop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use gw_tests::bench::Result;
use gw_tests::bench::connection::Connection;
use gw_tests::bench::load;
use gw_tests::bench::statistics::Latencies;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How long a login is waited for, unless it is said otherwise.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections on which logins follow one another. One that fails is opened anew.
#[derive(Debug)]
pub struct Logins {
    addr: SocketAddr,
    request: Bytes,
    patience: Duration,
    clients: Vec<Option<Connection>>,
}

/// What they saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    latencies: Vec<Duration>,
    answered: usize,
}

impl Seen {
    /// Logins that were tried.
    pub fn tried(&self) -> usize {
        self.latencies.len()
    }

    /// Logins that succeeded.
    pub fn answered(&self) -> usize {
        self.answered
    }

    /// How long each took.
    pub fn latencies(&self) -> Latencies {
        Latencies::new(self.latencies.clone())
    }

    /// Counts others in.
    pub fn append(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.answered += other.answered;
    }
}

impl Logins {
    /// So many clients.
    pub fn new(addr: SocketAddr, clients: usize) -> Self {
        Self {
            addr,
            request: load::get("/auth/login"),
            patience: PATIENCE,
            clients: std::iter::repeat_with(|| None).take(clients).collect(),
        }
    }

    /// How long a login is waited for: what takes longer is given up, and counts as having taken so long. A second unless it
    /// is said otherwise.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// So many logins, or as many as fit into `longest`.
    ///
    /// # Errors
    ///
    /// If a client panics.
    pub async fn run(&mut self, logins: usize, longest: Duration) -> Result<Seen> {
        let left = Arc::new(AtomicUsize::new(logins));
        let until = Instant::now() + longest;
        let mut tasks = JoinSet::new();
        for mut connection in self.clients.drain(..) {
            let (addr, request, patience) = (self.addr, self.request.clone(), self.patience);
            let left = Arc::clone(&left);
            tasks.spawn(async move {
                let mut seen = Seen::default();
                let take = |left: usize| left.checked_sub(1);
                while Instant::now() < until
                    // Relaxed: the count alone is shared, nothing is published by it.
                    && left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
                {
                    let started = Instant::now();
                    let answered = log_in(&mut connection, addr, &request, patience).await;
                    seen.latencies.push(started.elapsed());
                    seen.answered += usize::from(answered);
                }
                (connection, seen)
            });
        }
        let mut all = Seen::default();
        while let Some(ended) = tasks.join_next().await {
            let (connection, seen) = ended?;
            self.clients.push(connection);
            all.append(seen);
        }
        Ok(all)
    }

    /// How many out of so many new clients can log in.
    ///
    /// # Errors
    ///
    /// If a client panics.
    pub async fn newcomers(&self, clients: usize) -> Result<usize> {
        let mut tasks = JoinSet::new();
        for _ in 0..clients {
            let (addr, request, patience) = (self.addr, self.request.clone(), self.patience);
            tasks.spawn(async move { log_in(&mut None, addr, &request, patience).await });
        }
        let mut answered = 0;
        while let Some(ended) = tasks.join_next().await {
            answered += usize::from(ended?);
        }
        Ok(answered)
    }
}

async fn log_in(
    open: &mut Option<Connection>,
    addr: SocketAddr,
    request: &[u8],
    patience: Duration,
) -> bool {
    let exchange = async {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => Connection::open(addr).await?,
        };
        let head = connection.exchange(request).await?;
        if !head.close {
            *open = Some(connection);
        }
        Result::Ok(head.status == 200)
    };
    // What is given up is closed.
    matches!(timeout(patience, exchange).await, Ok(Ok(true)))
}
