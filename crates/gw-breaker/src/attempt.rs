//! One request to the upstream, as a breaker sees it.

use gw_core::classify::Outcome;
use gw_core::context::Deadline;
use http::Extensions;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::breaker::{Ended, Slow};
use crate::rules::nanos;

/// Follows an admitted request until it is judged. However it ends, the breaker hears of it once.
///
/// If nobody waits for it any more, that says nothing, with two exceptions, both only while it is the upstream that is
/// waited for: after the time from which on a call is slow it was slow, unless it is a stream that may be quiet; and when
/// the request's deadline has passed it was our own timer that gave up, and the attempt has failed, unless it is the client
/// that gave it no more time.
#[derive(Debug)]
pub(crate) struct Attempt {
    admission: Option<Admission>,
    /// Since when the upstream is waited for, if latency matters.
    since: Option<Instant>,
    deadline: Option<Deadline>,
    /// Whether it is the upstream that is waited for.
    owed: bool,
    /// Whether each byte of the answer was given, though its stream has not said that it ended.
    complete: bool,
    slow: bool,
}

impl Attempt {
    /// The clock is asked only where latency matters.
    #[inline]
    pub(crate) fn begin(admission: Admission, extensions: &Extensions) -> Self {
        let since = admission.judges_latency().then(Instant::now);
        Self {
            since,
            deadline: extensions.get().copied(),
            owed: true,
            complete: false,
            slow: false,
            admission: Some(admission),
        }
    }

    /// The head of the answer, or an error in its place, is there: the latency is known.
    #[inline]
    pub(crate) fn head(&mut self) {
        self.owed = false;
        if let (Some(since), Some(admission)) = (self.since.take(), &self.admission) {
            let latency = nanos(since.elapsed());
            self.slow = admission.core().is_slow(Slow::Took(latency));
        }
    }

    /// The verdict comes with the end of the stream.
    #[inline]
    pub(crate) fn streams(&mut self) {
        if let Some(admission) = &mut self.admission {
            if self.slow {
                // A slow answer cannot turn out well any more for a probe: it is told now.
                if admission.is_probe() {
                    self.end(Ended::with(Outcome::Ignored));
                }
            } else {
                admission.answered();
            }
        }
    }

    /// The body has nothing to give: from now on it is the upstream that is waited for. It is slow only where the length is
    /// known: a stream of events may be quiet for as long as it likes.
    #[inline]
    pub(crate) fn waits(&mut self, length_is_known: impl FnOnce() -> bool) {
        let Some(admission) = &self.admission else {
            return;
        };
        if !self.owed && admission.judges_latency() && length_is_known() {
            self.since = Some(Instant::now());
        }
        self.owed = true;
    }

    /// The body has given something, and each byte if it is `complete`: a server that knows the length polls no more then.
    #[inline]
    pub(crate) fn goes_on(&mut self, complete: bool) {
        self.owed = false;
        self.since = None;
        self.complete = complete;
    }

    /// The verdict.
    #[inline]
    pub(crate) fn end(&mut self, ended: Ended) {
        if let Some(admission) = self.admission.take() {
            admission.end(ended.slow(self.slow), Instant::now);
        }
    }

    /// The body has failed, and `outcome` is what its error says. When the request's deadline has passed while it was not
    /// the upstream that was waited for, a slow reader's answer was cut by our own timer; and when the client gave it no more
    /// time, it was cut for that.
    #[cold]
    pub(crate) fn breaks_off(&mut self, outcome: Outcome) {
        let by_client = self.deadline.is_some_and(Deadline::is_by_client);
        let outcome = match outcome {
            Outcome::Failure if (!self.owed || by_client) && self.is_late(Instant::now()) => {
                Outcome::Ignored
            }
            outcome => outcome,
        };
        self.end(Ended::with(outcome));
    }

    fn is_late(&self, now: Instant) -> bool {
        (self.deadline).is_some_and(|deadline| deadline.instant() <= now)
    }

    #[cold]
    fn abandon(&mut self, admission: Admission) {
        if self.since.is_none() && self.deadline.is_none() {
            return;
        }
        let now = Instant::now();
        let waited = self.since.map(|since| now.saturating_duration_since(since));
        let slow = self.slow
            || waited.is_some_and(|waited| admission.core().is_slow(Slow::Took(nanos(waited))));
        let by_client = self.deadline.is_some_and(Deadline::is_by_client);
        let outcome = match self.is_late(now) && !by_client {
            true => Outcome::Failure,
            false => Outcome::Ignored,
        };
        admission.end(Ended::with(outcome).slow(slow), || now);
    }
}

impl Drop for Attempt {
    #[inline]
    fn drop(&mut self) {
        let Some(admission) = self.admission.take() else {
            return;
        };
        if self.complete {
            let ended = Ended::with(Outcome::Success).slow(self.slow);
            admission.end(ended, Instant::now);
        } else if self.owed {
            self.abandon(admission);
        }
    }
}
