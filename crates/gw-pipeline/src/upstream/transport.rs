use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::{Body, BoxError, Rejection};
use http::{Request, Response};
use tower_service::Service;

use super::body::UpstreamBody;
use super::exchange::exchange;
use super::future::TransportFuture;
use super::pool::Pool;

/// What the layers in front of an upstream lead to: one call is one attempt on one of the endpoints.
///
/// Only an [`Upstream`](super::Upstream) has one, behind its layers.
///
/// # Errors
///
/// A [`Rejection`] that has an [`Error`](super::Error) as its source, and tells by
/// [`Rejection::failure`] whether the upstream is to blame and whether the request may be sent again.
#[derive(Clone)]
pub struct Transport {
    pub(super) pool: Arc<Pool>,
}

impl<B> Service<Request<B>> for Transport
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<UpstreamBody>;
    type Error = Rejection;
    type Future = TransportFuture;

    /// Always ready: a request waits for its turn and for a connection in its future, within the limits of the pool.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> TransportFuture {
        exchange(Arc::clone(&self.pool), request.map(erase))
    }
}

/// Most requests have no body; then there is nothing to erase, and no box to make.
pub(super) fn erase<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    match body.is_end_stream() {
        true => Body::empty(),
        false => Body::new(body),
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("upstream", &self.pool.name.as_str())
            .finish_non_exhaustive()
    }
}
