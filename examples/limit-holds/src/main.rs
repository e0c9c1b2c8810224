//! A limit of two, asked by sixteen connections through `axum::serve`.
//!
//! `axum::serve` applies each layer once per connection. A layer whose state is made at that moment has a limit per
//! connection; a layer whose state is in itself has one limit. This program serves the same handler behind each, and
//! prints how many requests were inside at the same time.
#![allow(clippy::print_stdout, reason = "the table is what the program is for")]
#![allow(
    clippy::expect_used,
    reason = "a demonstration on loopback has nobody to report to"
)]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::{Route, get};
use axum::{Router, serve};
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_ratelimit::key::Global;
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::limit::{ConcurrencyLimitLayer, GlobalConcurrencyLimitLayer};
use tower::{Layer, Service};

const LIMIT: usize = 2;
const CONNECTIONS: usize = 16;

#[tokio::main]
async fn main() {
    println!("{CONNECTIONS} connections, a limit of {LIMIT}:  most at once");
    report(
        "tower ConcurrencyLimitLayer",
        peak(ConcurrencyLimitLayer::new(LIMIT)).await,
    );
    report(
        "tower GlobalConcurrencyLimitLayer",
        peak(GlobalConcurrencyLimitLayer::new(LIMIT)).await,
    );
    report("gw-bulkhead BulkheadLayer", peak(lanes()).await);
    report("gw-ratelimit RateLimitLayer", peak(rate_limit()).await);
}

fn lanes() -> BulkheadLayer {
    BulkheadLayer::builder(LIMIT as u32)
        .lane(LaneConfig::new("core"))
        .build()
        .expect("valid lanes")
}

fn rate_limit() -> RateLimitLayer<(Global, ())> {
    let quota = Quota::per_hour(LIMIT as u32).burst(LIMIT as u32);
    let policy = Policy::new("all", quota);
    RateLimitLayer::builder()
        .policy(policy)
        .build()
        .expect("a valid limit")
}

fn report(layer: &str, peak: usize) {
    println!("{layer:<36} {peak:>2}");
}

/// Serves a slow handler behind `layer`, and counts how many requests are in it at the same time.
async fn peak<L>(layer: L) -> usize
where
    L: Layer<Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Response: IntoResponse, Error: Into<Infallible>, Future: Send>,
    L::Service: Clone + Send + Sync + 'static,
{
    let (inside, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handler = {
        let peak = Arc::clone(&peak);
        move || async move {
            peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(300)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let server = tokio::spawn(async move {
        serve(
            listener,
            Router::new().route("/", get(handler)).layer(layer),
        )
        .await
    });
    let clients = (0..CONNECTIONS).map(|_| {
        tokio::spawn(async move {
            let mut socket = TcpStream::connect(address).await?;
            socket
                .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await?;
            socket.read_to_end(&mut Vec::new()).await
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("no panic").expect("an answer");
    }
    server.abort();
    peak.load(Ordering::SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ours_hold_and_the_usual_one_does_not() {
        assert_eq!(peak(lanes()).await, LIMIT);
        assert_eq!(peak(rate_limit()).await, LIMIT);
        // As the comparison says; if tower's layer ever holds, the page must change.
        assert!(peak(ConcurrencyLimitLayer::new(LIMIT)).await > LIMIT);
    }
}
