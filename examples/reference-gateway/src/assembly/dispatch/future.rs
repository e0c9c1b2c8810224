use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gw_core::{Body, BoxError, Rejection};
use gw_pipeline::inbound::ClientFault;
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
        Local { local: Pin<Box<Local<L>>> },
        Refused { refused: Option<Box<Rejection>> },
    }
}

pin_project! {
    pub(crate) struct Local<L> {
        #[pin]
        pub(super) future: L,
        // Where the request's body notes that it failed by the client's fault.
        pub(super) fault: Option<ClientFault>,
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
            DispatchProj::Local { local } => local.as_mut().poll(cx),
            // Pending once taken: a future must not be polled after it was ready.
            DispatchProj::Refused { refused } => refused
                .take()
                .map_or(Poll::Pending, |refused| Poll::Ready(Err(refused))),
        }
    }
}

impl<L, B> Future for Local<L>
where
    L: Future<Output = Result<Response<B>, BoxError>>,
    B: http_body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    type Output = Result<Response<AnswerBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(cx));
        // The service has seen no more than a body that broke off.
        if let Some(fault) = this.fault.as_ref().and_then(ClientFault::get) {
            return Poll::Ready(Err(fault.refusal().into()));
        }
        let local = |body| AnswerBody::Local(Body::new(body));
        Poll::Ready(outcome.map(|response| response.map(local)))
    }
}
