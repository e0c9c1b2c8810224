use std::task::Waker;
use std::thread::LocalKey;

use gw_core::Mode;
use gw_core::at_hand::{AtHand, Kept};
use tokio::time::Instant;

use super::holds::Holds;
use super::keys::KeySeed;
use super::lane_counter::LaneWord;
use super::lending::Lending;
use super::limiter::Run;
use super::line::Line;
use super::state::LaneState;
use super::{LaneId, Reason, Refusal, wake_all};
use crate::limit::Outcome;
use crate::sync::{AtomicU8, AtomicU32, Mutex, Ordering, Padded, lock};

/// What permits, waiting requests and handles share.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) lending: Padded<Lending>,
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

    /// Takes a place, or does not. No lane is above its cap for an instant, none is refused a place within its guarantee, and no
    /// place is lent to two.
    ///
    /// How many are in flight is counted lane by lane. What is taken within guarantees or given back meanwhile is seen or not,
    /// each by itself, so one may borrow or be refused by a sum that was true at no moment. All the same less than the total and
    /// all guarantees are in flight.
    pub(super) fn take(&self, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        self.take_in(self.lane(id), turn)
    }

    /// The same where the lane is at hand. Written out where a request enters: what a call of it saves and restores is more than
    /// it does for one that is within the guarantee.
    #[inline(always)]
    pub(super) fn take_in(&self, lane: &LaneState, turn: Turn) -> Result<(), NoPlace> {
        let seen = lane.counter.load();
        if seen.in_flight() < lane.is_open(seen, turn)? && lane.counter.try_raise(seen) {
            return Ok(());
        }
        self.take_or_borrow(lane, turn)
    }

    #[inline(never)]
    fn take_or_borrow(&self, lane: &LaneState, turn: Turn) -> Result<(), NoPlace> {
        loop {
            let seen = lane.counter.load();
            let guaranteed = lane.is_open(seen, turn)?;
            // What a sole lane may have, nobody else has: its cap is all there is to look at.
            if seen.in_flight() < guaranteed || self.is_sole() {
                if lane.counter.try_raise(seen) {
                    return Ok(());
                }
                continue;
            }
            match self.borrow(lane, turn) {
                // Meanwhile one of its own may have become free.
                Err(NoPlace::Total) if lane.counter.load().in_flight() < guaranteed => {}
                done => return done,
            }
        }
    }

    /// Whether there is but one lane.
    #[inline]
    pub(super) fn is_sole(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes a place beyond the guarantee of `lane`.
    ///
    /// It is reserved first: raised first, the lane would for a moment seem fuller than it is, and could refuse a request
    /// that is within its guarantee.
    fn borrow(&self, lane: &LaneState, turn: Turn) -> Result<(), NoPlace> {
        self.reserve(turn)?;
        let taken = loop {
            let seen = lane.counter.load();
            match lane.is_open(seen, turn) {
                Ok(_) if lane.counter.try_raise(seen) => break Ok(()),
                Ok(_) => {}
                Err(none) => break Err(none),
            }
        };
        self.settle_reservation(turn);
        taken
    }

    /// Reserves a place to borrow.
    fn reserve(&self, turn: Turn) -> Result<(), NoPlace> {
        loop {
            // First, and then the lanes: what was reserved before and is not found here is found there.
            let seen = self.lending.load();
            // Somebody may be waiting for just this place, in any lane. Who comes first is decided in the line.
            if turn == Turn::Arriving && seen.waiting() > 0 {
                return Err(NoPlace::Behind);
            }
            let total = self.terms.total.load(Ordering::Acquire).into();
            // Who is refused writes nothing: in a flood they would be in the way of those for whom there is a place.
            let in_flight = self.in_flight();
            if in_flight >= total {
                return Err(NoPlace::Total);
            }
            if in_flight + seen.borrowers() < total {
                // From here on whoever borrows counts this one.
                let before = self.lending.reserve();
                let behind = turn == Turn::Arriving && before.waiting() > 0;
                if !behind && self.in_flight() + before.borrowers() < total {
                    return Ok(());
                }
                self.settle_reservation(turn);
            } else if !self.lending.changes(seen) {
                return Err(NoPlace::Total);
            }
        }
    }

    /// Ends a reservation, whose place is in its lane or is not taken.
    fn settle_reservation(&self, turn: Turn) {
        let before = self.lending.settled();
        // Whoever looked for a place in between may have found this one counted twice, or though it is not used. Who has the
        // line locked goes on to look at it again anyway.
        if turn == Turn::Arriving && before.waiting() > 0 {
            self.settle();
        }
    }

    /// How many are in flight in all lanes, at about this moment.
    pub(super) fn in_flight(&self) -> u64 {
        let in_flight = |lane: &LaneState| u64::from(lane.counter.load().in_flight());
        self.lanes().map(in_flight).sum()
    }

    /// Whether the lanes drain, and nobody is in flight or waits. The line is locked.
    pub(super) fn is_drained(&self) -> bool {
        let word = self.lending.load();
        word.is_draining() && word.waiting() == 0 && self.in_flight() == 0
    }

    /// The lane of this id, or the first one.
    pub(super) fn known(&self, id: LaneId) -> LaneId {
        if id.place() <= self.rest.len() {
            id
        } else {
            LaneId::FIRST
        }
    }

    /// A place for whoever comes, beyond all limits; its lane before.
    pub(super) fn force(&self, id: LaneId) -> LaneWord {
        self.lane(id).counter.raise()
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
            self.settle_unless_quiet(self.lane(id).counter.meet());
        }
    }

    /// Gives a place back.
    #[inline]
    pub(super) fn release(&self, id: LaneId) {
        let before = self.lane(id).counter.lower();
        self.settle_unless_quiet(before);
    }

    /// Gives a place back that was not to be taken, so that it does not count as one that was.
    pub(super) fn take_back(&self, id: LaneId) {
        let before = self.lane(id).counter.take_back();
        self.settle_unless_quiet(before);
    }

    #[inline]
    fn settle_unless_quiet(&self, before: LaneWord) {
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
        if self.is_drained() {
            woken.extend(line.end());
        }
        woken
    }

    /// Counts a request into the queue. The line is locked.
    pub(super) fn announce_waiter(&self, id: LaneId) {
        self.lane(id).counter.join();
        if self.lending.join().waiting() == 0 {
            self.lanes().for_each(|lane| lane.counter.watch());
        }
        // Last, here and below: a recorder that panics leaves counts behind that agree.
        self.lane(id).queued();
    }

    /// Counts a request out of the queue. The line is locked.
    pub(super) fn forget_waiter(&self, id: LaneId) {
        self.lane(id).counter.leave();
        if self.lending.leave().waiting() == 1 {
            self.lanes().for_each(|lane| lane.counter.unwatch());
        }
        self.lane(id).dequeued();
    }

    /// Admits nobody from now on who does not wait already; whether it did before. The line is locked.
    pub(super) fn close(&self) -> bool {
        self.lanes().for_each(|lane| lane.counter.close());
        // Last: who sees this counts who is in flight, and nobody must get in any more.
        !self.lending.start_draining().is_draining()
    }

    pub(super) fn refuse(&self, id: LaneId, reason: Reason, now: Instant) -> Refusal {
        let wait = self.lane(id).refused(reason, Mode::Enforce, now);
        Refusal::new(reason, wait)
    }

    /// Counts what is let pass, and would not be if its lane were not only tried out.
    pub(super) fn would_refuse(&self, id: LaneId, reason: Reason, now: Instant) {
        self.lane(id).refused(reason, Mode::Shadow, now);
    }
}
