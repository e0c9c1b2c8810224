//! hyper's HTTP/1 server with its defaults.

use std::convert::Infallible;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::bench::{Error, Result};

/// What all the small servers are.
pub(super) trait Handler<B>:
    HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<B, S> Handler<B> for S where
    S: HttpService<Incoming, ResBody = B, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// Serves every connection with a clone of the handler, for ever.
pub(super) async fn serve<S, B>(listener: TcpListener, handler: S) -> Result<()>
where
    S: Handler<B>,
    B: Body<Data: Send, Error: Into<Error>> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let handler = handler.clone();
        // A client that leaves early ends its connection with an error; that is its right.
        tokio::spawn(async move {
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), handler)
                .await;
        });
    }
}
