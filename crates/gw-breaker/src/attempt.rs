//! One request to the upstream, as a breaker sees it.

use std::mem;
use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::context::Deadline;
use http::Extensions;
use tokio::time::Instant;

use crate::admission::Ticket;
use crate::breaker::{Ended, Slow};
use crate::clock::Clock;
use crate::config::LatencyFrom;
use crate::rules::nanos;

/// Follows an admitted request until it is judged. However it ends, the breaker hears of that once.
///
/// If nobody waits for it any more, that says no more than was known: nothing, or after a good head that the upstream has
/// answered well, unless it has halted before the end; and after a slow head that it was slow. With two exceptions, both only while
/// it is the upstream that is waited for, and not the gateway's own queue nor the client: after the time from which on a call is
/// slow it was slow, unless it is a stream that may be quiet; and when the request's deadline has passed it was our own timer that
/// gave up, and the attempt has failed, unless it is the client that gave it no more time.
///
/// A good stream ends a row of failures when it has gone on for a second. It is counted when it ends.
#[derive(Debug)]
pub(crate) struct Attempt {
    ticket: Ticket,
    clock: Clock,
    /// When the request is to have ended, and whether it is the client that says so. Not as one value: an attempt is moved
    /// several times a request.
    deadline: Option<Instant>,
    by_client: bool,
    awaits: Awaits,
    slow: bool,
    /// Whether the head of the answer was good. If it was not looked at yet or did not tell, trailers may.
    good: bool,
    /// Whether the breaker has heard that it is a stream that goes on.
    lives: bool,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The upstream owes the head of the answer, as far as the clock does not know better.
    Head,
    /// Not the upstream: the head is there, and of the body nobody has waited for anything since.
    First,
    /// The same, and a piece of the body was given.
    Next,
    /// The upstream may send more, or be quiet: it is a stream.
    More,
    /// The upstream owes the rest of a body whose length is known.
    Rest,
}

/// A good stream ends a row of failures when it has gone on for so long. Streams stay open for hours: if nothing were heard of them
/// until they end, and of failures at once, a few failures between those who begin to watch would be a row. Once: an upstream may
/// fail whatever is asked of it while an old stream still lives.
const LONG: Duration = Duration::from_secs(1);

impl Awaits {
    const fn is_the_upstream(self) -> bool {
        matches!(self, Self::Head | Self::More | Self::Rest)
    }
}

impl Attempt {
    /// Follows nothing.
    pub(crate) const fn nothing() -> Self {
        Self {
            ticket: Ticket::TOLD,
            clock: Clock::Stopped,
            deadline: None,
            by_client: false,
            awaits: Awaits::First,
            slow: false,
            good: false,
            lives: false,
        }
    }

    /// What is left follows nothing.
    pub(crate) fn take(&mut self) -> Self {
        mem::replace(self, Self::nothing())
    }

    /// Whether the breaker has heard of it, or does not want to.
    #[inline]
    pub(crate) const fn is_told(&self) -> bool {
        self.ticket.is_told()
    }

    /// Follows the request of these extensions, without a clock yet.
    #[inline(always)]
    pub(crate) fn new(ticket: Ticket, extensions: &Extensions) -> Self {
        let deadline = extensions.get::<Deadline>();
        Self {
            clock: Clock::Stopped,
            deadline: deadline.map(|deadline| deadline.instant()),
            by_client: deadline.is_some_and(|deadline| deadline.is_by_client()),
            awaits: Awaits::Head,
            slow: false,
            good: false,
            lives: false,
            ticket,
        }
    }

    /// Starts the clock, if it matters how long it takes or who is waited for. Where it stays, and not on its way there: what was just
    /// written in pieces is not moved at once, which a processor waits for.
    #[inline(always)]
    pub(crate) fn begin(&mut self, latency_from: LatencyFrom, extensions: &mut Extensions) {
        // Whom a probe waits for is asked in any case.
        if self.ticket.judges_latency()
            || self.ticket.is_probe()
            || latency_from == LatencyFrom::Sent && self.has_a_deadline_of_ours()
        {
            self.watch(latency_from, extensions);
        }
    }

    /// Apart, and what is held in registers on the other way stays there.
    #[inline(never)]
    fn watch(&mut self, latency_from: LatencyFrom, extensions: &mut Extensions) {
        self.clock = Clock::start(latency_from, &mut self.ticket, extensions);
    }

    /// Whether it matters who is waited for when the deadline passes: the upstream has failed then, or nobody.
    const fn has_a_deadline_of_ours(&self) -> bool {
        self.deadline.is_some() && !self.by_client
    }

    /// The head of the answer, or an error in its place, is there: the latency is known. Returns the time, if it was looked
    /// at. What follows at once is the verdict or [`take_stream`](Self::take_stream); only a panic comes in between, and finds it as
    /// one that waits for the head.
    #[inline]
    pub(crate) fn head(&mut self) -> Option<Instant> {
        match self.clock {
            Clock::Stopped => None,
            Clock::Since(_) | Clock::Told(_) => Some(self.measure()),
        }
    }

    fn measure(&mut self) -> Instant {
        let now = Instant::now();
        // An answer that comes before the request was sent took no time at all.
        let since = self.clock.since();
        self.slow = since.is_some_and(|since| self.is_slow(since, now));
        self.clock.set(None);
        now
    }

    fn is_slow(&self, since: Instant, now: Instant) -> bool {
        let took = Slow::Took(nanos(now.saturating_duration_since(since)));
        self.ticket.is_slow(took)
    }

    /// The verdict comes with the end of the stream.
    #[inline]
    pub(crate) fn streams(&mut self) {
        if !self.slow {
            self.ticket.answered(Instant::now);
        } else if self.ticket.is_probe() {
            // A slow answer cannot turn out well any more for a probe: it is told now.
            self.end(Ended::with(Outcome::Ignored), None);
        }
    }

    /// For the body to follow: the head was `good`, or has not told. What is left follows nothing. Marked after it is moved: a byte that was
    /// just written is not moved along with others at once, which a processor waits for.
    #[inline]
    pub(crate) fn take_stream(&mut self, good: bool) -> Self {
        let mut stream = self.take();
        stream.good = good;
        stream.awaits = Awaits::First;
        stream
    }

    /// The body has nothing to give, of which so much is `left` if the length is known: from now on it is the upstream that is
    /// waited for. It is slow only where the length is known: a stream of events may be quiet for as long as it likes.
    #[inline]
    pub(crate) fn waits(&mut self, left: impl FnOnce() -> Option<u64>) {
        if self.awaits.is_the_upstream() || self.is_told() {
            return;
        }
        match left() {
            // Each byte was given, though the stream has not said that it ended.
            Some(0) if self.good => {}
            Some(_) => {
                self.awaits = Awaits::Rest;
                let since = self.ticket.judges_latency().then(Instant::now);
                self.clock.set(since);
            }
            None => {
                // Most answers are over by then, so that the clock is not asked for them.
                let given = self.awaits == Awaits::Next;
                self.awaits = Awaits::More;
                if given && self.good {
                    self.tell_if_long();
                }
            }
        }
    }

    /// Looked at after a piece was given: a stream that has halted has shown nothing.
    #[inline(never)]
    fn tell_if_long(&mut self) {
        if self.lives {
            return;
        }
        let now = Instant::now();
        match self.clock.runs_since() {
            Some(since) if now.saturating_duration_since(since) >= LONG => {
                self.lives = true;
                self.ticket.goes_on_well(self.slow, now);
            }
            Some(_) => {}
            None => self.clock.set(Some(now)),
        }
    }

    /// Whether the head of the answer has told that it is good.
    #[inline]
    pub(crate) const fn is_good(&self) -> bool {
        self.good
    }

    /// The body has given something.
    #[inline]
    pub(crate) fn goes_on(&mut self) {
        if self.awaits == Awaits::Rest {
            self.clock.set(None);
        }
        self.awaits = Awaits::Next;
    }

    /// The verdict, at `now` if the clock was looked at.
    pub(crate) fn end(&mut self, ended: Ended, now: Option<Instant>) {
        let now = || now.unwrap_or_else(Instant::now);
        self.ticket.tell(ended.slow(self.slow), now);
    }

    /// As [`Attempt::end`] with a success, written out where a request passes: most calls end so.
    #[inline(always)]
    pub(crate) fn succeed(&mut self, now: Option<Instant>) {
        if self.slow {
            self.end(Ended::with(Outcome::Success), now);
        } else {
            let now = || now.unwrap_or_else(Instant::now);
            self.ticket.tell_success(now);
        }
    }

    /// The body has failed, and `outcome` is what its error says. When the request's deadline has passed while it was not
    /// the upstream that was waited for, a slow reader's answer was cut by our own timer; and when the client gave it no more
    /// time, it was cut for that.
    #[cold]
    pub(crate) fn breaks_off(&mut self, outcome: Outcome) {
        let excused = !self.awaits_the_upstream() || self.by_client;
        let outcome = match outcome {
            Outcome::Failure if excused && self.is_late(Instant::now()) => Outcome::Ignored,
            outcome => outcome,
        };
        self.end(Ended::with(outcome), None);
    }

    /// Whether it is the client that says when the request is to have ended.
    pub(crate) const fn is_by_client(&self) -> bool {
        self.by_client
    }

    /// Whether the time that the client itself gave is over.
    pub(crate) fn is_beyond_the_clients_time(&self) -> bool {
        self.by_client && self.is_late(Instant::now())
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// Whether it is the upstream that is waited for, as far as is known.
    fn awaits_the_upstream(&self) -> bool {
        self.awaits.is_the_upstream() && !self.clock.is_paused()
    }

    /// It is dropped, and nobody has said how it ended. Apart from the drop, which is a look and no more for nearly all.
    #[inline(never)]
    fn dropped(&mut self) {
        if self.awaits_the_upstream() && self.is_overdue() {
            self.end(Ended::with(Outcome::Failure), None);
        } else if self.good && self.awaits != Awaits::Rest {
            self.succeed(None);
        } else if self.slow {
            self.end(Ended::with(Outcome::Ignored), None);
        }
        self.ticket.give_back();
    }

    /// Whether our own timer gives up the wait for the upstream. How long that was is looked at as well.
    #[cold]
    fn is_overdue(&mut self) -> bool {
        // A stream may be quiet for as long as it likes.
        let since = self.clock.since().filter(|_| self.awaits != Awaits::More);
        if since.is_none() && self.deadline.is_none() {
            return false;
        }
        let now = Instant::now();
        self.slow |= since.is_some_and(|since| self.is_slow(since, now));
        self.is_late(now) && !self.by_client
    }
}

impl Drop for Attempt {
    #[inline(always)]
    fn drop(&mut self) {
        if !self.is_told() {
            self.dropped();
        }
    }
}
