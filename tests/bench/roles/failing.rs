//! The upstream that fails in one of the ways that upstreams have.

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ValueEnum;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::{bind, server};
use crate::bench::Result;

/// How it fails. One that refuses connections needs no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Failure {
    /// Takes requests and never answers.
    Hang,
    /// Reads a request, and resets its connection.
    Reset,
    /// Answers every other request with 500, and those in between with 200.
    Half,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hang => "hang",
            Self::Reset => "reset",
            Self::Half => "half",
        })
    }
}

pub(super) async fn serve(listen: SocketAddr, failure: Failure) -> Result<()> {
    let listener = bind(listen).await?;
    match failure {
        Failure::Reset => reset(listener).await,
        Failure::Hang => {
            let handler = service_fn(|_: Request<Incoming>| pending::<Answer>());
            server::serve(listener, handler).await
        }
        Failure::Half => {
            static FAILS: AtomicBool = AtomicBool::new(false);
            let handler = service_fn(|_: Request<Incoming>| async {
                let mut response = Response::new(Empty::new());
                if FAILS.fetch_not(Ordering::Relaxed) {
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                Answer::Ok(response)
            });
            server::serve(listener, handler).await
        }
    }
}

type Answer = std::result::Result<Response<Empty<bytes::Bytes>>, Infallible>;

async fn reset(listener: TcpListener) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(reset_after_a_request(stream));
    }
}

/// A request of a measurement comes in one piece.
async fn reset_after_a_request(mut stream: TcpStream) {
    let mut request = [0; 1024];
    // Whatever comes, and also if nothing does, the end is a reset.
    _ = stream.read(&mut request).await;
    _ = stream.set_zero_linger();
}
