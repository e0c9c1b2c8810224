//! Readiness after the queue.
//!
//! A request that waits must not keep what its service reserved to be ready: a connection slot, say, or a permit of a layer
//! further in. While it waits nobody else could use that, and if those who hold such reservations wait for those who have
//! places, nobody moves. So a request that is queued takes an instance along that is not ready, and once it has its place,
//! [`LateFuture`] drives it to be ready and calls it. To whatever runs requests that looks like one slow call: it is within the
//! lane's time limit, can be cut, and runs on the lane's own threads.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Drives a service to be ready, and calls it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the service, or its answer.
    #[project = LateProj]
    pub enum LateFuture<S, R, F> {
        #[doc(hidden)]
        Readying { waiting: Option<(S, R)> },
        #[doc(hidden)]
        Called { #[pin] future: F },
    }
}

impl<S, R, F> LateFuture<S, R, F> {
    pub(crate) const fn new(service: S, request: R) -> Self {
        let waiting = Some((service, request));
        Self::Readying { waiting }
    }
}

impl<S, R> Future for LateFuture<S, R, S::Future>
where
    S: Service<R>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match self.as_mut().project() {
                LateProj::Readying { waiting } => {
                    let Some((service, _)) = waiting else {
                        return Poll::Pending;
                    };
                    let ready = ready!(service.poll_ready(cx));
                    let Some((mut service, request)) = waiting.take() else {
                        return Poll::Pending;
                    };
                    if let Err(error) = ready {
                        return Poll::Ready(Err(error));
                    }
                    let future = service.call(request);
                    self.set(Self::Called { future });
                }
                LateProj::Called { future } => return future.poll(cx),
            }
        }
    }
}
