use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::{Body, BoxError, Rejection};
use http::Response;
use pin_project_lite::pin_project;

use super::body::AnswerBody;
use crate::assembly::upstreams::UpstreamAnswer;

pin_project! {
    /// The future of [`Dispatch`](super::Dispatch). Dropping it drops the one inside, and nothing else.
    ///
    /// What few requests need is boxed, for the future of each is moved through all stages.
    #[project = DispatchProj]
    pub(crate) enum DispatchFuture<F, L> {
        Upstream { #[pin] future: F },
        Local { future: Pin<Box<L>> },
        Refused { refused: Option<Box<Rejection>> },
    }
}

impl<F, L, B> Future for DispatchFuture<F, L>
where
    F: Future<Output = Result<Response<UpstreamAnswer>, Rejection>>,
    L: Future<Output = Result<Response<B>, BoxError>>,
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    type Output = Result<Response<AnswerBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            DispatchProj::Upstream { future } => future.poll(cx).map(|outcome| match outcome {
                Ok(response) => Ok(response.map(AnswerBody::Upstream)),
                Err(rejection) => Err(rejection.into()),
            }),
            DispatchProj::Local { future } => future
                .as_mut()
                .poll(cx)
                .map_ok(|response| response.map(|body| AnswerBody::Local(Body::new(body)))),
            // Pending once taken: a future must not be polled after it was ready.
            DispatchProj::Refused { refused } => refused
                .take()
                .map_or(Poll::Pending, |refused| Poll::Ready(Err(refused))),
        }
    }
}
