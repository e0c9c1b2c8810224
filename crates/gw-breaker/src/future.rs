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
        #[pin]
        state: State<S::Future, LateFuture<S, Request<B>, S::Future>>,
        attempt: Option<Attempt>,
        manner: Manner<C, R>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F, L> {
        Running { #[pin] future: F },
        // Boxed: it is large, and a breaker that is not closed is not in a hurry.
        Late { future: Pin<Box<L>> },
        Rejected { rejected: Option<Box<Rejected>> },
        Done,
    }
}

/// An answer whose attempt is judged, or has its body to do so.
type Judged<B, C, E> = Result<Response<ResponseBody<B, C>>, E>;

/// How requests are judged and refused.
#[derive(Debug, Clone)]
pub(crate) struct Manner<C, R> {
    pub(crate) classifier: C,
    pub(crate) judge_at: JudgeAt,
    pub(crate) on_reject: R,
}

impl<S, B, C, R> ResponseFuture<S, B, C, R>
where
    S: Service<Request<B>>,
{
    #[inline(always)]
    pub(crate) const fn running(
        future: S::Future,
        attempt: Option<Attempt>,
        manner: Manner<C, R>,
    ) -> Self {
        Self {
            state: State::Running { future },
            attempt,
            manner,
        }
    }

    pub(crate) fn late(
        service: S,
        request: Request<B>,
        attempt: Option<Attempt>,
        manner: Manner<C, R>,
    ) -> Self {
        let future = Box::pin(LateFuture::new(service, request));
        Self {
            state: State::Late { future },
            attempt,
            manner,
        }
    }

    pub(crate) fn rejected(rejected: Rejected, manner: Manner<C, R>) -> Self {
        let rejected = Some(Box::new(rejected));
        Self {
            state: State::Rejected { rejected },
            attempt: None,
            manner,
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
        let (attempt, manner) = (this.attempt, &*this.manner);
        // Straight from where it comes to where it goes: an answer is some 150 bytes, and moving it costs more than all that
        // is decided here.
        let answer = match this.state.as_mut().project() {
            StateProj::Running { future } => match future.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    Poll::Ready(Ok(manner.judge(attempt.take(), response)))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(manner.failed(attempt.take(), error))),
                Poll::Pending => return Poll::Pending,
            },
            StateProj::Late { future } => manner.late(future.as_mut().poll(cx), attempt),
            StateProj::Rejected { rejected } => match rejected.take() {
                Some(rejected) => {
                    let Rejected { rejection, context } = *rejected;
                    let answer = manner.on_reject.reject(rejection, &context);
                    return Poll::Ready(answer.map(|answer| answer.map(ResponseBody::new)));
                }
                None => return Poll::Pending,
            },
            // A future must not be polled again.
            StateProj::Done => return Poll::Pending,
        };
        if answer.is_ready() {
            // What ran is dropped now, not when somebody gets round to dropping this.
            this.state.set(State::Done);
        }
        answer
    }
}

impl<C: Classify + Clone, R> Manner<C, R> {
    #[cold]
    fn failed<ResB, E>(&self, attempt: Option<Attempt>, error: E) -> R::Error
    where
        C: ClassifyError<E>,
        R: OnReject<Response<ResB>, E>,
    {
        if let Some(mut attempt) = attempt {
            let outcome = self.classifier.error(&error);
            // What says nothing about the upstream says nothing of how fast it is.
            if outcome != Outcome::Ignored {
                attempt.head();
            }
            attempt.end(Ended::with(outcome));
        }
        R::inner(error)
    }

    /// Not where requests run that are not late, so that only theirs is inlined there.
    #[cold]
    #[inline(never)]
    fn late<B: Body, E>(
        &self,
        polled: Poll<Result<Response<B>, E>>,
        attempt: &mut Option<Attempt>,
    ) -> Poll<Judged<B, C, R::Error>>
    where
        C: ClassifyError<E>,
        R: OnReject<Response<B>, E>,
    {
        polled.map(|answer| match answer {
            Ok(response) => Ok(self.judge(attempt.take(), response)),
            Err(error) => Err(self.failed(attempt.take(), error)),
        })
    }

    /// Tells the breaker how the attempt ended, or has its body do so.
    #[inline(always)]
    fn judge<B: Body>(
        &self,
        attempt: Option<Attempt>,
        response: Response<B>,
    ) -> Response<ResponseBody<B, C>> {
        let Some(mut attempt) = attempt else {
            return response.map(ResponseBody::new);
        };
        let head = at_head(&self.classifier, &response);
        // As in `failed`.
        if head != Some(Outcome::Ignored) {
            attempt.head();
        }
        let outcome = match head {
            Some(Outcome::Success) | None if response.body().is_end_stream() => {
                head.unwrap_or_else(|| self.classifier.end(None))
            }
            Some(Outcome::Success) | None if self.judge_at == JudgeAt::End => {
                attempt.streams();
                let classifier = self.classifier.clone();
                return response.map(|body| ResponseBody::judged(body, attempt, classifier, head));
            }
            Some(outcome) => outcome,
            None => Outcome::Success,
        };
        let mut ended = Ended::with(outcome);
        if outcome == Outcome::Failure
            && let Some(wait) = asked_for(&response)
        {
            ended = ended.retry_after(wait);
        }
        attempt.end(ended);
        response.map(ResponseBody::new)
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
