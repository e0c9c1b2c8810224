use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::{OnReject, RejectContext};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::error::Rejected;
use crate::executor::{Execute, Failed, PollAnswer as _};
use crate::lanes::{Permit, Reaper, Refusal, Wait};
use crate::layer::Shared;
use crate::lease::Lease;

pin_project! {
    /// The future of a [`Bulkhead`](crate::Bulkhead): waits for a place if it must, then runs the request.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue or drops the inner future, and gives the place back.
    pub struct ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        X: Execute<S, B, ResB>,
    {
        // Dropped before the lease: while a place is taken for it, and not longer.
        #[pin]
        state: State<S, B, X, X::Future, X::Late>,
        // Of a request that runs.
        lease: Option<Lease>,
        // Always there: an option so that it comes here as the lease does, see `gw_core::call`.
        on_reject: Option<R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, B, X, F, L> {
        Queued { queued: Option<Box<Queued<S, B, X>>> },
        Running { #[pin] future: F },
        // Boxed as what was queued was.
        Late { future: Pin<Box<L>> },
        Rejected { rejected: Option<Box<Rejected>> },
        Done,
    }
}

/// A request in the queue. Boxed: it is large, and what is queued is not in a hurry.
struct Queued<S, B, X> {
    wait: Wait,
    reaper: Reaper,
    context: RejectContext,
    shared: Arc<Shared>,
    /// Not ready: see [`late`](crate::late).
    service: S,
    request: Request<B>,
    executor: X,
}

impl<S, B, ResB, X, R> ResponseFuture<S, B, ResB, X, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    X: Execute<S, B, ResB>,
{
    /// Runs at once.
    #[inline]
    pub(crate) const fn running(
        future: X::Future,
        lease: Option<Lease>,
        on_reject: Option<R>,
    ) -> Self {
        Self {
            state: State::Running { future },
            lease,
            on_reject,
        }
    }

    /// Is refused.
    pub(crate) fn rejected(rejected: Rejected, on_reject: R) -> Self {
        let rejected = Some(Box::new(rejected));
        Self {
            state: State::Rejected { rejected },
            lease: None,
            on_reject: Some(on_reject),
        }
    }

    /// Waits first.
    pub(crate) fn queued(
        wait: Wait,
        shared: Arc<Shared>,
        (service, request): (S, Request<B>),
        executor: X,
        on_reject: R,
    ) -> Self {
        let queued = Some(Box::new(Queued {
            reaper: wait.reaper(),
            wait,
            context: RejectContext::of(&request),
            shared,
            service,
            request,
            executor,
        }));
        Self {
            state: State::Queued { queued },
            lease: None,
            on_reject: Some(on_reject),
        }
    }
}

impl<S, B, X> Queued<S, B, X> {
    /// The place or the refusal, or nothing if it took too long.
    fn poll_place(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Permit, Refusal>>> {
        loop {
            if let Poll::Ready(fate) = Pin::new(&mut self.wait).poll(cx) {
                return Poll::Ready(Some(fate));
            }
            // If this frees a place for it, it is woken.
            let look = self.wait.next_look();
            ready!(self.reaper.poll(cx, Some(look)));
            if look == self.wait.until() && !self.wait.prolong(Instant::now()) {
                return Poll::Ready(None);
            }
        }
    }

    /// Goes on with the place it was given, or with the one it is given at the last moment, or is refused.
    fn leave<ResB>(
        self,
        fate: Option<Result<Permit, Refusal>>,
        held: &mut Option<Lease>,
    ) -> State<S, B, X, X::Future, X::Late>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        X: Execute<S, B, ResB>,
    {
        let Self {
            wait,
            context,
            shared,
            service,
            mut request,
            executor,
            ..
        } = self;
        match fate.unwrap_or_else(|| wait.give_up(Instant::now())) {
            Ok(permit) => {
                let (lease, side) = executor.lease(&shared, permit, &mut request);
                *held = Some(lease);
                let future = Box::pin(executor.execute_late(service, request, side, held));
                State::Late { future }
            }
            Err(refusal) => {
                let observer = shared.observer(request.extensions());
                let rejected = Rejected::new(refusal, observer, context);
                State::Rejected {
                    rejected: Some(Box::new(rejected)),
                }
            }
        }
    }
}

impl<S, B, ResB, X, R> Future for ResponseFuture<S, B, ResB, X, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    X: Execute<S, B, ResB>,
    R: OnReject<Response<ResB>, S::Error>,
{
    type Output = Result<Response<X::Body>, R::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(on_reject) = &*this.on_reject else {
            return Poll::Pending;
        };
        let mut running = Running {
            state: this.state,
            lease: this.lease,
            ended: false,
        };
        // The way of most requests stands apart, so that the answer is written to where it is returned.
        if let StateProj::Running { future } = running.state.as_mut().project() {
            let failed = |why| failed(on_reject, why);
            return future.poll_answer(running.lease, cx, &mut running.ended, failed);
        }
        running.poll_otherwise(cx, on_reject)
    }
}

/// What becomes of a request without an answer.
#[cold]
fn failed<R, ResB, E, B>(on_reject: &R, why: Failed<E>) -> Result<Response<B>, R::Error>
where
    R: OnReject<Response<ResB>, E>,
    B: From<ResponseBody<ResB>>,
{
    match why {
        Failed::Inner(error) => Err(R::inner(error)),
        Failed::Rejected(rejected) => {
            let Rejected { rejection, context } = *rejected;
            let response = on_reject.reject(rejection, &context)?;
            Ok(response.map(|body| ResponseBody::new(body).into()))
        }
    }
}

/// Drops what ran when it has ended, and not when somebody gets round to dropping the future.
///
/// When this is dropped, so that the answer is written to where it is returned and not moved from there.
struct Running<'a, S, B, X, F, L> {
    state: Pin<&'a mut State<S, B, X, F, L>>,
    lease: &'a mut Option<Lease>,
    ended: bool,
}

impl<S, B, ResB, X> Running<'_, S, B, X, X::Future, X::Late>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    X: Execute<S, B, ResB>,
{
    /// For requests that did not run at once.
    #[inline(never)]
    fn poll_otherwise<R>(
        &mut self,
        cx: &mut Context<'_>,
        on_reject: &R,
    ) -> Poll<Result<Response<X::Body>, R::Error>>
    where
        R: OnReject<Response<ResB>, S::Error>,
    {
        let failed = |why| failed(on_reject, why);
        loop {
            match self.state.as_mut().project() {
                StateProj::Queued { queued } => {
                    let Some(waiting) = queued else {
                        return Poll::Pending;
                    };
                    let fate = ready!(waiting.poll_place(cx));
                    let Some(queued) = queued.take() else {
                        return Poll::Pending;
                    };
                    self.state.set(queued.leave(fate, self.lease));
                }
                StateProj::Running { future } => {
                    return future.poll_answer(self.lease, cx, &mut self.ended, failed);
                }
                StateProj::Late { future } => {
                    let future = future.as_mut();
                    return future.poll_answer(self.lease, cx, &mut self.ended, failed);
                }
                StateProj::Rejected { rejected } => {
                    return match rejected.take() {
                        Some(rejected) => Poll::Ready(failed(Failed::Rejected(rejected))),
                        None => Poll::Pending,
                    };
                }
                // A future must not be polled again.
                StateProj::Done => return Poll::Pending,
            }
        }
    }
}

impl<S, B, X, F, L> Drop for Running<'_, S, B, X, F, L> {
    #[inline]
    fn drop(&mut self) {
        if self.ended {
            self.state.set(State::Done);
            if self.lease.is_some() {
                *self.lease = None;
            }
        }
    }
}

impl<S, B, ResB, X, R> fmt::Debug for ResponseFuture<S, B, ResB, X, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    X: Execute<S, B, ResB>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Queued { .. } => "queued",
            State::Running { .. } | State::Late { .. } => "running",
            State::Rejected { .. } => "rejected",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
