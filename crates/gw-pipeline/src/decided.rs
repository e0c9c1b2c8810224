use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::record::Record;
use gw_core::{OnReject, RejectContext, Rejection};
use http::Response;
use http::request::Parts;
use pin_project_lite::pin_project;

use crate::pipeline::slot::Slot;

pin_project! {
    /// The future of a stage that decides at once: a refusal at hand, or the inner service's future.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future, and nothing else.
    pub struct Decided<Fut, R, B, E>
    where
        R: OnReject<Response<B>, E>,
    {
        #[pin]
        state: State<Fut, Result<Response<B>, R::Error>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<Fut, T> {
        Inner { #[pin] future: Fut },
        // Boxed: answers are large, futures are moved through many stages, and this one is the exception.
        Refused { answer: Option<Box<T>> },
    }
}

impl<Fut, R, B, E> Decided<Fut, R, B, E>
where
    R: OnReject<Response<B>, E>,
{
    /// Lets the request pass: waits for the inner service, whose error `R` turns into the stage's own.
    pub const fn inner(future: Fut) -> Self {
        Self {
            state: State::Inner { future },
        }
    }

    /// Ends the request here, with what the stage's [`OnReject`] made of the refusal.
    pub fn refused(answer: Result<Response<B>, R::Error>) -> Self {
        Self {
            state: State::Refused {
                answer: Some(Box::new(answer)),
            },
        }
    }

    /// [`refused`](Self::refused) by the stage in the slot `S`, as `on_reject` tells the caller and the record tells the
    /// observer.
    #[cold]
    pub(crate) fn refuse<S: Slot>(on_reject: &R, refused: Rejection, parts: &Parts) -> Self {
        if let Some(record) = Record::of(&parts.extensions) {
            record.refused(S::NAME, refused.code());
        }
        let context = RejectContext::of_parts(parts);
        Self::refused(on_reject.reject(refused, &context))
    }
}

impl<Fut, R, B, E> Future for Decided<Fut, R, B, E>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    R: OnReject<Response<B>, E>,
{
    type Output = Result<Response<B>, R::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Inner { future } => future.poll(cx).map(|result| result.map_err(R::inner)),
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::Refused { answer } => match answer.take() {
                Some(answer) => Poll::Ready(*answer),
                None => Poll::Pending,
            },
        }
    }
}

impl<Fut, R, B, E> fmt::Debug for Decided<Fut, R, B, E>
where
    R: OnReject<Response<B>, E>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Inner { .. } => "inner",
            State::Refused { .. } => "refused",
        };
        f.debug_tuple("Decided").field(&state).finish()
    }
}
