//! The future of the service.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gw_core::OnReject;
use http::Response;
use pin_project_lite::pin_project;

use crate::fields::Advert;

pin_project! {
    /// The answer of the inner service with the limits' fields, or a refusal.
    ///
    /// `F` is the inner service's future, `R` the renderer and `T` the outcome.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and nothing else. What the request was charged stays charged: it was
    /// admitted.
    pub struct ResponseFuture<F, R, T> {
        #[pin]
        state: State<F, R, T>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, R, T> {
        Passed {
            #[pin]
            response: F,
            advert: Option<Advert>,
            on_reject: R,
        },
        // Boxed: answers are large, futures are moved through many stages, and this one is the exception.
        Refused { outcome: Option<Box<T>> },
    }
}

impl<F, R, T> ResponseFuture<F, R, T> {
    pub(crate) fn passed(response: F, advert: Option<Advert>, on_reject: R) -> Self {
        Self {
            state: State::Passed {
                response,
                advert,
                on_reject,
            },
        }
    }

    pub(crate) fn refused(outcome: T) -> Self {
        Self {
            state: State::Refused {
                outcome: Some(Box::new(outcome)),
            },
        }
    }
}

impl<F, R, B, E> Future for ResponseFuture<F, R, Result<Response<B>, R::Error>>
where
    F: Future<Output = Result<Response<B>, E>>,
    R: OnReject<Response<B>, E>,
{
    type Output = Result<Response<B>, R::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed {
                response,
                advert,
                on_reject,
            } => Poll::Ready(match ready!(response.poll(cx)) {
                Ok(mut response) => {
                    if let Some(advert) = advert.take() {
                        advert.write(&mut response);
                    }
                    Ok(response)
                }
                Err(error) => Err(on_reject.inner(error)),
            }),
            // Pending once taken: a future must not be polled after it was ready.
            StateProjection::Refused { outcome } => match outcome.take() {
                Some(outcome) => Poll::Ready(*outcome),
                None => Poll::Pending,
            },
        }
    }
}

impl<F, R, T> fmt::Debug for ResponseFuture<F, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
