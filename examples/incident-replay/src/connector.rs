//! How every client in here connects: without waiting for more to send, which would add the delays of the operating
//! system to what is measured.

use http_body::Body;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::TokioExecutor;

/// A client with a pool of its own, over HTTP/1.1.
pub(crate) fn http1<B>() -> Client<HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    builder().build(connector())
}

/// A client with one connection of its own, over HTTP/2.
pub(crate) fn http2<B>() -> Client<HttpConnector, B>
where
    B: Body<Data: Send> + Send,
{
    builder().http2_only(true).build(connector())
}

fn builder() -> Builder {
    Client::builder(TokioExecutor::new())
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}
