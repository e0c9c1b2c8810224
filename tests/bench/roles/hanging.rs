//! The upstream that takes requests and never answers them.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;

use super::{bind, server};
use crate::bench::Result;
use crate::bench::connection::Connection;

/// Asks how many requests are held; every other path hangs.
const HELD: &str = "/held";

/// Counts a request for as long as it is held. hyper drops the request of a client that has left.
struct Holding(Arc<AtomicUsize>);

impl Holding {
    fn count_in(held: &Arc<AtomicUsize>) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn serve(listen: SocketAddr) -> Result<()> {
    let held = Arc::new(AtomicUsize::new(0));
    let handler = service_fn(move |request: Request<Incoming>| {
        let held = Arc::clone(&held);
        async move {
            if request.uri().path() != HELD {
                let _holding = Holding::count_in(&held);
                pending::<()>().await;
            }
            let count = held.load(Ordering::Relaxed).to_string();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(count))))
        }
    });
    server::serve(bind(listen).await?, handler).await
}

/// How many requests the hanging upstream at this address holds now.
///
/// # Errors
///
/// If it does not say.
pub async fn held(addr: SocketAddr) -> Result<usize> {
    let mut connection = Connection::open(addr).await?;
    let request = format!("GET {HELD} HTTP/1.1\r\nhost: {addr}\r\n\r\n");
    let head = connection.exchange(request.as_bytes()).await?;
    Ok(std::str::from_utf8(connection.body(head))?.parse()?)
}
