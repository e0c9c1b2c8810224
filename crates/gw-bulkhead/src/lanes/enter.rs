use std::sync::Arc;

use gw_core::Mode;

use super::inner::{NoPlace, Turn};
use super::permit::{Stake, Ticks};
use super::state::LaneState;
use super::{Arrival, Entry, LaneId, Lanes, Permit, Reason, Wait, wake_all};
use crate::sync::lock;

/// How a request gets in.
impl Lanes {
    /// A place in `lane`, if one is free and nobody waits for it. Takes no lock unless somebody waits, and counts no
    /// refusal: a request that finds no place goes on to [`Lanes::enter`].
    ///
    /// It asks for no key and no deadline. In lanes that look at them, use [`Lanes::enter`] at once.
    pub fn try_admit(&self, lane: LaneId) -> Option<Permit> {
        if self.inner.sheds(&self.pressure, lane, None) && self.inner.mode_of(lane) == Mode::Enforce
        {
            return None;
        }
        self.admit_plainly(lane)
    }

    /// As [`Lanes::try_admit`], for a lane that is not [curious](Self::is_curious).
    #[inline]
    pub(crate) fn admit_plainly(&self, lane: LaneId) -> Option<Permit> {
        self.admit_in(lane, self.inner.lane(lane))
    }

    /// The same for any lane, but nothing if there is more to ask of the request. What is to be done for a request that may
    /// be admitted so comes before it is known whether there is a place: the permit goes to where it stays at once.
    #[inline]
    pub(crate) fn admit_unasked(&self, lane: LaneId, before: impl FnOnce()) -> Option<Permit> {
        let state = self.inner.lane(lane);
        if state.curious || !self.pressure.is_normal() {
            return None;
        }
        before();
        self.admit_in(lane, state)
    }

    #[inline]
    fn admit_in(&self, lane: LaneId, state: &LaneState) -> Option<Permit> {
        self.inner.take_in(state, Turn::Arriving).ok()?;
        Some(Permit::new(&self.inner, lane, state, Stake::default()))
    }

    /// Admits, queues or refuses a request, and counts it if it is refused.
    ///
    /// In [`Mode::Shadow`] everything is admitted and what would not have been is counted, in [`Mode::Off`] it is not
    /// counted either. Lanes that drain refuse in every mode.
    pub fn enter(&self, lane: LaneId, arrival: impl Into<Arrival>) -> Entry {
        let arrival = arrival.into();
        let inner = &self.inner;
        let mode = inner.mode_of(lane);
        inner.reap(arrival.at);
        let (stake, barred) = inner.screen(&self.pressure, lane, &arrival, mode);
        let entry = match (barred, mode) {
            (Some(reason), Mode::Enforce) => {
                return Entry::Refused(inner.refuse(lane, reason, arrival.at));
            }
            (_, Mode::Enforce) => self.enter_enforced(lane, &arrival, stake),
            (_, Mode::Shadow | Mode::Off) => {
                let counted = barred.filter(|_| mode == Mode::Shadow);
                self.enter_anyway(lane, &arrival, stake, counted)
            }
        };
        entry.unwrap_or_else(|reason| {
            // It never ran, so there is no time to note.
            let since = Ticks::default();
            inner.give_back(lane, Stake { since, ..stake });
            // Counted only then: a recorder that panics does not take the stake along.
            Entry::Refused(inner.refuse(lane, reason, arrival.at))
        })
    }

    fn enter_enforced(
        &self,
        lane: LaneId,
        arrival: &Arrival,
        stake: Stake,
    ) -> Result<Entry, Reason> {
        let inner = &self.inner;
        let state = inner.lane(lane);
        let places = state.config.queue;
        match inner.take_in(state, Turn::Arriving) {
            Ok(()) => Ok(Entry::Admitted(self.permit(lane, stake))),
            Err(NoPlace::Draining) => Err(Reason::Draining),
            Err(NoPlace::Cap | NoPlace::Total) if places == 0 => Err(Reason::LaneFull),
            // Without the lock, for which a flood in one lane would have all others wait.
            Err(_) if state.is_queue_full() => Err(Reason::QueueFull),
            Err(_) => self.queue(inner.known(lane), places, arrival, stake),
        }
    }

    /// Where nothing is enforced: counts what a request would have been refused for, if that is to be counted.
    fn enter_anyway(
        &self,
        lane: LaneId,
        arrival: &Arrival,
        stake: Stake,
        counted: Option<Reason>,
    ) -> Result<Entry, Reason> {
        let inner = &self.inner;
        let taken = inner.take(lane, Turn::Arriving);
        if taken == Err(NoPlace::Draining) {
            return Err(Reason::Draining);
        }
        let full = taken.is_err() && inner.mode_of(lane) == Mode::Shadow;
        let barred = counted.or(full.then_some(Reason::LaneFull));
        if taken.is_err() && inner.force(lane).is_closed() {
            inner.take_back(lane);
            return Err(Reason::Draining);
        }
        let mut permit = self.permit(lane, stake);
        if let Some(reason) = barred {
            permit.shadowed = true;
            inner.would_refuse(lane, reason, arrival.at);
        }
        Ok(Entry::Admitted(permit))
    }

    /// The slow path: with the line locked, after all that came before.
    fn queue(
        &self,
        lane: LaneId,
        places: u32,
        arrival: &Arrival,
        stake: Stake,
    ) -> Result<Entry, Reason> {
        let (inner, now) = (&self.inner, arrival.at);
        let state = inner.lane(lane);
        let deadline = arrival.deadline;
        let (entry, woken) = {
            let mut line = lock(&inner.line);
            // First those that wait already; what remains after that no one else can use.
            let mut woken = inner.serve(&mut line);
            let waiting = state.counter.load().waiting();
            let term = inner.term(lane, now, now, deadline, line.short_wait(lane, now));
            let entry = if inner.lending.load().is_draining() {
                Err(Reason::Draining)
            } else if inner.mode() != Mode::Enforce {
                // The mode was changed, and all that waited were let go, while this one came here.
                inner.force(lane);
                Ok(None)
            } else if waiting == 0 && inner.take(lane, Turn::Next).is_ok() {
                Ok(None)
            } else if places == 0 {
                Err(Reason::LaneFull)
            } else if waiting >= places {
                Err(Reason::QueueFull)
            } else if term.until <= now {
                Err(term.reason)
            } else {
                let ticket = line.join(lane, now, deadline);
                inner.announce_waiter(lane);
                // A last look: a place that was given back before this one was announced was offered to nobody.
                woken.extend(inner.serve(&mut line));
                Ok(Some((ticket, term)))
            };
            (entry, woken)
        };
        // A place or a ticket has an owner before others are woken.
        let entry = entry.map(|queued| match queued {
            None => Entry::Admitted(self.permit(lane, stake)),
            Some((ticket, term)) => {
                let lanes = Arc::clone(inner);
                Entry::Queued(Wait::new(lanes, lane, ticket, stake, term))
            }
        });
        wake_all(woken);
        entry
    }

    #[inline]
    fn permit(&self, lane: LaneId, stake: Stake) -> Permit {
        Permit::new(&self.inner, lane, self.inner.lane(lane), stake)
    }
}
