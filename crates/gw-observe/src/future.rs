use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::Body;
use pin_project_lite::pin_project;

use crate::body::ResponseBody;
use crate::observation::Observation;
use crate::verdict::How;

pin_project! {
    /// The future of an [`Observe`](crate::Observe).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future; the exchange is then noted as ended by the client.
    #[derive(Debug)]
    pub struct ResponseFuture<F> {
        // Dropped before the observation, so that what it still has to note is read.
        #[pin]
        inner: F,
        // Boxed: it is large, and future and body are moved through many stages.
        observation: Option<Box<Observation>>,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) const fn new(inner: F, observation: Box<Observation>) -> Self {
        let observation = Some(observation);
        Self { inner, observation }
    }
}

impl<F, B, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(seen) = this.observation else {
            // A future must not be polled after it was ready.
            return Poll::Pending;
        };
        let result = ready!(seen.run(|| this.inner.poll(cx)));
        let observation = this.observation.take();
        Poll::Ready(match result {
            Ok(response) => Ok(ResponseBody::observe(response, observation)),
            Err(error) => {
                if let Some(observation) = observation {
                    observation.finish(How::Failed);
                }
                Err(error)
            }
        })
    }
}
