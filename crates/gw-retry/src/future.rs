//! The future of a [`Retry`](crate::Retry).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gw_core::attempt::AttemptError;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::plan::{Next, Plan, passed};
use crate::replay::ReplayBody;

pin_project! {
    /// The future of a [`Retry`](crate::Retry): the attempt on its way, and what is needed to send the request again.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the attempt that is on its way or the timer of the one that waits, gives back to the budget what was
    /// not sent, and drops what is kept of the request's body. No task and no timer stays behind.
    pub struct ResponseFuture<S, B, ResB>
    where
        S: Service<Request<ReplayBody<B>>>,
        B: Body,
        ResB: Body,
    {
        #[pin]
        state: State<S::Future>,
        // None for what is sent once.
        plan: Option<Box<Plan<S, B, ResB, S::Error>>>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        Trying { #[pin] attempt: F },
        Waiting,
        Done,
    }
}

impl<S, B, ResB> ResponseFuture<S, B, ResB>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
    ResB: Body,
{
    #[inline]
    pub(crate) const fn once(attempt: S::Future) -> Self {
        Self {
            state: State::Trying { attempt },
            plan: None,
        }
    }

    #[inline]
    pub(crate) const fn replayable(
        attempt: S::Future,
        plan: Box<Plan<S, B, ResB, S::Error>>,
    ) -> Self {
        Self {
            state: State::Trying { attempt },
            plan: Some(plan),
        }
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B, ResB>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResB>>,
    S::Error: AttemptError,
    B: Body<Data = Bytes>,
    ResB: Body,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.as_mut().project();
        if this.plan.is_some() {
            return self.poll_replayable(cx);
        }
        match this.state.as_mut().project() {
            // Sent once: there is nothing to do but to wait for it.
            StateProj::Trying { attempt } => {
                let polled = attempt.poll(cx);
                if polled.is_ready() {
                    // What it holds is given back now, not when somebody gets round to dropping this.
                    this.state.set(State::Done);
                }
                polled.map(|outcome| passed(outcome, None))
            }
            // A future must not be polled again.
            StateProj::Waiting | StateProj::Done => Poll::Pending,
        }
    }
}

impl<S, B, ResB> ResponseFuture<S, B, ResB>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResB>>,
    S::Error: AttemptError,
    B: Body<Data = Bytes>,
    ResB: Body,
{
    /// Not inlined: what is sent once stays small.
    #[inline(never)]
    fn poll_replayable(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<<Self as Future>::Output> {
        let mut this = self.project();
        let Some(plan) = this.plan else {
            return Poll::Pending;
        };
        loop {
            let next = match this.state.as_mut().project() {
                StateProj::Trying { attempt } => {
                    let outcome = ready!(attempt.poll(cx));
                    // The attempt is dropped before anything else: what it has of the body comes back then.
                    this.state.set(State::Done);
                    if plan.has_succeeded(&outcome) {
                        let held = plan.held(None);
                        *this.plan = None;
                        return Poll::Ready(passed(outcome, held));
                    }
                    plan.after(outcome)
                }
                StateProj::Waiting => ready!(plan.poll_again(cx)),
                StateProj::Done => return Poll::Pending,
            };
            match next {
                Next::Wait => this.state.set(State::Waiting),
                Next::Try(attempt) => this.state.set(State::Trying { attempt }),
                Next::Answer(answer) => {
                    this.state.set(State::Done);
                    // What it holds is given back now, not when somebody gets round to dropping this.
                    *this.plan = None;
                    return Poll::Ready(answer);
                }
            }
        }
    }
}

impl<S, B, ResB> fmt::Debug for ResponseFuture<S, B, ResB>
where
    S: Service<Request<ReplayBody<B>>>,
    B: Body,
    ResB: Body,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Trying { .. } => "trying",
            State::Waiting => "waiting",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .field("replayable", &self.plan.is_some())
            .finish()
    }
}
