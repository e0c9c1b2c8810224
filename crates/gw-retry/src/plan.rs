//! What is needed to send a request again, and the decision to do so.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gw_core::attempt::AttemptError;
use gw_core::context::Attempt;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::budget::{Budget, Deposit, Ticket};
use crate::config::Mode;
use crate::decide::{Eligibility, NO, Not, Reason, Verdict};
use crate::head::Head;
use crate::info::{RetryInfo, Stopped};
use crate::layer::Shared;
use crate::policy::RetryPolicy;
use crate::replay::{ReplayBody, Replayable, Slot};
use crate::telemetry;

/// A request that may be sent again. Boxed: it is large, and the one allocation of a request that is sent once.
pub(crate) struct Plan<S, B: Body, Res, E> {
    service: S,
    head: Head,
    /// None for a request without a body.
    slot: Option<Arc<Slot<B>>>,
    shared: Arc<Shared>,
    /// The route's own, in place of the layer's.
    policy: Option<RetryPolicy>,
    budget: Option<Budget>,
    eligibility: Eligibility,
    grpc: bool,
    /// When the attempt that is on its way was sent.
    started: Instant,
    attempts: u32,
    /// How long the last retry waited.
    waited: Duration,
    waiting: Option<Box<Waiting<Outcome<Res, E>>>>,
    /// That of the retry on its way.
    ticket: Option<Ticket>,
    _deposit: Deposit,
}

/// A retry that is decided and not sent yet.
struct Waiting<R> {
    /// What to answer if it cannot be sent.
    outcome: R,
    reason: Reason,
    ticket: Ticket,
    /// None if it need not wait.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What follows an attempt.
pub(crate) enum Next<R> {
    Answer(R),
    Wait,
}

type Outcome<Res, E> = Result<Response<Res>, E>;

impl<S, B, Res, E> Plan<S, B, Res, E>
where
    B: Body<Data = Bytes>,
{
    #[inline]
    pub(crate) fn new(
        (service, head, slot): (S, Head, Option<Arc<Slot<B>>>),
        shared: Arc<Shared>,
        (policy, budget, deposit): (Option<RetryPolicy>, Option<Budget>, Deposit),
        (eligibility, grpc): (Eligibility, bool),
        now: Instant,
    ) -> Self {
        Self {
            service,
            head,
            slot,
            shared,
            policy,
            budget,
            eligibility,
            grpc,
            started: now,
            attempts: 1,
            waited: Duration::ZERO,
            waiting: None,
            ticket: None,
            _deposit: deposit,
        }
    }

    /// Looks at what an attempt came to. Its future must be gone by then, so that the body is back.
    #[inline]
    pub(crate) fn after(&mut self, outcome: Outcome<Res, E>) -> Next<Outcome<Res, E>>
    where
        E: AttemptError,
    {
        // It has ended, and is not on its way when the next one is asked for.
        self.ticket = None;
        let policy = self.policy.as_ref().unwrap_or(&self.shared.policy);
        let verdict = match &outcome {
            Ok(response) => {
                let field = &self.shared.no_retry_field;
                let request = (self.eligibility, self.grpc);
                Verdict::of_response(response, policy, request, field)
            }
            Err(error) => Verdict::of_failure(error.failure(), self.eligibility),
        };
        let stopped = match verdict {
            Verdict::Answer => {
                self.answered();
                if self.attempts == 1 {
                    return Next::Answer(outcome);
                }
                Stopped::Answered
            }
            Verdict::Final(Not::Local) => Stopped::Local,
            Verdict::Final(Not::Unsafe) => Stopped::Unsafe,
            Verdict::Final(Not::Pushback) => Stopped::Pushback,
            Verdict::Again(reason, asked) => match self.decide(reason, asked) {
                Err(stopped) => stopped,
                Ok((ticket, wait)) => {
                    self.waited = wait;
                    let until = |wait| Instant::now().checked_add(wait);
                    let sleep = Some(wait).filter(|wait| !wait.is_zero()).and_then(until);
                    self.waiting = Some(Box::new(Waiting {
                        outcome,
                        reason,
                        ticket,
                        sleep: sleep.map(|until| Box::pin(sleep_until(until))),
                    }));
                    return Next::Wait;
                }
            },
        };
        Next::Answer(self.finish(outcome, stopped))
    }

    /// Takes a retry out of the budget, if all else allows for one; with the wait before it.
    fn decide(&self, reason: Reason, asked: Duration) -> Result<(Ticket, Duration), Stopped> {
        let policy = self.policy.as_ref().unwrap_or(&self.shared.policy);
        if self.attempts >= policy.max_attempts() {
            return Err(Stopped::Attempts);
        }
        if let Some(slot) = &self.slot {
            // An answer to half a request says that the upstream has decided without the rest.
            let answered = matches!(reason, Reason::Status | Reason::Grpc | Reason::Throttled);
            match slot.replayable(answered) {
                Replayable::Yes => {}
                Replayable::No => return Err(Stopped::Body),
                Replayable::Broken => return Err(Stopped::Local),
            }
        }
        let now = Instant::now();
        let mut random = self.shared.random();
        let backoff = policy.backoff();
        let wait = backoff.delay(self.attempts - 1, self.waited, &mut random);
        let wait = wait.max(asked);
        if let Some(deadline) = self.head.known.deadline() {
            let takes = self.shared.latency.quantile().unwrap_or_default();
            if wait.saturating_add(takes) >= deadline.remaining(now) {
                return Err(Stopped::Deadline);
            }
        }
        let budget = self.budget.as_ref().unwrap_or(&self.shared.budget);
        let Some(mut ticket) = budget.withdraw(now) else {
            telemetry::exhausted(budget, self.head.known.trace(), now);
            return Err(Stopped::Budget);
        };
        if self.shared.mode.get() == Mode::Shadow {
            ticket.sent();
            budget.metrics().shadowed();
            return Err(Stopped::Shadow);
        }
        Ok((ticket, wait))
    }

    /// Sends the request again once its wait is over, or answers with what the attempt before came to.
    pub(crate) fn poll_again(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Future, Outcome<Res, E>>>
    where
        S: Service<Request<ReplayBody<B>>, Response = Response<Res>, Error = E>,
        E: AttemptError,
    {
        let Some(waiting) = &mut self.waiting else {
            // Never: it is called while a retry waits.
            return Poll::Pending;
        };
        if let Some(sleep) = &mut waiting.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        let ready = matches!(self.service.poll_ready(cx), Poll::Ready(Ok(())));
        let Some(waiting) = self.waiting.take() else {
            return Poll::Pending;
        };
        let Waiting {
            outcome,
            reason,
            mut ticket,
            ..
        } = *waiting;
        let body = self.body_again();
        let Some(body) = body.filter(|_| ready) else {
            drop(ticket);
            return Poll::Ready(Err(self.finish(outcome, Stopped::NotReady)));
        };
        // The answer that is not used gives back what it holds, before the new attempt asks for the same.
        drop(outcome);
        self.attempts += 1;
        ticket.sent();
        let budget = self.budget.as_ref().unwrap_or(&self.shared.budget);
        budget.metrics().retried(reason);
        self.ticket = Some(ticket);
        self.started = Instant::now();
        let request = self.request(body);
        Poll::Ready(Ok(self.service.call(request)))
    }

    fn body_again(&self) -> Option<ReplayBody<B>> {
        match &self.slot {
            None => Some(ReplayBody::nothing()),
            Some(slot) => {
                let source = slot.take()?;
                Some(ReplayBody::tee(source, Arc::clone(slot)))
            }
        }
    }

    fn request(&self, body: ReplayBody<B>) -> Request<ReplayBody<B>> {
        let mut parts = self.head.again();
        if let Some(ordinal) = NonZeroU32::new(self.attempts) {
            parts.extensions.insert(Attempt(ordinal));
        }
        let field = self.shared.attempt_field.clone();
        parts
            .headers
            .insert(field, HeaderValue::from(self.attempts));
        if self.grpc {
            // gRPC proposal A6: how many went before.
            let before = HeaderValue::from(self.attempts - 1);
            parts.headers.insert("grpc-previous-rpc-attempts", before);
        }
        Request::from_parts(parts, body)
    }

    /// The attempt on its way has succeeded.
    #[inline]
    fn answered(&self) {
        // Only a deadline asks how long attempts take. Once that is known, an eighth of them says it as well, and a look at
        // the clock is dear. Each of them counts for eight: else what is known would be forgotten faster than learned.
        let latency = &self.shared.latency;
        let samples = match latency.quantile() {
            None => 1,
            Some(_) => 8,
        };
        if self.head.known.deadline().is_some()
            && (samples == 1 || fastrand::u8(..).is_multiple_of(8))
        {
            let now = Instant::now();
            latency.record_for(samples, now.saturating_duration_since(self.started), now);
        }
    }

    fn finish(&self, outcome: Outcome<Res, E>, stopped: Stopped) -> Outcome<Res, E>
    where
        E: AttemptError,
    {
        let no = || {
            let name = self.shared.no_retry_field.clone();
            (name, HeaderValue::from_static(NO))
        };
        let no = stopped.concerns_others().then(no);
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => {
                return Err(match no {
                    Some((name, value)) => error.with_field(name, value),
                    None => error,
                });
            }
        };
        response.extensions_mut().insert(RetryInfo {
            attempts: self.attempts,
            stopped_because: stopped,
        });
        if let Some((name, value)) = no {
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}
