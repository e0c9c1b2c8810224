//! The future of a [`Hedge`](super::Hedge).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::attempt::AttemptError;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::plan::{Earlier, Plan, Second};
use crate::telemetry::Hedged;

pin_project! {
    /// The future of a [`Hedge`](super::Hedge): the first copy, and the second once it is sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops both copies and the timer, and gives back what was not sent.
    pub struct ResponseFuture<S, B, ResB>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
    {
        #[pin]
        first: First<S::Future>,
        // None for what is not hedged.
        plan: Option<Box<Plan<S>>>,
        // Boxed: it is one request in a hundred.
        second: Option<Pin<Box<Second<S::Future>>>>,
        // Of the copy that has failed while the other one is on its way.
        earlier: Option<Box<Earlier<ResB, S::Error>>>,
    }
}

pin_project! {
    #[project = FirstProj]
    enum First<F> {
        Running { #[pin] future: F },
        Ended,
    }
}

impl<S, B, ResB> ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    #[inline]
    pub(super) const fn new(first: S::Future, plan: Option<Box<Plan<S>>>) -> Self {
        Self {
            first: First::Running { future: first },
            plan,
            second: None,
            earlier: None,
        }
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: AttemptError,
    B: Default,
{
    type Output = Result<Response<ResB>, S::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let first_runs = match this.first.as_mut().project() {
                FirstProj::Ended => false,
                FirstProj::Running { future } => match future.poll(cx) {
                    Poll::Pending => true,
                    Poll::Ready(outcome) => {
                        this.first.set(First::Ended);
                        let Some(plan) = this.plan else {
                            return Poll::Ready(outcome);
                        };
                        let good = plan.is_good(&outcome);
                        if good {
                            plan.first_took();
                        }
                        // The one that fails first is not the answer while the other may still be one.
                        if good || this.second.is_none() {
                            if let Some(mut second) = this.second.take() {
                                second.as_mut().ended(Hedged::Lost);
                            }
                            let earlier = this.earlier.take();
                            let outcome = match good {
                                true => outcome,
                                false => plan.outcome(outcome, earlier),
                            };
                            *this.plan = None;
                            return Poll::Ready(outcome);
                        }
                        *this.earlier = plan.set_aside(outcome);
                        false
                    }
                },
            };
            let Some(plan) = this.plan else {
                // Not hedged, or answered already.
                return Poll::Pending;
            };
            let Some(second) = this.second else {
                match plan.poll_second(cx) {
                    Poll::Ready(second) => *this.second = Some(Box::pin(second)),
                    Poll::Pending => return Poll::Pending,
                }
                continue;
            };
            let Poll::Ready(outcome) = second.as_mut().poll_answer(cx) else {
                return Poll::Pending;
            };
            let good = plan.is_good(&outcome);
            if good {
                plan.second_took(second);
                if first_runs {
                    plan.first_took();
                }
                second.as_mut().ended(Hedged::Won);
            } else {
                second.as_mut().failed(&outcome);
            }
            *this.second = None;
            if first_runs && !good {
                *this.earlier = plan.set_aside(outcome);
                return Poll::Pending;
            }
            let earlier = this.earlier.take();
            let outcome = match good {
                true => outcome,
                false => plan.outcome(outcome, earlier),
            };
            // The loser is dropped before anybody hears of the answer.
            this.first.set(First::Ended);
            *this.plan = None;
            return Poll::Ready(outcome);
        }
    }
}

impl<S, B, ResB> fmt::Debug for ResponseFuture<S, B, ResB>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("hedged", &self.second.is_some())
            .finish_non_exhaustive()
    }
}
