//! A closed loop: each connection sends its next request when it has read the answer to the last one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Result;
use super::connection::Connection;
use super::statistics::Latencies;

/// The fields an API client in a browser sends.
const FIELDS: &str = "host: api.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: application/json, text/plain, */*\r\n\
    accept-language: en-GB,en;q=0.8\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    origin: https://shop.example.com\r\n\
    referer: https://shop.example.com/orders?page=2\r\n\
    cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
    \r\n";

/// A GET for this target with the fields of a browser, rendered once.
pub fn get(target: &str) -> Bytes {
    format!("GET {target} HTTP/1.1\r\n{FIELDS}").into()
}

/// A POST of this JSON for this target with the fields of a browser, rendered once.
pub fn post(target: &str, json: &str) -> Bytes {
    let length = json.len();
    format!(
        "POST {target} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{FIELDS}{json}"
    )
    .into()
}

/// Open connections that send the same request again and again.
#[derive(Debug)]
pub struct Load {
    request: Bytes,
    status: u16,
    connections: Vec<Connection>,
}

/// What a run of a [`Load`] saw, or several runs together.
#[derive(Debug, Clone, Default)]
pub struct Run {
    samples: Vec<Duration>,
    elapsed: Duration,
}

impl Run {
    /// A run that something else than a [`Load`] made.
    pub fn new(samples: Vec<Duration>, elapsed: Duration) -> Self {
        Self { samples, elapsed }
    }

    /// Requests, all of them answered.
    pub fn requests(&self) -> usize {
        self.samples.len()
    }

    /// Requests per second.
    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.elapsed.as_secs_f64()
    }

    /// How long it took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// From the first byte sent to the last byte read, of each request.
    pub fn latencies(&self) -> Latencies {
        Latencies::new(self.samples.clone())
    }

    /// Counts another run in.
    pub fn append(&mut self, other: Self) {
        self.samples.extend(other.samples);
        self.elapsed += other.elapsed;
    }
}

impl Load {
    /// Opens the connections.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub async fn open(addr: SocketAddr, connections: usize, request: Bytes) -> Result<Self> {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(addr).await?);
        }
        Ok(Self {
            request,
            status: 200,
            connections: open,
        })
    }

    /// Takes answers of this status for good, instead of 200.
    #[must_use]
    pub fn answered(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// Sends so many requests over all connections together.
    ///
    /// # Errors
    ///
    /// If one is answered by anything but the good status on a connection that stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections; the load is of no use afterwards.
    pub async fn run(&mut self, requests: usize) -> Result<Run> {
        // Shared, so that no connection is done long before the others.
        let left = Arc::new(AtomicUsize::new(requests));
        let started = Instant::now();
        let mut tasks = JoinSet::new();
        for connection in self.connections.drain(..) {
            tasks.spawn(closed_loop(
                connection,
                self.request.clone(),
                self.status,
                Arc::clone(&left),
            ));
        }
        let mut samples = Vec::with_capacity(requests);
        while let Some(ended) = tasks.join_next().await {
            let (connection, latencies) = ended??;
            samples.extend(latencies);
            self.connections.push(connection);
        }
        Ok(Run {
            samples,
            elapsed: started.elapsed(),
        })
    }
}

async fn closed_loop(
    mut connection: Connection,
    request: Bytes,
    status: u16,
    left: Arc<AtomicUsize>,
) -> Result<(Connection, Vec<Duration>)> {
    let mut latencies = Vec::new();
    // Relaxed: the count alone is shared, nothing is published by it.
    let take = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let started = Instant::now();
        let head = connection.exchange(&request).await?;
        latencies.push(started.elapsed());
        if head.status != status || head.close {
            let body = String::from_utf8_lossy(connection.body(head));
            return Err(
                format!("a request under load was answered {}: {body}", head.status).into(),
            );
        }
    }
    Ok((connection, latencies))
}
