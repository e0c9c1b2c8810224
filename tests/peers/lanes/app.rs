//! The application that is protected: logins that take nothing, and logs in every way that holds a server up.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::DefaultBodyLimit;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use gw_tests::bench::Result;
use http_body::Frame;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tokio::time::{Interval, interval};

use super::protection::Protection;

/// How long a handler blocks its thread, as one that writes to a slow disk does.
const BLOCKED: Duration = Duration::from_millis(20);

/// How often a body that never ends has something to send.
const DRIP: Duration = Duration::from_millis(10);

/// Serves for ever.
///
/// # Errors
///
/// If it cannot listen.
pub fn serve(listen: SocketAddr, threads: usize, protection: Protection) -> Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let app = protection.protect(logins(), logs())?;
        let listener = TcpListener::bind(listen).await;
        let listener = listener.map_err(|error| format!("{listen}: {error}"))?;
        axum::serve(listener, app).await?;
        Ok(())
    })
}

/// A route that answers at once.
pub fn logins() -> Router {
    let welcome = || async {
        let json = r#"{"user":4711,"name":"Ada","roles":["customer"]}"#;
        ([(CONTENT_TYPE, "application/json")], json)
    };
    Router::new().route("/auth/login", get(welcome))
}

fn logs() -> Router {
    Router::new()
        .route("/logs/now", get(async || "stored"))
        .route("/logs/hang", get(pending::<&str>))
        .route("/logs/block", get(block))
        .route("/logs/stream", get(async || Body::new(Endless::new())))
        .route("/logs/upload", post(async |_: Bytes| "stored"))
        .layer(DefaultBodyLimit::disable())
}

async fn block() -> &'static str {
    #[allow(
        clippy::disallowed_methods,
        reason = "blocking the thread is what it is for"
    )]
    std::thread::sleep(BLOCKED);
    "stored"
}

/// A body that never ends.
struct Endless(Interval);

impl Endless {
    fn new() -> Self {
        Self(interval(DRIP))
    }
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.poll_tick(cx));
        let line = Bytes::from_static(&[b'x'; 256]);
        Poll::Ready(Some(Ok(Frame::data(line))))
    }
}
