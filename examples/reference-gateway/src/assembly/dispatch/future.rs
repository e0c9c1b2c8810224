use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::{Body, BoxError, Rejection};
use gw_pipeline::inbound::ClientFault;
use gw_pipeline::upstream::UpstreamBody;
use http::Response;
use pin_project_lite::pin_project;

use super::body::AnswerBody;

pin_project! {
    /// The future of [`Dispatch`](super::Dispatch). Dropping it drops the one inside, and nothing else.
    #[project = DispatchProj]
    pub(crate) enum DispatchFuture<F, L> {
        Upstream { #[pin] future: F },
        // `fault` is where the request's body notes that it failed by the client's fault.
        Local { #[pin] future: L, fault: Option<ClientFault> },
        Refused { refused: Option<Rejection> },
    }
}

impl<F, L, B> Future for DispatchFuture<F, L>
where
    F: Future<Output = Result<Response<UpstreamBody>, Rejection>>,
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
            DispatchProj::Local { future, fault } => future.poll(cx).map(|outcome| {
                // The service has seen no more than a body that broke off.
                if let Some(fault) = fault.as_ref().and_then(ClientFault::get) {
                    return Err(Rejection::new(fault.code()).into());
                }
                outcome.map(|response| response.map(|body| AnswerBody::Local(Body::new(body))))
            }),
            // Pending once taken: a future must not be polled after it was ready.
            DispatchProj::Refused { refused } => refused
                .take()
                .map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into()))),
        }
    }
}
