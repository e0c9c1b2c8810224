//! The future of both layers.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::{OnReject, RejectContext, Rejection};
use http::Response;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::body::TimedBody;
use super::error::Timer;
use super::limit::Limit;
use super::note::Note;

pin_project! {
    /// The future of [`InTime`](super::InTime) and [`AttemptTimeout`](super::AttemptTimeout).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future and its timer, and nothing else.
    pub struct ResponseFuture<F, R> {
        #[pin]
        inner: Inner<F>,
        // Set at the first wait.
        #[pin]
        sleep: Option<Sleep>,
        timing: Timing,
        on_reject: R,
    }
}

pin_project! {
    #[project = InnerProj]
    enum Inner<F> {
        Running { #[pin] future: F },
        Ended,
        Refused { refused: Option<Box<Rejection>> },
    }
}

/// What is to be timed, and what a refusal needs.
#[derive(Default)]
pub(super) struct Timing {
    /// Until the head.
    pub(super) head: Option<Limit>,
    /// Until the end.
    pub(super) whole: Option<Limit>,
    /// Between two frames.
    pub(super) idle: Option<Duration>,
    /// What the expiry says of the upstream.
    pub(super) failure: Failure,
    pub(super) context: RejectContext,
    /// Who is told that the exchange was refused, or its answer cut.
    pub(super) note: Option<Note>,
    /// Whether it is an attempt: until there is a head nobody is told of one that has ended, since another may follow.
    pub(super) is_attempt: bool,
    /// Whether what is late is only counted.
    pub(super) shadow: bool,
}

impl<F, R> ResponseFuture<F, R> {
    #[inline]
    pub(super) const fn running(future: F, timing: Timing, on_reject: R) -> Self {
        Self {
            inner: Inner::Running { future },
            sleep: None,
            timing,
            on_reject,
        }
    }

    /// The time is over already.
    pub(super) fn late(timer: Timer, timing: Timing, on_reject: R) -> Self {
        let refused = Some(Box::new(timing.refuse(timer, Failure::Refused)));
        Self {
            inner: Inner::Refused { refused },
            sleep: None,
            timing,
            on_reject,
        }
    }
}

impl Timing {
    fn refuse(&self, timer: Timer, failure: Failure) -> Rejection {
        if let Some(note) = self.note.as_ref().filter(|_| !self.is_attempt) {
            note.ended_by(timer);
        }
        timer.fired(failure)
    }
}

impl<F, R, ResB, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    R: OnReject<Response<ResB>, E>,
{
    type Output = Result<Response<TimedBody<ResB>>, R::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let timing = this.timing;
        let rejection = match this.inner.as_mut().project() {
            // An answer that is ready beats a timer that fires together with it.
            InnerProj::Running { future } => match future.poll(cx) {
                Poll::Ready(outcome) => {
                    this.inner.set(Inner::Ended);
                    this.sleep.set(None);
                    let (whole, idle, shadow) = (timing.whole, timing.idle, timing.shadow);
                    let timed = |body| {
                        let note = timing.note.take();
                        TimedBody::timed(body, whole, idle, note, shadow)
                    };
                    return Poll::Ready(match outcome {
                        Ok(response) => Ok(response.map(timed)),
                        Err(error) => Err(R::inner(error)),
                    });
                }
                Poll::Pending => {
                    let Some(limit) = timing.head else {
                        return Poll::Pending;
                    };
                    if poll_until(this.sleep.as_mut(), limit.due, cx).is_pending() {
                        return Poll::Pending;
                    }
                    if timing.shadow {
                        // Once: nothing else is timed then.
                        limit.timer.shadowed();
                        (timing.head, timing.whole) = (None, None);
                        this.sleep.set(None);
                        return Poll::Pending;
                    }
                    timing.refuse(limit.timer, timing.failure)
                }
            },
            InnerProj::Refused { refused } => match refused.take() {
                Some(refused) => *refused,
                None => return Poll::Pending,
            },
            // A future must not be polled again.
            InnerProj::Ended => return Poll::Pending,
        };
        // The work is dropped now, before anybody hears of it.
        this.inner.set(Inner::Ended);
        let response = this.on_reject.reject(rejection, &timing.context);
        Poll::Ready(response.map(|response| response.map(TimedBody::new)))
    }
}

/// Ready once `due` has passed, with a timer that is made at the first wait.
fn poll_until(mut sleep: Pin<&mut Option<Sleep>>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    if sleep.is_none() {
        sleep.set(Some(sleep_until(due)));
    }
    match sleep.as_pin_mut() {
        Some(sleep) => sleep.poll(cx),
        None => Poll::Pending,
    }
}

impl<F, R> fmt::Debug for ResponseFuture<F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("head", &self.timing.head)
            .finish_non_exhaustive()
    }
}
