//! What is needed to send a request again, and the decision to do so.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gw_core::Mode;
use gw_core::at_hand::Lent;
use gw_core::attempt::{AttemptError, Failure};
use gw_core::context::{Attempt, Deadline};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::aside::Aside;
use crate::body::{Held, ResponseBody};
use crate::budget::{Budget, Deposit, Ticket};
use crate::context::Known;
use crate::decide::{self, Eligibility, NO, Not, Reason, Verdict};
use crate::head::{Head, PREVIOUS_RPC_ATTEMPTS};
use crate::info::{RetryInfo, Stopped};
use crate::latency::Latency;
use crate::layer::Shared;
use crate::policy::RetryPolicy;
use crate::replay::{ReplayBody, Replayable, Slot, Source};
use crate::wait::Wait;

/// A request that may be sent again. Boxed: it is large, and the one allocation of a request that is sent once.
pub(crate) struct Plan<S, B: Body, ResB: Body, E> {
    pub(crate) service: S,
    pub(crate) head: Head,
    /// None if nothing is, as where there is no gateway around.
    pub(crate) known: Option<Known>,
    /// None for a request without a body.
    pub(crate) slot: Option<Slot<B>>,
    pub(crate) shared: Lent<Shared>,
    /// The route's own, in place of the layer's.
    pub(crate) policy: Option<RetryPolicy>,
    pub(crate) budget: Option<Budget>,
    pub(crate) eligibility: Eligibility,
    pub(crate) grpc: bool,
    /// When the attempt that is on its way was sent, where somebody asks how long it takes.
    pub(crate) started: Option<Instant>,
    pub(crate) attempts: u32,
    /// How long the last retry waited.
    pub(crate) waited: Duration,
    /// The retry that waits, or is on its way.
    pub(crate) retry: Option<Box<Retry<ResB, E>>>,
    pub(crate) deposit: Deposit,
}

/// A retry, from the decision to its end.
pub(crate) struct Retry<ResB: Body, E> {
    /// What to answer if it is not sent after all.
    aside: Aside<ResB, E>,
    /// Until when a body that is set aside is read.
    read_until: Instant,
    /// When it is to be sent; none if it need not wait.
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    charge: Charge,
}

/// What a retry costs. It is counted when it has ended, since only then it is known whether it was sent.
struct Charge {
    /// None once it has ended.
    ticket: Option<Ticket>,
    reason: Reason,
    sent: bool,
}

impl Charge {
    /// It has ended. What is left is to be held for as long as the answer is on its way.
    fn end(&mut self) -> Option<Ticket> {
        let mut ticket = self.ticket.take()?;
        if self.sent {
            ticket.sent();
            ticket.budget().metrics().retried(self.reason);
        }
        Some(ticket)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.end();
    }
}

/// What follows an attempt, or the wait after one.
pub(crate) enum Next<F, R> {
    /// This is the answer.
    Answer(R),
    /// A retry waits.
    Wait,
    /// A retry is on its way.
    Try(F),
}

/// Of an attempt.
type Outcome<ResB, E> = Result<Response<ResB>, E>;
/// Of the request.
type Answer<ResB, E> = Outcome<ResponseBody<ResB>, E>;

impl<S, B, ResB, E> Plan<S, B, ResB, E>
where
    B: Body<Data = Bytes>,
    ResB: Body,
{
    /// Whether the first attempt has succeeded, as nearly all do: then there is nothing to decide, and nothing to move about.
    #[inline]
    pub(crate) fn has_succeeded(&self, outcome: &Outcome<ResB, E>) -> bool {
        let succeeded = self.attempts == 1
            && (outcome.as_ref()).is_ok_and(|response| Verdict::is_success(response, self.grpc));
        if succeeded {
            self.answered();
        }
        succeeded
    }

    /// The body of the first attempt, as one that is kept as it is read.
    pub(crate) fn tee(&self, slot: &Slot<B>, body: B) -> ReplayBody<B> {
        let replay_max = match &self.policy {
            Some(policy) => policy.replay_max(),
            None => self.shared.policy.replay_max(),
        };
        let source = Source::new(body, replay_max, self.shared.pool.clone());
        ReplayBody::tee(source, slot)
    }

    /// Looks at what an attempt came to. Its future must be gone by then, so that the body is back.
    #[cold]
    pub(crate) fn after(&mut self, outcome: Outcome<ResB, E>) -> Next<S::Future, Answer<ResB, E>>
    where
        S: Service<Request<ReplayBody<B>>>,
        E: AttemptError,
    {
        let mut ticket = match self.retry.take() {
            None => {
                if decide::failure(&outcome) == Some(Failure::Refused) {
                    self.budget().take_back(&self.deposit);
                }
                None
            }
            Some(retry) => match self.ended(*retry, &outcome) {
                Ok(ticket) => ticket,
                Err(instead) => return Next::Answer(instead),
            },
        };
        let stopped = match self.again(&outcome, ticket.as_mut()) {
            Err(stopped) => stopped,
            Ok((charge, Wait { time, due })) => {
                self.waited = time;
                self.retry = Some(Box::new(Retry {
                    aside: Aside::new(outcome),
                    read_until: Instant::now() + Aside::<ResB, E>::READ_FOR,
                    due,
                    timer: None,
                    charge,
                }));
                return Next::Wait;
            }
        };
        let answer = passed(outcome, self.held(ticket));
        if stopped == Stopped::Answered {
            self.answered();
        }
        let is_plain = matches!(stopped, Stopped::Answered | Stopped::NotRetryable);
        if is_plain && self.attempts == 1 {
            return Next::Answer(answer);
        }
        Next::Answer(self.finish(answer, stopped))
    }

    /// Whether to send the request again after this. `before` is of the retry that came to it, if it was one.
    fn again(
        &self,
        outcome: &Outcome<ResB, E>,
        before: Option<&mut Ticket>,
    ) -> Result<(Charge, Wait), Stopped>
    where
        E: AttemptError,
    {
        let plain = |response| Verdict::is_plain(response, self.grpc);
        if outcome.as_ref().is_ok_and(plain) {
            return Err(Stopped::Answered);
        }
        // Only now: the layer's is behind a lock, which most answers that are no success, such as 304 and 404, need not take.
        let live;
        let policy = match &self.policy {
            Some(policy) => policy,
            None => {
                live = self.shared.policy.get();
                &live
            }
        };
        let field = &self.shared.no_retry_field;
        let verdict = match outcome {
            Ok(response) => {
                let request = (self.eligibility, self.grpc);
                Verdict::of_response(response, policy, request, field)
            }
            Err(error) => Verdict::of_error(error, self.eligibility, field),
        };
        match verdict {
            Verdict::Answer => Err(outcome.as_ref().map_or(Stopped::Answered, Stopped::at)),
            // Since it began: what is on its way when its upstream fails is what the switch is for.
            _ if self.shared.mode.get() == Mode::Off => Err(Stopped::NotRetryable),
            Verdict::Final(Not::Local) => Err(Stopped::Local),
            Verdict::Final(Not::Unsafe) => Err(Stopped::Unsafe),
            Verdict::Final(Not::Pushback) => Err(Stopped::Pushback),
            Verdict::Again(reason, asked) => self.decide(policy, reason, asked, before),
        }
    }

    /// What is held until an answer has ended. Allocates, so only where a budget asks for it.
    #[inline]
    pub(crate) fn held(&mut self, ticket: Option<Ticket>) -> Option<Box<Held>> {
        let deposit = self.deposit.take()?;
        Some(Box::new(Held {
            _deposit: deposit,
            _ticket: ticket,
        }))
    }

    /// What is left of a retry that has ended so.
    ///
    /// # Errors
    ///
    /// It was never sent: a layer further in refused it. Then it cost nothing, and what it was to replace is the answer.
    fn ended(
        &mut self,
        mut retry: Retry<ResB, E>,
        outcome: &Outcome<ResB, E>,
    ) -> Result<Option<Ticket>, Answer<ResB, E>>
    where
        E: AttemptError,
    {
        // Only who says so: what we have cut ourselves may be with the upstream all the same.
        if decide::failure(outcome) != Some(Failure::Refused) {
            return Ok(retry.charge.end());
        }
        retry.charge.sent = false;
        self.attempts -= 1;
        if let Some(known) = &self.known {
            known.forget_refusal();
        }
        Err(self.finish(retry.aside.outcome(), Stopped::Refused))
    }

    /// Takes a retry out of the budget, if all else allows for one; with the wait before it.
    fn decide(
        &self,
        policy: &RetryPolicy,
        reason: Reason,
        asked: Duration,
        before: Option<&mut Ticket>,
    ) -> Result<(Charge, Wait), Stopped> {
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
        let backoff = policy.backoff();
        let wait = backoff.delay(self.attempts - 1, self.waited, self.shared.draw());
        let wait = Wait::from(now, wait.max(asked))?;
        if let Some(deadline) = self.deadline() {
            let takes = self.latency().quantile(now).unwrap_or_default();
            if wait.time.saturating_add(takes) >= deadline.remaining(now) {
                return Err(Stopped::Deadline);
            }
        }
        let budget = self.budget();
        let trace = self.known.as_ref().and_then(Known::trace);
        let Some(mut ticket) = budget.spend(before.as_deref(), trace, now) else {
            return Err(Stopped::Budget);
        };
        let shadow = self.shared.mode.get() == Mode::Shadow;
        if shadow || policy.is_shadow() {
            if shadow {
                ticket.sent();
            }
            budget.metrics().shadowed();
            return Err(Stopped::Shadow);
        }
        // Only now: the answer of the retry before goes on its way if there is no other.
        if let Some(before) = before {
            ticket.take_place_of(before);
        }
        let charge = Charge {
            ticket: Some(ticket),
            reason,
            sent: false,
        };
        Ok((charge, wait))
    }

    /// Sends the request again once its wait is over, or answers with what the attempt before came to.
    #[cold]
    #[inline(never)]
    pub(crate) fn poll_again(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Next<S::Future, Answer<ResB, E>>>
    where
        S: Service<Request<ReplayBody<B>>, Response = Response<ResB>, Error = E>,
        E: AttemptError,
    {
        let Some(retry) = &mut self.retry else {
            // Never: it is called while a retry waits.
            return Poll::Pending;
        };
        ready!(retry.poll_due(cx));
        let ready = matches!(self.service.poll_ready(cx), Poll::Ready(Ok(())));
        let request = ready.then(|| self.request_again()).flatten();
        let Some(mut retry) = self.retry.take() else {
            return Poll::Pending;
        };
        let Some(request) = request else {
            let Retry { aside, charge, .. } = *retry;
            // First: who sees the answer sees the budget as it is.
            drop(charge);
            let answer = self.finish(aside.outcome(), Stopped::NotReady);
            return Poll::Ready(Next::Answer(answer));
        };
        retry.charge.sent = true;
        retry.timer = None;
        self.retry = Some(retry);
        self.attempts += 1;
        self.start();
        if let Some(known) = &self.known {
            // Of the attempt before: a timer of ours may have cut what it answered while that was read on.
            known.forget_refusal();
        }
        Poll::Ready(Next::Try(self.service.call(request)))
    }

    fn body_again(&self) -> Option<ReplayBody<B>> {
        match &self.slot {
            None => Some(ReplayBody::nothing()),
            Some(slot) => {
                let source = slot.take()?;
                Some(ReplayBody::tee(source, slot))
            }
        }
    }

    /// The request as it is sent next.
    fn request_again(&self) -> Option<Request<ReplayBody<B>>> {
        let mut parts = self.head.again(self.known.as_ref())?;
        let body = self.body_again()?;
        let number = self.attempts + 1;
        if let Some(ordinal) = NonZeroU32::new(number) {
            parts.extensions.insert(Attempt(ordinal));
        }
        let field = self.shared.attempt_field.clone();
        parts.headers.insert(field, HeaderValue::from(number));
        if self.grpc {
            let before = HeaderValue::from(self.attempts);
            parts.headers.insert(PREVIOUS_RPC_ATTEMPTS, before);
        }
        Some(Request::from_parts(parts, body))
    }

    fn budget(&self) -> &Budget {
        self.budget.as_ref().unwrap_or(&self.shared.budget)
    }

    fn deadline(&self) -> Option<Deadline> {
        self.known.as_ref().and_then(Known::deadline)
    }

    /// Has the budget count it.
    #[inline]
    pub(crate) fn count(&mut self) {
        self.deposit = self.budget().deposit_now();
    }

    /// An attempt is about to be sent.
    #[inline]
    pub(crate) fn start(&mut self) {
        // Only a deadline asks how long attempts take.
        self.started = self.deadline().map(|_| Instant::now());
    }

    /// The attempt on its way has succeeded.
    #[inline]
    fn answered(&self) {
        if let Some(started) = self.started {
            self.latency().answered(started);
        }
    }

    /// How long attempts take: of the route, or else of all that the layer sends.
    fn latency(&self) -> &Latency {
        let policy = self.policy.as_ref();
        policy.map_or(&self.shared.latency, RetryPolicy::latency)
    }

    /// Whether what is decided is done, and neither tried out alone nor switched off.
    fn is_enforced(&self) -> bool {
        let is_shadow = || match &self.policy {
            Some(policy) => policy.is_shadow(),
            None => self.shared.policy.lock().is_shadow(),
        };
        self.shared.mode.get() == Mode::Enforce && !is_shadow()
    }

    fn finish(&self, outcome: Answer<ResB, E>, stopped: Stopped) -> Answer<ResB, E>
    where
        E: AttemptError,
    {
        let info = RetryInfo {
            attempts: self.attempts,
            stopped_because: stopped,
        };
        let no = || {
            let name = self.shared.no_retry_field.clone();
            (name, HeaderValue::from_static(NO))
        };
        let told = stopped.concerns_others(self.attempts) && self.is_enforced();
        let no = told.then(no);
        let mut response = match outcome {
            Ok(response) => response,
            Err(error) => {
                let error = error.with_extension(info);
                return Err(match no {
                    // Once: a layer further in may have said so.
                    Some((name, value)) if !error.has_field(&name, &value) => {
                        error.with_field(name, value)
                    }
                    _ => error,
                });
            }
        };
        response.extensions_mut().insert(info);
        if let Some((name, value)) = no {
            response.headers_mut().insert(name, value);
        }
        Ok(response)
    }
}

impl<ResB: Body, E> Retry<ResB, E> {
    /// Ready when it is time to send it, and nothing of the attempt before is held any more.
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.aside.poll_read(cx).is_pending() {
            ready!(poll_until(&mut self.timer, self.read_until, cx));
            self.aside.give_up();
        }
        match self.due {
            Some(due) => poll_until(&mut self.timer, due, cx),
            None => Poll::Ready(()),
        }
    }
}

/// Ready once `due` has passed.
fn poll_until(timer: &mut Option<Pin<Box<Sleep>>>, due: Instant, cx: &mut Context<'_>) -> Poll<()> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
    if timer.deadline() != due {
        timer.as_mut().reset(due);
    }
    timer.as_mut().poll(cx)
}

#[inline]
pub(crate) fn passed<ResB: Body, E>(
    outcome: Outcome<ResB, E>,
    held: Option<Box<Held>>,
) -> Answer<ResB, E> {
    outcome.map(|response| response.map(|body| ResponseBody::passed(body, held)))
}
