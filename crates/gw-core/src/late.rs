//! Readiness within the call.
//!
//! A layer whose requests wait, or that does not know yet whether a request may pass, must not keep what its inner service
//! reserved to be ready: a connection slot, say, or a permit of a layer further in. While it waits nobody else could use that, and if
//! those who hold such reservations wait for those who have places, nobody moves. And the connector of a dead upstream may
//! never be ready, so that callers who wait for it would not even hear of a refusal. Such a layer says that it is ready, and
//! takes an instance along that is not; once the request may pass, [`LateFuture`] drives it to be ready and calls it.

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
    #[derive(Debug)]
    pub enum LateFuture<S, R, F> {
        #[doc(hidden)]
        Readying { waiting: Option<(S, R)> },
        #[doc(hidden)]
        Called { #[pin] future: F },
    }
}

impl<S, R, F> LateFuture<S, R, F> {
    /// Calls `service` with `request` once it is ready.
    pub const fn new(service: S, request: R) -> Self {
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
                    // Pending once taken: a future must not be polled after it was ready.
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

#[cfg(test)]
mod tests {
    use std::future::{Ready, poll_fn, ready};

    use super::*;

    /// Ready at the second time of asking, or fails then.
    struct Slow {
        asked: u32,
        fails: bool,
    }

    impl Service<u32> for Slow {
        type Response = u32;
        type Error = &'static str;
        type Future = Ready<Result<u32, &'static str>>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
            self.asked += 1;
            match (self.asked, self.fails) {
                (1, _) => {
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                (_, false) => Poll::Ready(Ok(())),
                (_, true) => Poll::Ready(Err("broken")),
            }
        }

        fn call(&mut self, request: u32) -> Self::Future {
            ready(Ok(request + self.asked))
        }
    }

    #[tokio::test]
    async fn a_service_is_called_once_it_is_ready() {
        let called = LateFuture::new(
            Slow {
                asked: 0,
                fails: false,
            },
            40,
        );
        assert_eq!(called.await, Ok(42));
    }

    #[tokio::test]
    async fn one_that_fails_instead_is_not_called_and_not_asked_again() {
        let mut failed = Box::pin(LateFuture::new(
            Slow {
                asked: 0,
                fails: true,
            },
            40,
        ));
        assert_eq!(poll_fn(|cx| failed.as_mut().poll(cx)).await, Err("broken"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(failed.as_mut().poll(&mut cx).is_pending());
    }
}
