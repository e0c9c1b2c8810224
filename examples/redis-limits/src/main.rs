//! Two services behind one balancer, and one limit of ten for both, in Redis.
//!
//! `redis-limits [URL]` uses the Redis at this URL, or starts a `redis-server` for itself.
#![allow(clippy::print_stdout, reason = "the line is what it is for")]
#![allow(clippy::expect_used, reason = "there is nobody to report to")]

use std::process::{Stdio, id};
use std::time::Duration;
use std::{env, io, net::SocketAddr};

use axum::{Router, routing::get};
use gw_ratelimit::{Policy, Quota, RateLimitLayer, redis::RedisStore};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

const LIMIT: u32 = 10;
const REQUESTS: usize = 40;

#[tokio::main]
async fn main() -> io::Result<()> {
    let (_server, url) = match env::args().nth(1) {
        Some(url) => (None, url),
        None => redis().await?,
    };
    // A name for each run: what an earlier one counted stays in Redis until it has run off.
    let name = format!("redis-limits-{}", id());
    let store = RedisStore::new(url, name, "known to both services");
    // Longer than a busy machine takes: without an answer each service would count for itself.
    let store = store.timeout(Duration::from_secs(30));
    let services = [service(&store).await?, service(&store).await?];
    // Both are asked in turn, as a balancer does, all at once. How many requests do they let through together?
    let asked = services.into_iter().cycle().take(REQUESTS);
    let mut passed = 0;
    for answer in asked.map(ask).map(tokio::spawn).collect::<Vec<_>>() {
        passed += usize::from(answer.await??);
    }
    println!("{REQUESTS} requests to two services with one limit of {LIMIT}: {passed} passed");
    Ok(())
}

/// Serves until the program ends.
async fn service(store: &RedisStore) -> io::Result<SocketAddr> {
    let policy = Policy::new("all", Quota::per_hour(LIMIT).burst(LIMIT));
    let limits = RateLimitLayer::builder().policy(policy);
    let limits = limits.build_shared(store).expect("a valid limit");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/", get(|| async {})).layer(limits);
    tokio::spawn(async { axum::serve(listener, router).await });
    Ok(address)
}

/// Whether a request passes.
async fn ask(service: SocketAddr) -> io::Result<bool> {
    let mut socket = TcpStream::connect(service).await?;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    socket.write_all(request).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}

/// A server on a free port, which ends when it is dropped.
async fn redis() -> io::Result<(Option<Child>, String)> {
    let free = TcpListener::bind("127.0.0.1:0").await?;
    let port = free.local_addr()?.port().to_string();
    drop(free);
    let mut server = Command::new("redis-server");
    server.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]);
    let mut server = server.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut log = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    // Its log ends early if it could not start; the first request tells then.
    while let Some(line) = log.next_line().await?
        && !line.contains("Ready to accept")
    {}
    Ok((Some(server), format!("redis://127.0.0.1:{port}")))
}
