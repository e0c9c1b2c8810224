use std::task::Waker;
use std::thread::LocalKey;

use gw_core::Mode;
use gw_core::at_hand::{AtHand, Kept};
use tokio::time::Instant;

use super::counter::{Counter, Word};
use super::holds::Holds;
use super::keys::KeySeed;
use super::limiter::Run;
use super::line::Line;
use super::state::{LaneState, Limits};
use super::{LaneId, Reason, Refusal, wake_all};
use crate::limit::Outcome;
use crate::sync::{AtomicU8, AtomicU32, Mutex, Ordering, Padded, lock};

/// What permits, waiting requests and handles share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) total: Padded<Counter>,
    pub(super) terms: Padded<Terms>,
    /// Held while the total and what the lanes have of it are changed.
    pub(super) resizing: Mutex<()>,
    /// At least one lane, by type.
    pub(super) first: LaneState,
    pub(super) rest: Box<[LaneState]>,
    pub(super) line: Mutex<Line>,
    pub(super) holds: Holds,
    pub(super) seed: KeySeed,
}

thread_local! {
    static AT_HAND: AtHand<Inner> = const { AtHand::new() };
}

impl Kept for Inner {
    fn hand() -> &'static LocalKey<AtHand<Self>> {
        &AT_HAND
    }
}

/// What an operator may change. Read often, written hardly ever.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) total: AtomicU32,
    pub(super) mode: AtomicU8,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// The lane is at its cap.
    Cap,
    /// Nothing is left to lend.
    Total,
    /// Others wait and come first.
    Behind,
    /// Nobody may enter any more.
    Draining,
}

/// For whom a place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// For a request that has just arrived: it must not overtake.
    Arriving,
    /// For a request whose turn it is. The line is locked.
    Next,
}

impl Inner {
    pub(super) fn lanes(&self) -> impl Iterator<Item = &LaneState> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    #[inline]
    pub(super) fn lane(&self, id: LaneId) -> &LaneState {
        // The first lane stands for an id of other lanes.
        let after_first = usize::from(id.0).checked_sub(1);
        after_first
            .and_then(|place| self.rest.get(place))
            .unwrap_or(&self.first)
    }

    #[inline]
    pub(super) fn mode(&self) -> Mode {
        const SHADOW: u8 = Mode::Shadow as u8;
        const OFF: u8 = Mode::Off as u8;
        match self.terms.mode.load(Ordering::Acquire) {
            SHADOW => Mode::Shadow,
            OFF => Mode::Off,
            _ => Mode::Enforce,
        }
    }

    /// What holds for the requests of one lane.
    pub(super) fn mode_of(&self, id: LaneId) -> Mode {
        self.mode().milder(self.lane(id).config.mode)
    }

    /// Takes a place, or does not. It is exact: no lane is above its cap for an instant, none is refused a place within
    /// its guarantee, and none borrows while `total` are in flight.
    ///
    /// The one thing that is not told apart is a place that two want to borrow at once and that one of them, having
    /// reserved it, cannot use because its lane changed meanwhile. It counts as taken for that moment.
    pub(super) fn take(&self, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        self.take_in(self.lane(id), id, turn)
    }

    /// The same where the lane is at hand. Written out where a request enters: what a call of it saves and restores is more than
    /// it does for one that is alone.
    #[inline(always)]
    pub(super) fn take_in(&self, lane: &LaneState, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        loop {
            let seen = lane.counter.load();
            if turn == Turn::Arriving && seen.waiting() > 0 {
                return Err(NoPlace::Behind);
            }
            let Limits { guaranteed, cap } = lane.limits();
            if seen.in_flight() >= cap {
                return Err(NoPlace::Cap);
            }
            if seen.in_flight() < guaranteed {
                if lane.counter.try_raise(seen) {
                    return self.count_guaranteed(id, turn);
                }
                continue;
            }
            // The total first: raised first, the lane would for a moment seem fuller than it is, and could refuse a
            // request that is within its guarantee.
            self.lend(turn)?;
            if lane.counter.try_raise(seen) {
                return Ok(());
            }
            self.return_lent(turn);
        }
    }

    /// Counts a place within a guarantee into the total, unless the lanes drain.
    #[inline]
    fn count_guaranteed(&self, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        let before = self.total.raise();
        if before.is_draining() && turn == Turn::Arriving {
            // After the fact, since only the total's own word says so for certain: once lanes are found drained,
            // nobody must get in.
            self.take_back(id);
            return Err(NoPlace::Draining);
        }
        Ok(())
    }

    /// Reserves a place of the total for a lane beyond its guarantee.
    fn lend(&self, turn: Turn) -> Result<(), NoPlace> {
        loop {
            let seen = self.total.load();
            match turn {
                Turn::Arriving if seen.is_draining() => return Err(NoPlace::Draining),
                // Somebody may be waiting for just this place, in any lane. Who comes first is decided in the line.
                Turn::Arriving if seen.waiting() > 0 => return Err(NoPlace::Behind),
                Turn::Arriving | Turn::Next => {}
            }
            if seen.in_flight() >= self.terms.total.load(Ordering::Acquire) {
                return Err(NoPlace::Total);
            }
            if self.total.try_raise(seen) {
                return Ok(());
            }
        }
    }

    fn return_lent(&self, turn: Turn) {
        let before = self.total.lower();
        // Who has the line locked goes on to look at it again anyway.
        if turn == Turn::Arriving {
            self.settle_unless_quiet(before);
        }
    }

    /// The lane of this id, or the first one.
    pub(super) fn known(&self, id: LaneId) -> LaneId {
        if id.place() <= self.rest.len() {
            id
        } else {
            LaneId::FIRST
        }
    }

    /// A place for whoever comes, beyond all limits; the total before.
    pub(super) fn force(&self, id: LaneId) -> Word {
        self.lane(id).counter.raise();
        self.total.raise()
    }

    /// Frees the places whose time is over, and counts their requests as cut: they will find out when they come back.
    pub(super) fn reap(&self, now: Instant) {
        // Else nobody is cut, so those whose time is over still run.
        if self.mode() != Mode::Enforce {
            return;
        }
        for hold in self.holds.expired(now) {
            let (permit, uncounted) = hold.into_parts();
            if uncounted {
                self.refuse(permit.lane(), Reason::MaxHold, now);
            }
            // Dropped without a lock: giving a permit back wakes whoever gets it.
        }
    }

    /// Notes how a request ended that still has its place. If its lane has more places for it, those who wait get them.
    #[inline]
    pub(super) fn ended(&self, id: LaneId, run: Run, outcome: Outcome) {
        if self.lane(id).ended(run, outcome) {
            self.settle_unless_quiet(self.total.meet());
        }
    }

    /// Gives a place back.
    #[inline]
    pub(super) fn release(&self, id: LaneId) {
        // The lane first: the total's word is where those who wait look last, and they must see both.
        self.lane(id).counter.lower();
        let before = self.total.lower();
        self.settle_unless_quiet(before);
    }

    /// Gives a place back that was not to be taken, so that it does not count as one that was.
    pub(super) fn take_back(&self, id: LaneId) {
        // In the order of `release`, for its reason.
        self.lane(id).counter.take_back();
        let before = self.total.lower();
        self.settle_unless_quiet(before);
    }

    #[inline]
    fn settle_unless_quiet(&self, before: Word) {
        if !before.is_quiet() {
            self.settle();
        }
    }

    /// Hands free places to those that wait.
    pub(super) fn settle(&self) {
        let woken = self.serve(&mut lock(&self.line));
        wake_all(woken);
    }

    /// Hands free places to those that wait, in order, and lets go whom waiting is no use to. The wakers are for after the lock.
    pub(super) fn serve(&self, line: &mut Line) -> Vec<Waker> {
        let mut woken = Vec::new();
        let now = line.clock();
        let needs = |lane, now| self.lane(lane).time_needed(now);
        let take = |lane| self.take(lane, Turn::Next).is_ok();
        while let Some((lane, waker)) = line.serve(now, needs, take) {
            self.forget_waiter(lane);
            woken.extend(waker);
        }
        if self.total.load().is_drained() {
            woken.extend(line.end());
        }
        woken
    }

    /// Counts a request out of the queue. The line is locked.
    pub(super) fn forget_waiter(&self, id: LaneId) {
        self.lane(id).counter.leave();
        self.lane(id).dequeued();
        self.total.leave();
    }

    pub(super) fn refuse(&self, id: LaneId, reason: Reason, now: Instant) -> Refusal {
        let wait = self.lane(id).refused(reason, now);
        Refusal::new(reason, wait)
    }
}
