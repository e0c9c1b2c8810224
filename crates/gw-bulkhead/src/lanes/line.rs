use std::collections::BTreeMap;
use std::task::Waker;

use tokio::time::Instant;

use super::standing::Standing;
use super::turns::{LaneSet, Turns};
use super::{LaneId, Reason};
use crate::lane::LaneConfig;

/// Who waits, and in which order they are served. Plain data behind one lock; deciding who gets a place is done by
/// the caller. Wakers come in and go out, and none is cloned, woken or dropped in here: that is foreign code, and it may
/// come back for the lock.
///
/// Lanes take [`Turns`]. Inside a lane it is first come, first served, unless its queue stands and the lane wants the
/// newest first then.
#[derive(Debug)]
pub(super) struct Line {
    queues: Box<[Queue]>,
    /// The lanes in which somebody waits.
    waiting: LaneSet,
    turns: Turns,
    /// Those for whom waiting is no use any more, by ticket, until they learn it.
    expelled: BTreeMap<u64, Reason>,
    next_ticket: u64,
    /// Those who wait for the lanes to be drained.
    watchers: BTreeMap<u64, Waker>,
    /// Whether any lane looks at the clock.
    timed: bool,
}

/// Those that wait in one lane.
#[derive(Debug)]
struct Queue {
    /// By ticket, so in the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
    standing: Option<Standing>,
}

/// A request that waits.
#[derive(Debug)]
struct Waiter {
    /// Absent until the waiting future is polled.
    waker: Option<Waker>,
    came: Instant,
    /// When it must be done, if its lane looks at that.
    deadline: Option<Instant>,
}

/// What became of a request in the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Waits,
    /// It was given a place.
    Served,
    /// It was removed.
    Expelled(Reason),
}

/// A request that has left the line, served or expelled, and its waker.
pub(super) type Gone = (LaneId, Option<Waker>);

impl Line {
    /// Nobody waits, for any of `lanes`, which are in the order of their ids.
    pub(super) fn new(lanes: &[LaneConfig]) -> Self {
        let queue = |lane: &LaneConfig| Queue {
            waiting: BTreeMap::new(),
            standing: lane.codel.map(Standing::new),
        };
        Self {
            queues: lanes.iter().map(queue).collect(),
            waiting: LaneSet::default(),
            turns: Turns::new(lanes.iter().map(|lane| lane.criticality)),
            expelled: BTreeMap::new(),
            next_ticket: 0,
            watchers: BTreeMap::new(),
            timed: lanes
                .iter()
                .any(|lane| lane.codel.is_some() || lane.deadline_aware),
        }
    }

    /// The time, if it makes a difference to anybody in the line.
    pub(super) fn clock(&self) -> Option<Instant> {
        self.timed.then(Instant::now)
    }

    /// Queues one more request; its ticket.
    pub(super) fn join(&mut self, lane: LaneId, came: Instant, deadline: Option<Instant>) -> u64 {
        let ticket = self.ticket();
        if let Some(queue) = self.queues.get_mut(lane.place()) {
            if queue.waiting.is_empty() {
                self.turns.begin(lane.place());
                self.waiting.insert(lane.place());
            }
            queue.observe(came);
            let waiter = Waiter {
                waker: None,
                came,
                deadline,
            };
            queue.waiting.insert(ticket, waiter);
        }
        ticket
    }

    /// Until when one who comes to a lane now may wait because its queue stands; `None` if it does not.
    pub(super) fn short_wait(&mut self, lane: LaneId, now: Instant) -> Option<Instant> {
        let queue = self.queues.get_mut(lane.place())?;
        queue.observe(now);
        let standing = queue
            .standing
            .as_ref()
            .filter(|standing| standing.stands())?;
        now.checked_add(standing.rule().longest_wait())
    }

    /// Removes a request; what had become of it, and its waker.
    pub(super) fn leave(&mut self, lane: LaneId, ticket: u64) -> (Fate, Option<Waker>) {
        if let Some(now) = self.clock()
            && let Some(queue) = self.queues.get_mut(lane.place())
        {
            queue.observe(now);
        }
        match self.remove(lane.place(), ticket) {
            Some(waiter) => (Fate::Waits, waiter.waker),
            None => (self.fate_outside(ticket), None),
        }
    }

    /// Has `waker` woken when the request's fate changes. What is left in `waker` then is for after the lock.
    pub(super) fn watch_place(
        &mut self,
        lane: LaneId,
        ticket: u64,
        waker: &mut Option<Waker>,
    ) -> Fate {
        let queue = self.queues.get_mut(lane.place());
        match queue.and_then(|queue| queue.waiting.get_mut(&ticket)) {
            Some(waiter) => {
                std::mem::swap(&mut waiter.waker, waker);
                Fate::Waits
            }
            None => self.fate_outside(ticket),
        }
    }

    /// When the clock alone may change the fate of one who waits.
    pub(super) fn next_look(&self, lane: LaneId, ticket: u64) -> Option<Instant> {
        let Queue { waiting, standing } = self.queues.get(lane.place())?;
        let (_, oldest) = waiting.first_key_value()?;
        let came = waiting.get(&ticket)?.came;
        Some(standing.as_ref()?.next_look(oldest.came, came))
    }

    /// The next one to leave the line. Calls `take` for each lane in which somebody waits, in the order of service, until
    /// it takes a place; `needs` is how long a request of a lane takes. To be called until there is nobody.
    pub(super) fn serve(
        &mut self,
        now: Option<Instant>,
        needs: impl Fn(LaneId, Instant) -> std::time::Duration,
        mut take: impl FnMut(LaneId) -> bool,
    ) -> Option<Gone> {
        if let Some(now) = now
            && let Some(gone) = self.expel_overdue(now)
        {
            return Some(gone);
        }
        let (mut left, mut over) = (self.waiting, LaneSet::default());
        while let Some(place) = self.turns.first(left) {
            let lane = LaneId::at(place);
            let (ticket, deadline) = self.queues.get(place)?.next()?;
            // What cannot be done any more is not started.
            if let (Some(now), Some(deadline)) = (now, deadline)
                && now + needs(lane, now) > deadline
            {
                return self.expel(place, ticket, Reason::Deadline);
            }
            if take(lane) {
                self.turns.served(place, over);
                let waiter = self.remove(place, ticket)?;
                return Some((lane, waiter.waker));
            }
            left.remove(place);
            over.insert(place);
        }
        None
    }

    /// Empties the line: all that wait, with their wakers.
    pub(super) fn disperse(&mut self) -> impl Iterator<Item = Gone> + use<> {
        self.waiting = LaneSet::default();
        let now = self.clock();
        let queues = self.queues.iter_mut().enumerate();
        let dispersed: Vec<_> = queues
            .flat_map(|(place, queue)| {
                if let Some(now) = now {
                    queue.observe(now);
                }
                let waiting = std::mem::take(&mut queue.waiting);
                let waiting = waiting.into_values();
                waiting.map(move |waiter| (LaneId::at(place), waiter.waker))
            })
            .collect();
        dispersed.into_iter()
    }

    /// A number for a watcher.
    pub(super) fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// Has `waker` woken when the lanes begin to drain, and when they are drained; the one it had before.
    pub(super) fn watch_end(&mut self, ticket: u64, waker: Waker) -> Option<Waker> {
        self.watchers.insert(ticket, waker)
    }

    /// Forgets a watcher; its waker.
    pub(super) fn unwatch_end(&mut self, ticket: u64) -> Option<Waker> {
        self.watchers.remove(&ticket)
    }

    /// Forgets all watchers; their wakers.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Waker> + use<> {
        std::mem::take(&mut self.watchers).into_values()
    }

    /// Removes one who has waited for too long in a queue that stands.
    fn expel_overdue(&mut self, now: Instant) -> Option<Gone> {
        let mut queues = self.queues.iter_mut().enumerate();
        let (place, ticket) = queues.find_map(|(place, queue)| {
            queue.observe(now);
            Some((place, queue.overdue(now)?))
        })?;
        self.expel(place, ticket, Reason::QueueDelay)
    }

    fn expel(&mut self, place: usize, ticket: u64, reason: Reason) -> Option<Gone> {
        let waiter = self.remove(place, ticket)?;
        self.expelled.insert(ticket, reason);
        Some((LaneId::at(place), waiter.waker))
    }

    fn remove(&mut self, place: usize, ticket: u64) -> Option<Waiter> {
        let queue = self.queues.get_mut(place)?;
        let waiter = queue.waiting.remove(&ticket)?;
        if queue.waiting.is_empty() {
            self.waiting.remove(place);
        }
        Some(waiter)
    }

    /// What became of a request that does not wait any more.
    fn fate_outside(&mut self, ticket: u64) -> Fate {
        let expelled = self.expelled.remove(&ticket);
        expelled.map_or(Fate::Served, Fate::Expelled)
    }
}

impl Queue {
    fn observe(&mut self, now: Instant) {
        let oldest = self.waiting.first_key_value();
        let came = oldest.map(|(_, waiter)| waiter.came);
        if let Some(standing) = &mut self.standing {
            standing.observe(now, came);
        }
    }

    /// Who is served next, and when it must be done.
    fn next(&self) -> Option<(u64, Option<Instant>)> {
        let newest = self
            .standing
            .as_ref()
            .is_some_and(|standing| standing.stands() && standing.rule().adaptive_lifo);
        let next = if newest {
            self.waiting.last_key_value()
        } else {
            self.waiting.first_key_value()
        };
        next.map(|(ticket, waiter)| (*ticket, waiter.deadline))
    }

    /// One who has waited for as long as it may while the queue stands: the oldest one, if anybody.
    fn overdue(&self, now: Instant) -> Option<u64> {
        let standing = self
            .standing
            .as_ref()
            .filter(|standing| standing.stands())?;
        let (ticket, oldest) = self.waiting.first_key_value()?;
        let waited = now.saturating_duration_since(oldest.came);
        (waited >= standing.rule().longest_wait()).then_some(*ticket)
    }
}
