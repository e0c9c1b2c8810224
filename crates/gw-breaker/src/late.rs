//! Readiness within the call.
//!
//! A breaker that is not closed does not ask whether the inner service is ready before it knows that a request may pass:
//! the connector of a dead upstream may never be, and callers that wait for it would hear neither of the refusal nor
//! become the probe that finds the upstream back. So it says that it is ready, and a request that may pass drives the
//! inner service to be ready as a part of the attempt.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Drives a service to be ready, and calls it.
    #[project = LateProj]
    pub(crate) enum Late<S, R, F> {
        Readying { waiting: Option<(S, R)> },
        Called { #[pin] future: F },
    }
}

impl<S, R, F> Late<S, R, F> {
    pub(crate) const fn new(service: S, request: R) -> Self {
        let waiting = Some((service, request));
        Self::Readying { waiting }
    }
}

impl<S, R> Future for Late<S, R, S::Future>
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
