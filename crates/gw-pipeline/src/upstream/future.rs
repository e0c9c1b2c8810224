//! The futures of this module.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gw_core::Rejection;
use http::{Extensions, Response};
use pin_project_lite::pin_project;

use super::after::After;
use super::body::UpstreamBody;
use super::error::Error;
use crate::inbound::ClientFault;

type Outcome = Result<Response<UpstreamBody>, Rejection>;

/// The future of [`Upstream::send`](super::Upstream::send).
///
/// It is one box around the whole exchange up to the head of the answer: hyper's own futures have no names.
///
/// # Cancel safety
///
/// Dropping it cancels the upstream's work at once: the connection is closed, an HTTP/2 stream reset. A slot, a place
/// in the queue and a connection that is being made are given back.
pub struct SendFuture {
    exchange: Pin<Box<dyn Future<Output = Result<Response<UpstreamBody>, Error>> + Send>>,
    /// The request's, which tell whose fault a failure is.
    extensions: Extensions,
}

impl SendFuture {
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

impl Future for SendFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        let result = ready!(self.exchange.as_mut().poll(cx));
        Poll::Ready(result.map_err(|error| {
            let fault = self.extensions.get::<ClientFault>();
            error.refuse(fault.and_then(ClientFault::get))
        }))
    }
}

impl fmt::Debug for SendFuture {
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
    #[derive(Debug)]
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State {
        Sending { #[pin] exchange: SendFuture, after: After },
        // Boxed: answers are large, futures are moved through many stages, and this one is the exception.
        Decided { outcome: Option<Box<Outcome>> },
    }
}

impl ResponseFuture {
    pub(super) const fn sending(exchange: SendFuture, after: After) -> Self {
        Self {
            state: State::Sending { exchange, after },
        }
    }

    pub(super) fn decided(outcome: Outcome) -> Self {
        Self {
            state: State::Decided {
                outcome: Some(Box::new(outcome)),
            },
        }
    }
}

impl Future for ResponseFuture {
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        match self.project().state.project() {
            StateProj::Sending { exchange, after } => {
                let response = ready!(exchange.poll(cx));
                Poll::Ready(response.and_then(|response| after.finish(response)))
            }
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::Decided { outcome } => match outcome.take() {
                Some(outcome) => Poll::Ready(*outcome),
                None => Poll::Pending,
            },
        }
    }
}
