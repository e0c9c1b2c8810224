use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::Mode;
use tokio::time::Instant;

use super::line::Fate;
use super::permit::{Stake, Ticks};
use super::{Inner, LaneId, Permit, Reaper, Reason, Refusal, wake_all};
use crate::sync::lock;

/// A request that waits for a place in its lane. The place is handed to it; it does not compete for it again. Or it is
/// refused, because waiting is no use any more.
///
/// It sets no timer: whoever polls it does so again at its [next look](Wait::next_look), though nobody wakes it, and calls
/// [`Wait::give_up`] when the time is [over](Wait::until) and is not [prolonged](Wait::prolong).
///
/// # Cancel safety
///
/// Dropping it leaves the queue at once. A place that it was given in the same moment goes to the next one.
#[derive(Debug)]
#[must_use = "dropping it leaves the queue"]
pub struct Wait {
    lanes: Arc<Inner>,
    lane: LaneId,
    ticket: u64,
    stake: Stake,
    term: Term,
    /// When its queue may begin to stand, as it was when this was polled last.
    look: Option<Instant>,
    /// Whether it still waits, or its fate was decided and it does not know.
    open: bool,
}

/// For how long a request may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Term {
    pub(super) came: Instant,
    pub(super) until: Instant,
    /// What it is refused for then.
    pub(super) reason: Reason,
    /// When it must be done, if its lane looks at that.
    pub(super) deadline: Option<Instant>,
}

impl Wait {
    pub(super) const fn new(
        lanes: Arc<Inner>,
        lane: LaneId,
        ticket: u64,
        stake: Stake,
        term: Term,
    ) -> Self {
        Self {
            lanes,
            lane,
            ticket,
            stake,
            term,
            look: None,
            open: true,
        }
    }

    /// When to give up: at the end of the lane's queue timeout, or before that, if waiting is no use from then on. See
    /// [`Wait::prolong`].
    pub const fn until(&self) -> Instant {
        self.term.until
    }

    /// When to poll it again, though nobody wakes it: at the end of its time, or before that, when the lane's queue may
    /// begin to [stand](crate::Codel) or it has waited for too long in one that does. Known once it was polled.
    pub fn next_look(&self) -> Instant {
        let until = self.term.until;
        self.look.map_or(until, |look| look.min(until))
    }

    /// Whether it may wait on though its time is [over](Wait::until) at `now`, until a later one, and is to be polled: what was so
    /// when it came may be so no more. Its lane's requests may take less time than was foretold then, or its queue stand no longer;
    /// where the queue still does, the poll refuses.
    pub fn prolong(&mut self, now: Instant) -> bool {
        if self.term.reason != Reason::QueueTimeout {
            let Term { came, deadline, .. } = self.term;
            self.term = self.lanes.term(self.lane, came, now, deadline, None);
        }
        now < self.term.until
    }

    /// Leaves the queue because it took too long.
    ///
    /// # Errors
    ///
    /// The refusal, unless a place was given in the same moment: then there is nothing to refuse, if its deadline has not
    /// passed.
    pub fn give_up(mut self, now: Instant) -> Result<Permit, Refusal> {
        let reason = match self.leave() {
            Some(Fate::Served) => return self.served(),
            Some(Fate::Expelled(reason)) => reason,
            Some(Fate::Waits) if now >= self.term.until => self.term.reason,
            Some(Fate::Waits) | None => Reason::QueueTimeout,
        };
        Err(self.refusal(reason, now))
    }

    /// What frees the places whose time is over: they may be what this one waits for.
    pub(crate) fn reaper(&self) -> Reaper {
        Reaper::new(Arc::clone(&self.lanes))
    }

    /// Leaves the line; what had become of it, if that was not known.
    fn leave(&mut self) -> Option<Fate> {
        if !std::mem::take(&mut self.open) {
            return None;
        }
        let (fate, own, woken) = {
            let mut line = lock(&self.lanes.line);
            let (fate, own) = line.leave(self.lane, self.ticket);
            if fate == Fate::Waits {
                self.lanes.forget_waiter(self.lane);
            }
            // Nothing became free, but it may have been the last one that a drain waited for.
            (fate, own, self.lanes.serve(&mut line))
        };
        drop(own);
        wake_all(woken);
        Some(fate)
    }

    /// What becomes of the place that it was given: if its deadline has passed before anybody learned of the place, it is not
    /// started.
    fn served(&mut self) -> Result<Permit, Refusal> {
        if let Some(deadline) = self.term.deadline
            && self.lanes.mode_of(self.lane) == Mode::Enforce
        {
            let now = Instant::now();
            if deadline <= now {
                self.lanes.take_back(self.lane);
                return Err(self.refusal(Reason::Deadline, now));
            }
        }
        Ok(self.permit())
    }

    /// For the place that it was given. What it has goes along.
    fn permit(&mut self) -> Permit {
        let mut stake = std::mem::take(&mut self.stake);
        // From now on, not since it came.
        if !stake.since.is_none() {
            stake.since = self.lanes.ticks(Instant::now());
        }
        let state = self.lanes.lane(self.lane);
        Permit::new(&self.lanes, self.lane, state, stake)
    }

    fn refusal(&mut self, reason: Reason, now: Instant) -> Refusal {
        self.give_stake_back();
        self.lanes.refuse(self.lane, reason, now)
    }

    fn give_stake_back(&mut self) {
        let Stake { key, .. } = std::mem::take(&mut self.stake);
        // It never ran, so there is no time to note.
        let since = Ticks::default();
        self.lanes.give_back(self.lane, Stake { key, since });
    }
}

/// Pending for ever once it has been ready.
impl Future for Wait {
    type Output = Result<Permit, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.open {
            return Poll::Pending;
        }
        if self.look.is_some_and(|look| look <= Instant::now()) {
            self.lanes.settle();
        }
        let mut waker = Some(cx.waker().clone());
        let (fate, look) = {
            let mut line = lock(&self.lanes.line);
            let fate = line.watch_place(self.lane, self.ticket, &mut waker);
            (fate, line.next_look(self.lane, self.ticket))
        };
        self.look = look;
        let reason = match fate {
            Fate::Waits => return Poll::Pending,
            Fate::Served => None,
            Fate::Expelled(reason) => Some(reason),
        };
        self.open = false;
        Poll::Ready(match reason {
            None => self.served(),
            Some(reason) => Err(self.refusal(reason, Instant::now())),
        })
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        if self.leave() == Some(Fate::Served) {
            self.lanes.take_back(self.lane);
        }
        self.give_stake_back();
    }
}
