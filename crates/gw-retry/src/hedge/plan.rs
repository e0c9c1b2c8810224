//! When a second copy is sent, and what is learned from the answers.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::Mode;
use gw_core::attempt::{AttemptError, Failure};
use gw_core::classify::{Classify as _, HttpClassifier, Outcome};
use gw_core::context::Attempt;
use gw_core::on_reject::Caller;
use http::{HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::layer::{Counted, Permit, Shared};
use crate::context::{Known, Refusal};
use crate::decide::{self, Asked};
use crate::head::Head;
use crate::telemetry::Hedged;

/// A request that may be hedged.
pub(super) struct Plan<S> {
    /// None once the second copy was due: a clone that was polled and not called must not stay in line for a place.
    service: Option<S>,
    pub(super) head: Head,
    /// None if nothing is, as where there is no gateway around.
    pub(super) known: Option<Known>,
    pub(super) shared: Arc<Shared>,
    started: Instant,
    /// When the second copy is due; `None` if there will be none.
    due: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    counted: Counted,
}

pin_project! {
    /// The second copy on its way.
    pub(super) struct Second<F> {
        #[pin]
        future: F,
        started: Instant,
        // Held for as long as it is.
        permit: Permit,
    }
}

/// What the copy came to that failed first, if it was not refused.
pub(super) struct Earlier<ResB, E> {
    outcome: Result<Response<ResB>, E>,
    /// What is noted of it; none if nothing is known of the request.
    noted: Option<Refusal>,
}

/// It is due, and is not sent.
struct Refused;

impl<F> Second<F> {
    /// What became of it. It is counted when it is dropped.
    pub(super) fn ended(self: Pin<&mut Self>, outcome: Hedged) {
        self.project().permit.ended(outcome);
    }

    /// What it came to, if it is no answer.
    pub(super) fn failed<ResB, E: AttemptError>(
        self: Pin<&mut Self>,
        outcome: &Result<Response<ResB>, E>,
    ) {
        self.ended(match decide::failure(outcome) {
            Some(Failure::Refused) => Hedged::Refused,
            _ => Hedged::Lost,
        });
    }
}

impl<F: Future> Second<F> {
    pub(super) fn poll_answer(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}

impl<S> Plan<S> {
    /// In its place: it is large, and each move of it costs.
    #[inline]
    pub(super) fn boxed(service: S, head: Head, shared: Arc<Shared>, now: Instant) -> Box<Self> {
        let due = shared.delay().and_then(|delay| now.checked_add(delay));
        Box::write(
            Box::new_uninit(),
            Self {
                service: Some(service),
                head,
                known: None,
                shared,
                started: now,
                due,
                sleep: None,
                counted: Counted::NONE,
            },
        )
    }

    /// Counts it.
    #[inline]
    pub(super) fn count(&mut self) {
        self.counted = self.shared.count(self.started);
    }

    /// The second copy, once it is due and may be sent. Pending for good if it may not.
    pub(super) fn poll_second<B: Default, F>(&mut self, cx: &mut Context<'_>) -> Poll<Second<F>>
    where
        S: Service<Request<B>, Future = F>,
    {
        let Some(due) = self.due else {
            return Poll::Pending;
        };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        ready!(sleep.as_mut().poll(cx));
        self.due = None;
        self.sleep = None;
        match self.send(cx) {
            Ok(Some(second)) => Poll::Ready(second),
            Ok(None) => Poll::Pending,
            Err(Refused) => {
                self.shared.metrics.hedged(Hedged::Refused);
                Poll::Pending
            }
        }
    }

    /// None unless the mode is to enforce, or if nobody knows any more how long answers take.
    fn send<B: Default, F>(&mut self, cx: &mut Context<'_>) -> Result<Option<Second<F>>, Refused>
    where
        S: Service<Request<B>, Future = F>,
    {
        let mut service = self.service.take().ok_or(Refused)?;
        let mode = self.shared.mode.get();
        let now = Instant::now();
        if mode == Mode::Off || !self.shared.knows_delay(now) {
            return Ok(None);
        }
        if !self.shared.is_open(now) {
            return Err(Refused);
        }
        // Only first attempts are hedged. A second copy would come to stand behind it in the same line.
        if self.known.as_ref().is_some_and(Known::waits_in_line) {
            return Err(Refused);
        }
        let trace = self.known.as_ref().and_then(Known::trace);
        let mut permit = self.shared.permit(trace, now).ok_or(Refused)?;
        if mode == Mode::Shadow {
            permit.ended(Hedged::Shadow);
            return Ok(None);
        }
        // Polled once: a copy that waits in line is no help to anybody.
        if !matches!(service.poll_ready(cx), Poll::Ready(Ok(()))) {
            return Err(Refused);
        }
        let mut parts = self.head.again(self.known.as_ref()).ok_or(Refused)?;
        permit.sent();
        let two = NonZeroU32::MIN.saturating_add(1);
        parts.extensions.insert(Attempt(two));
        let field = self.shared.attempt_field.clone();
        parts.headers.insert(field, HeaderValue::from(two.get()));
        let request = Request::from_parts(parts, B::default());
        Ok(Some(Second {
            future: service.call(request),
            started: now,
            permit,
        }))
    }

    /// A copy has failed so while the other one is on its way. What our own layers have noted of it is not said of the request.
    ///
    /// Kept is what holds nothing of the upstream's. An answer's body stands for a connection, which the other copy may wait for.
    pub(super) fn set_aside<ResB, E: AttemptError>(
        &self,
        outcome: Result<Response<ResB>, E>,
    ) -> Option<Box<Earlier<ResB, E>>> {
        let failure = decide::failure(&outcome)?;
        let noted = self.known.as_ref().map(Known::refusal);
        if matches!(failure, Failure::Local | Failure::Refused)
            && let Some(known) = &self.known
        {
            known.forget_refusal();
        }
        let refused = failure == Failure::Refused;
        (!refused).then(|| Box::new(Earlier { outcome, noted }))
    }

    /// What the request comes to if no copy has succeeded: what its last one came to, unless that was refused and the one that had
    /// failed before was not. Whoever hears of a refusal takes it that nothing was sent; so it brings nothing either.
    pub(super) fn outcome<ResB, E: AttemptError>(
        &self,
        last: Result<Response<ResB>, E>,
        earlier: Option<Box<Earlier<ResB, E>>>,
    ) -> Result<Response<ResB>, E> {
        if decide::failure(&last) != Some(Failure::Refused) {
            return last;
        }
        let Some(earlier) = earlier else {
            self.shared.take_back(&self.counted);
            return last;
        };
        if let (Some(known), Some(noted)) = (&self.known, earlier.noted) {
            known.note_refusal(noted);
        }
        earlier.outcome
    }

    /// Whether this is an answer and not a failure. What it asks for is heeded.
    pub(super) fn is_good<ResB, E>(&self, outcome: &Result<Response<ResB>, E>) -> bool {
        let Ok(response) = outcome else {
            return false;
        };
        // Reads are not gRPC, whose calls are all POST.
        let asked = match HttpClassifier.head(Caller::Http, response) {
            None | Some(Outcome::Success) => return true,
            Some(Outcome::Throttled(wait)) => Some(wait.unwrap_or_default()),
            // What our own refusals ask for is not the upstream's word: a client's deadline brings one about.
            Some(Outcome::Ignored) => None,
            Some(Outcome::Failure) => match Asked::by_http(response.headers()) {
                Asked::Wait(wait) => Some(wait),
                Asked::Nothing | Asked::Never => None,
            },
        };
        if let Some(wait) = asked {
            self.shared.quiet.ask(wait, Instant::now());
        }
        false
    }

    /// The first copy has answered, or was given up for the second: so long it took at least.
    pub(super) fn first_took(&self) {
        self.took(self.started);
    }

    pub(super) fn second_took<F>(&self, second: &Second<F>) {
        self.took(second.started);
    }

    fn took(&self, started: Instant) {
        let now = Instant::now();
        let took = now.saturating_duration_since(started);
        self.shared.latency.record(took, now);
    }
}
