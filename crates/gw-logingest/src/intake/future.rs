//! The future of the intake.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::Body;
use http::Response;

/// The answer to a request in the making.
///
/// It is boxed: what [`Queue::append`](crate::Queue::append) returns has no name, and a request that reads a body and
/// builds a batch does not notice one allocation more.
///
/// # Cancel safety
///
/// Dropped while the body arrives, nothing is accepted. Dropped while the batch is being stored, it is stored whole or
/// not at all; its reports about failed uploads then count as taken. What else the request took is given back.
pub struct IngestFuture(Pin<Box<dyn Future<Output = Response<Body>> + Send>>);

impl IngestFuture {
    pub(super) fn new(answer: impl Future<Output = Response<Body>> + Send + 'static) -> Self {
        Self(Box::pin(answer))
    }
}

impl Future for IngestFuture {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for IngestFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IngestFuture")
    }
}
