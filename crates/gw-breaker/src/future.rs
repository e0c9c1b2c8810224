use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::OnReject;
use gw_core::classify::{Classify, Outcome};
use gw_core::late::LateFuture;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::attempt::Attempt;
use crate::body::ResponseBody;
use crate::breaker::Ended;
use crate::classify::{ClassifyError, asked_for, at_head};
use crate::config::JudgeAt;
use crate::error::Rejected;

pin_project! {
    /// The future of a [`BreakerService`](crate::BreakerService).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner future. It says nothing about the upstream, unless the call had been slow by then or
    /// the request's deadline had passed; and it gives the slot of a probe back.
    pub struct ResponseFuture<S, B, C, R>
    where
        S: Service<Request<B>>,
    {
        // Before the state, which is dropped after it: once the inner future is gone, nobody knows any more whether it was the
        // client that was waited for.
        attempt: Option<Attempt>,
        #[pin]
        state: State<S::Future, LateFuture<S, Request<B>, S::Future>, R>,
        judge: Judge<C>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L, R> {
        Running { #[pin] future: F },
        // Boxed: it is large, and a breaker that is not closed is not in a hurry.
        Late { future: Pin<Box<L>> },
        Rejected { rejected: Option<Box<(Rejected, R)>> },
        Done,
    }
}

/// How answers and errors are judged.
#[derive(Debug, Clone)]
pub(crate) struct Judge<C> {
    pub(crate) classifier: C,
    pub(crate) judge_at: JudgeAt,
}

impl<S, B, C, R> ResponseFuture<S, B, C, R>
where
    S: Service<Request<B>>,
{
    #[inline(always)]
    pub(crate) const fn running(
        future: S::Future,
        attempt: Option<Attempt>,
        judge: Judge<C>,
    ) -> Self {
        Self {
            state: State::Running { future },
            attempt,
            judge,
        }
    }

    pub(crate) fn late(
        service: S,
        request: Request<B>,
        attempt: Option<Attempt>,
        judge: Judge<C>,
    ) -> Self {
        let future = Box::pin(LateFuture::new(service, request));
        Self {
            state: State::Late { future },
            attempt,
            judge,
        }
    }

    pub(crate) fn rejected(rejected: Rejected, on_reject: R, judge: Judge<C>) -> Self {
        let rejected = Some(Box::new((rejected, on_reject)));
        Self {
            state: State::Rejected { rejected },
            attempt: None,
            judge,
        }
    }
}

impl<S, B, ResB, C, R> Future for ResponseFuture<S, B, C, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    ResB: Body,
    C: Classify + ClassifyError<S::Error> + Clone,
    R: OnReject<Response<ResB>, S::Error>,
{
    type Output = Result<Response<ResponseBody<ResB, C>>, R::Error>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let (attempt, judge) = (this.attempt, &*this.judge);
        let polled = match this.state.as_mut().project() {
            StateProj::Running { future } => future.poll(cx),
            StateProj::Late { future } => poll_late(future.as_mut(), cx),
            StateProj::Rejected { rejected } => match rejected.take() {
                Some(rejected) => {
                    let (Rejected { rejection, context }, on_reject) = *rejected;
                    let answer = on_reject.reject(rejection, &context);
                    return Poll::Ready(answer.map(|answer| answer.map(ResponseBody::new)));
                }
                None => return Poll::Pending,
            },
            // A future must not be polled again.
            StateProj::Done => return Poll::Pending,
        };
        let judged = match &polled {
            Poll::Ready(Ok(response)) => judge.answer(attempt, response),
            Poll::Ready(Err(error)) => {
                judge.error(attempt, error);
                true
            }
            Poll::Pending => return Poll::Pending,
        };
        // What ran is dropped now, not when somebody gets round to dropping this.
        this.state.set(State::Done);
        // In one place, since an answer is some 150 bytes: moving it costs more than all that is decided here.
        polled.map(|answer| match answer {
            Ok(response) => Ok(response.map(|body| match judged {
                true => ResponseBody::new(body),
                false => ResponseBody::judged(body, attempt.take(), judge.classifier.clone()),
            })),
            Err(error) => Err(R::inner(error)),
        })
    }
}

/// Not inlined, so that only what runs at once is.
#[cold]
#[inline(never)]
fn poll_late<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

impl<C: Classify + Clone> Judge<C> {
    #[cold]
    fn error<E>(&self, waiting: &mut Option<Attempt>, error: &E)
    where
        C: ClassifyError<E>,
    {
        if let Some(attempt) = waiting {
            let outcome = self.classifier.error(error);
            if outcome == Outcome::Ignored && attempt.is_beyond_the_clients_time() {
                // Dropped as if the client had left: how long the upstream was waited for says something.
                *waiting = None;
                return;
            }
            // What says nothing about the upstream says nothing of how fast it is.
            let now = match outcome {
                Outcome::Ignored => None,
                _ => attempt.head(),
            };
            attempt.end(Ended::with(outcome), now);
        }
    }

    /// Tells the breaker how the attempt ended, unless the body of the answer is to do so; whether it did.
    #[inline(always)]
    fn answer<B: Body>(&self, waiting: &mut Option<Attempt>, response: &Response<B>) -> bool {
        // In its place: most are not needed any more when this is done.
        let Some(attempt) = waiting else {
            return true;
        };
        let head = at_head(&self.classifier, response);
        // As in `error`.
        if head == Some(Outcome::Ignored) && attempt.is_beyond_the_clients_time() {
            *waiting = None;
            return true;
        }
        let now = match head {
            Some(Outcome::Ignored) => None,
            _ => attempt.head(),
        };
        let outcome = match head {
            Some(Outcome::Success) | None if response.body().is_end_stream() => {
                head.unwrap_or_else(|| self.classifier.end(None))
            }
            Some(Outcome::Success) | None if self.judge_at == JudgeAt::End => {
                attempt.streams(head.is_some());
                return false;
            }
            Some(outcome) => outcome,
            None => Outcome::Success,
        };
        if outcome == Outcome::Success {
            attempt.succeed(now);
            return true;
        }
        let mut ended = Ended::with(outcome);
        if outcome == Outcome::Failure
            && let Some(wait) = asked_for(response)
        {
            ended = ended.retry_after(wait);
        }
        attempt.end(ended, now);
        true
    }
}

impl<S, B, C, R> fmt::Debug for ResponseFuture<S, B, C, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } | State::Late { .. } => "running",
            State::Rejected { .. } => "rejected",
            State::Done => "done",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
