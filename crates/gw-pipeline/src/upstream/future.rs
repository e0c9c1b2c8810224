//! The futures of this module.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use gw_core::call::call_into;
use gw_core::late::LateFuture;
use gw_core::{Body, Rejection};
use http::{Extensions, Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::after::After;
use super::body::UpstreamBody;
use super::error::Error;
use crate::inbound::ClientFault;

type Outcome = Result<Response<UpstreamBody>, Rejection>;

/// The future of [`Transport`](super::Transport).
///
/// It is one box around the whole exchange up to the head of the answer: hyper's own futures have no names.
///
/// # Cancel safety
///
/// Dropping it cancels the upstream's work at once: the connection is closed, an HTTP/2 stream reset. A slot, a place
/// in the queue and a connection that is being made are given back.
pub struct TransportFuture {
    exchange: Pin<Box<dyn Future<Output = Result<Response<UpstreamBody>, Error>> + Send>>,
    /// The request's, which tell whose fault a failure is.
    extensions: Extensions,
}

impl TransportFuture {
    pub(super) fn new(
        exchange: impl Future<Output = Result<Response<UpstreamBody>, Error>> + Send + 'static,
        extensions: Extensions,
    ) -> Self {
        Self {
            exchange: Box::pin(exchange),
            extensions,
        }
    }
}

impl Future for TransportFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let result = ready!(self.exchange.as_mut().poll(cx));
        Poll::Ready(result.map_err(|error| {
            let fault = self.extensions.get::<ClientFault>();
            error.refuse(fault.and_then(ClientFault::get))
        }))
    }
}

#[cfg(feature = "server")]
impl Drop for TransportFuture {
    fn drop(&mut self) {
        crate::room::give_back(std::mem::take(&mut self.extensions));
    }
}

impl fmt::Debug for TransportFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`Upstream::send`](super::Upstream::send).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the future of the outermost layer. With no layer in front of the upstream, that is
    /// [`TransportFuture`].
    pub struct SendFuture<S: Service<Request<Body>>> {
        #[pin]
        state: Sending<S, S::Future>,
    }
}

pin_project! {
    #[project = SendingProj]
    enum Sending<S, F> {
        Called { #[pin] future: F },
        // Boxed: a layer that is not ready at once is rare, and a request is large.
        Late { future: Pin<Box<LateFuture<S, Request<Body>, F>>> },
        Failed { rejection: Option<Box<Rejection>> },
    }
}

impl<S: Service<Request<Body>, Error: Into<Rejection>>> SendFuture<S> {
    /// Sends by the service in `place`, or a fresh one, and leaves it there if it can take another request.
    pub(super) fn new(
        place: &mut Option<S>,
        fresh: impl FnOnce() -> S,
        request: Request<Body>,
    ) -> Self {
        let mut service = place.take().unwrap_or_else(fresh);
        // Most services are ready at once. One that is not goes with its request, which asks it again with a waker that
        // wakes.
        let state = match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => {
                let sent = call_into(&mut service, request, |future| Self {
                    state: Sending::Called { future },
                });
                *place = Some(service);
                return sent;
            }
            Poll::Ready(Err(error)) => Sending::Failed {
                rejection: Some(Box::new(error.into())),
            },
            Poll::Pending => Sending::Late {
                future: Box::pin(LateFuture::new(service, request)),
            },
        };
        Self { state }
    }
}

impl<S, B> Future for SendFuture<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<Rejection>>,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            SendingProj::Called { future } => future.poll(cx).map_err(Into::into),
            SendingProj::Late { future } => future.as_mut().poll(cx).map_err(Into::into),
            // Pending once taken: a future must not be polled after it was ready.
            SendingProj::Failed { rejection } => match rejection.take() {
                Some(rejection) => Poll::Ready(Err(*rejection)),
                None => Poll::Pending,
            },
        }
    }
}

impl<S: Service<Request<Body>>> fmt::Debug for SendFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`Forward`](super::Forward).
    ///
    /// # Cancel safety
    ///
    /// That of [`SendFuture`].
    pub struct ResponseFuture<S: Service<Request<Body>>, B> {
        #[pin]
        state: State<SendFuture<S>, B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, B> {
        Sending { #[pin] sending: F, after: After },
        // Boxed: answers are large, futures are moved through many stages, and this one is the exception.
        Decided { outcome: Option<Box<Result<Response<B>, Rejection>>> },
    }
}

impl<S: Service<Request<Body>>, B> ResponseFuture<S, B> {
    pub(super) const fn sending(sending: SendFuture<S>, after: After) -> Self {
        Self {
            state: State::Sending { sending, after },
        }
    }

    pub(super) fn decided(outcome: Result<Response<B>, Rejection>) -> Self {
        Self {
            state: State::Decided {
                outcome: Some(Box::new(outcome)),
            },
        }
    }
}

impl<S, B> Future for ResponseFuture<S, B>
where
    S: Service<Request<Body>, Response = Response<B>, Error: Into<Rejection>>,
    B: http_body::Body<Data = Bytes> + From<Bytes> + Send + 'static,
{
    type Output = Result<Response<B>, Rejection>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Sending { sending, after } => {
                let sent = ready!(sending.poll(cx));
                // Nobody can switch any more. Who keeps a finished future must not keep a tunnel's place with it.
                let response = sent.inspect_err(|_| after.wanted = None)?;
                Poll::Ready(after.finish(response).map_err(|error| error.refuse(None)))
            }
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::Decided { outcome } => match outcome.take() {
                Some(outcome) => Poll::Ready(*outcome),
                None => Poll::Pending,
            },
        }
    }
}

impl<S: Service<Request<Body>>, B> fmt::Debug for ResponseFuture<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
