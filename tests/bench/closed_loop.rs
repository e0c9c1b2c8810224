//! A closed loop: each client sends its next request when it has the answer to the last one.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Result;
use super::statistics::Latencies;

/// Who asks again and again.
pub(super) trait Client: Send + 'static {
    /// One request, until its answer has been read and is a good one.
    fn exchange(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// What the clients of a closed loop saw, in one run or in several together.
#[derive(Debug, Clone, Default)]
pub struct Run {
    samples: Vec<Duration>,
    elapsed: Duration,
}

impl Run {
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

/// So many requests by all clients together, which are given back for the next run.
///
/// Fails with the first request that fails. The clients are dropped then, and also with the future.
pub(super) async fn run<C: Client>(clients: Vec<C>, requests: usize) -> Result<(Vec<C>, Run)> {
    // Shared, so that no client is done long before the others.
    let left = Arc::new(AtomicUsize::new(requests));
    let started = Instant::now();
    let mut idle = Vec::with_capacity(clients.len());
    let mut tasks = JoinSet::new();
    for client in clients {
        tasks.spawn(ask(client, Arc::clone(&left)));
    }
    let mut samples = Vec::with_capacity(requests);
    while let Some(ended) = tasks.join_next().await {
        let (client, latencies) = ended??;
        samples.extend(latencies);
        idle.push(client);
    }
    let elapsed = started.elapsed();
    Ok((idle, Run { samples, elapsed }))
}

async fn ask<C: Client>(mut client: C, left: Arc<AtomicUsize>) -> Result<(C, Vec<Duration>)> {
    let mut latencies = Vec::new();
    // Relaxed: the count alone is shared, nothing is published by it.
    let take = |left: usize| left.checked_sub(1);
    while left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
        .is_ok()
    {
        let started = Instant::now();
        client.exchange().await?;
        latencies.push(started.elapsed());
    }
    Ok((client, latencies))
}
