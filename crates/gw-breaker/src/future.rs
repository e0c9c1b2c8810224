use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::classify::{Classify, Outcome, is_out_of_time};
use gw_core::late::LateFuture;
use gw_core::on_reject::Caller;
use gw_core::{OnReject, Rejection};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Instant;
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
        attempt: Attempt,
        #[pin]
        state: State<S::Future, LateFuture<S, Request<B>, S::Future>, R>,
        judge: Judge<C>,
        caller: Caller,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L, R> {
        Running { #[pin] future: F },
        // One variant for all else, so that what runs at once is told apart by one look. None when it is done.
        Else { other: Option<Else<L, R>> },
    }
}

/// Boxed: they are large, and a breaker that is not closed is not in a hurry.
enum Else<L, R> {
    Late(Pin<Box<L>>),
    Rejected(Box<(Rejected, R)>),
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
        attempt: Attempt,
        judge: Judge<C>,
        caller: Caller,
    ) -> Self {
        Self {
            state: State::Running { future },
            attempt,
            judge,
            caller,
        }
    }

    pub(crate) fn late(service: S, request: Request<B>, attempt: Attempt, judge: Judge<C>) -> Self {
        let caller = Caller::of(request.method(), request.headers());
        let late = Box::pin(LateFuture::new(service, request));
        let other = Some(Else::Late(late));
        Self {
            state: State::Else { other },
            attempt,
            judge,
            caller,
        }
    }

    pub(crate) fn rejected(rejected: Rejected, on_reject: R, judge: Judge<C>) -> Self {
        let other = Some(Else::Rejected(Box::new((rejected, on_reject))));
        Self {
            state: State::Else { other },
            attempt: Attempt::nothing(),
            judge,
            caller: Caller::Http,
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
            StateProj::Else { other } => match other {
                Some(Else::Late(future)) => poll_late(future.as_mut(), cx),
                _ => return refused(other.take()),
            },
        };
        let streams = match &polled {
            Poll::Ready(Ok(response)) => judge.answer(attempt, *this.caller, response),
            Poll::Ready(Err(error)) => {
                judge.error(attempt, error);
                None
            }
            Poll::Pending => return Poll::Pending,
        };
        // What ran is dropped now, not when somebody gets round to dropping this.
        this.state.set(State::Else { other: None });
        if let Some(good) = streams {
            let judged = || (attempt.take_stream(good), judge.classifier.clone());
            return streaming::<_, _, _, R>(polled, judged);
        }
        polled.map(|answer| match answer {
            Ok(response) => Ok(response.map(ResponseBody::new)),
            Err(error) => Err(R::inner(error)),
        })
    }
}

type Answer<ResB, C, E> = Result<Response<ResponseBody<ResB, C>>, E>;

/// The answer with a body that is judged. Each of the two is built in one piece: an answer is some 150 bytes, and one body that
/// is judged or not would have them moved once more; so would what `judged` gives, were it given here as values.
#[inline(always)]
fn streaming<ResB, E, C, R>(
    polled: Poll<Result<Response<ResB>, E>>,
    judged: impl FnOnce() -> (Attempt, C),
) -> Poll<Answer<ResB, C, R::Error>>
where
    R: OnReject<Response<ResB>, E>,
{
    polled.map(|answer| match answer {
        Ok(response) => {
            let (attempt, classifier) = judged();
            Ok(response.map(|body| ResponseBody::judged(body, attempt, classifier)))
        }
        Err(error) => Err(R::inner(error)),
    })
}

/// Nothing, where there is nothing to refuse either: a future must not be polled again.
#[cold]
fn refused<L, ResB, E, C, R>(other: Option<Else<L, R>>) -> Poll<Answer<ResB, C, R::Error>>
where
    R: OnReject<Response<ResB>, E>,
{
    let Some(Else::Rejected(rejected)) = other else {
        return Poll::Pending;
    };
    let (Rejected { rejection, context }, on_reject) = *rejected;
    let answer = on_reject.reject(rejection, &context);
    Poll::Ready(answer.map(|answer| answer.map(ResponseBody::new)))
}

/// Not inlined, so that only what runs at once is.
#[cold]
#[inline(never)]
fn poll_late<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

impl<C: Classify + Clone> Judge<C> {
    #[cold]
    fn error<E>(&self, attempt: &mut Attempt, error: &E)
    where
        C: ClassifyError<E>,
    {
        if attempt.is_told() {
            return;
        }
        let outcome = self.classifier.error(error);
        if outcome == Outcome::Ignored && attempt.is_beyond_the_clients_time() {
            // Dropped as if the client had left: how long the upstream was waited for says something.
            drop(attempt.take());
            return;
        }
        // What says nothing about the upstream says nothing of how fast it is.
        let now = match outcome {
            Outcome::Ignored => None,
            _ => attempt.head(),
        };
        attempt.end(Ended::with(outcome), now);
    }

    /// Tells the breaker how the attempt ended, unless the body of the answer is to do so; then whether the head was good, and has not
    /// just told nothing.
    #[inline(always)]
    fn answer<B: Body>(
        &self,
        attempt: &mut Attempt,
        caller: Caller,
        response: &Response<B>,
    ) -> Option<bool> {
        if attempt.is_told() {
            return None;
        }
        let head = at_head(&self.classifier, caller, response);
        if let Some(outcome @ (Outcome::Ignored | Outcome::Failure)) = head
            && is_the_clients(attempt, outcome, response)
        {
            // As in `error`.
            drop(attempt.take());
            return None;
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
                attempt.streams();
                return Some(head.is_some());
            }
            Some(outcome) => outcome,
            None => Outcome::Success,
        };
        match outcome {
            Outcome::Success => attempt.succeed(now),
            _ => fail(attempt, outcome, response, now),
        }
        None
    }
}

/// Whether the answer is what it is for the time that the client gave.
#[cold]
fn is_the_clients<B>(attempt: &Attempt, outcome: Outcome, response: &Response<B>) -> bool {
    match outcome {
        Outcome::Failure => attempt.is_by_client() && is_out_of_time(response),
        _ => attempt.is_beyond_the_clients_time(),
    }
}

/// The verdict is another than success, and with a failure it is heard how long the upstream asks to be left alone. What a stage
/// inside has answered in its place says when its client is to come back.
#[cold]
#[inline(never)]
fn fail<B>(attempt: &mut Attempt, outcome: Outcome, response: &Response<B>, now: Option<Instant>) {
    let mut ended = Ended::with(outcome);
    if outcome == Outcome::Failure
        && response.extensions().get::<Rejection>().is_none()
        && let Some(wait) = asked_for(response.headers())
    {
        ended = ended.retry_after(wait);
    }
    attempt.end(ended, now);
}

impl<S, B, C, R> fmt::Debug for ResponseFuture<S, B, C, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Else { other: None } => "done",
            State::Else {
                other: Some(Else::Rejected(_)),
            } => "rejected",
            State::Running { .. } | State::Else { .. } => "running",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
