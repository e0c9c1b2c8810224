//! Layers on plain hyper: a limit for each client, and so many requests at a time in all.
//!
//! Try: `for i in $(seq 4); do curl -s http://127.0.0.1:3000/; done`. Each curl is a connection of its own, each connection has
//! a stack of its own, and one limit holds for all of them.
#![allow(clippy::print_stdout, reason = "the line says where it listens")]

use std::convert::Infallible;
use std::{env, error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use gw_bulkhead::{BulkheadLayer, LaneConfig};
use gw_core::context::PeerAddr;
use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{Policy, Quota, RateLimitLayer};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tower::{Layer as _, ServiceExt as _, service_fn};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let per_client = Policy::new("per_client", Quota::per_hour(60).burst(3)).key(ClientIp::new());
    let limit = RateLimitLayer::builder().policy(per_client).build()?;
    let places = BulkheadLayer::builder(100).lane(LaneConfig::new("all"));
    let places = places.build()?;

    let address = env::args().nth(1);
    let address = address.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    // The layers bound requests; connections are for whoever serves them.
    let connections = Arc::new(Semaphore::new(1000));
    loop {
        let held = Arc::clone(&connections).acquire_owned().await?;
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of file descriptors, say: some will be given back.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // What the layers count is in the layers, and their services share it.
        let stack = limit.layer(places.layer(service_fn(hello)));
        // hyper does not tell a service who calls.
        let stack = stack.map_request(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(PeerAddr(peer));
            request
        });
        let mut http = http1::Builder::new();
        let connection = http
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(stack));
        tokio::spawn(async move {
            // How it ended is no matter of this example.
            _ = connection.await;
            drop(held);
        });
    }
}

/// Any body will do that is made of bytes: the layers' refusals are of the same type.
async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello\n")))
}
