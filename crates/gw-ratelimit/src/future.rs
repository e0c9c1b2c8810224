//! The future of the service.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gw_core::OnReject;
use http::Response;
use pin_project_lite::pin_project;

use crate::charge_body::{ChargedBody, Meter};
use crate::fields::Advert;
use crate::late::Late;
use crate::refused;

pin_project! {
    /// The answer of the inner service with the limits' fields, or a refusal.
    ///
    /// `F` is the inner service's future, `R` the renderer and `T` the outcome.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and nothing else. What the request was charged stays charged: it was
    /// admitted. What the head of its answer would have changed is not changed.
    pub struct ResponseFuture<F, R, T> {
        #[pin]
        state: State<F, T>,
        // It was asked for a refusal already, and errors need its type alone.
        on_reject: PhantomData<fn() -> R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F, T> {
        // Most requests where no fields are wanted. Apart, so that what is not there is not moved about either.
        Passed {
            #[pin]
            response: F,
        },
        Told {
            #[pin]
            response: F,
            advert: Option<Advert>,
            late: Option<Box<Late>>,
        },
        // Boxed: answers are large, futures are moved through many stages, and this one is the exception.
        Refused { outcome: Option<Box<T>> },
    }
}

impl<F, R, T> ResponseFuture<F, R, T> {
    /// The answer of `call`, with what it is to be told. Called in here, and not before, so that the future is written to where
    /// it stays: it may be large. So may `advert`, which is moved only if there is any.
    #[inline]
    pub(crate) fn passed(
        call: impl FnOnce() -> F,
        advert: &mut Option<Advert>,
        late: Option<Box<Late>>,
    ) -> Self {
        if advert.is_none() && late.is_none() {
            return Self {
                state: State::Passed { response: call() },
                on_reject: PhantomData,
            };
        }
        Self {
            state: State::Told {
                response: call(),
                advert: advert.take(),
                late,
            },
            on_reject: PhantomData,
        }
    }

    pub(crate) fn refused(outcome: T) -> Self {
        Self {
            state: State::Refused {
                outcome: Some(Box::new(outcome)),
            },
            on_reject: PhantomData,
        }
    }
}

impl<F, R, B, E> Future for ResponseFuture<F, R, Result<Response<B>, R::Error>>
where
    F: Future<Output = Result<Response<B>, E>>,
    R: OnReject<Response<B>, E>,
    E: 'static,
{
    type Output = Result<Response<B>, R::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Passed { response } => response.poll(cx).map_err(R::inner),
            StateProjection::Told {
                response,
                advert,
                late,
            } => {
                // Changed where it lies: an answer is large.
                let mut outcome = ready!(response.poll(cx));
                if let Err(error) = &mut outcome {
                    let late = late.take();
                    refused::tell(error, |head| tell_refused(late, head, advert));
                } else if let Some(late) = late.take() {
                    outcome = outcome.map(|response| settle(*late, response, advert));
                }
                if let (Ok(response), Some(advert)) = (&mut outcome, advert) {
                    advert.write(response);
                }
                Poll::Ready(outcome.map_err(R::inner))
            }
            // Pending once taken: a future must not be polled after it was ready.
            StateProjection::Refused { outcome } => match outcome.take() {
                Some(outcome) => Poll::Ready(*outcome),
                None => Poll::Pending,
            },
        }
    }
}

/// Charges what the answer's head says, and tells of what is left then.
fn settle<B>(late: Late, response: Response<B>, advert: &mut Option<Advert>) -> Response<B> {
    let (head, body) = response.into_parts();
    if let (Some(anew), Some(advert)) = (late.settle(&head), advert) {
        advert.tell_anew(anew);
    }
    Response::from_parts(head, body)
}

/// The same for a refusal that is no answer yet.
fn tell_refused(
    late: Option<Box<Late>>,
    mut head: Response<()>,
    advert: &mut Option<Advert>,
) -> Response<()> {
    if let Some(late) = late {
        head = settle(*late, head, advert);
    }
    if let Some(advert) = advert {
        advert.write(&mut head);
    }
    head
}

impl<F, R, T> fmt::Debug for ResponseFuture<F, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of the inner service with a body that is charged as it leaves; the future of
    /// [`ChargeBody`](crate::ChargeBody).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future and nothing else: no byte has left yet.
    #[derive(Debug)]
    pub struct ChargeBodyFuture<F> {
        #[pin]
        response: F,
        meter: Option<Meter>,
    }
}

impl<F> ChargeBodyFuture<F> {
    pub(crate) const fn new(response: F, meter: Option<Meter>) -> Self {
        Self { response, meter }
    }
}

impl<F, B, E> Future for ChargeBodyFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ChargedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(cx))?;
        let meter = this.meter.take();
        Poll::Ready(Ok(response.map(|body| ChargedBody::metered(body, meter))))
    }
}
