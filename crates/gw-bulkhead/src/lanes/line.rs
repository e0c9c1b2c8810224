use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Included};
use std::task::Waker;

use gw_core::context::Criticality;

use super::LaneId;
use crate::lane::LaneConfig;

/// Who waits, and in which order they are served. Plain data behind one lock; deciding who gets a place is done by
/// the caller. Wakers come in and go out, and none is cloned, woken or dropped in here: that is foreign code, and it may
/// come back for the lock.
///
/// Lanes are served by criticality, the most critical ones first. Lanes of equal criticality take turns, and inside a
/// lane it is first come, first served.
#[derive(Debug)]
pub(super) struct Line {
    /// By lane and ticket. The waker is absent until the waiting future is polled.
    waiting: BTreeMap<(LaneId, u64), Option<Waker>>,
    next_ticket: u64,
    /// Lanes of equal criticality stand in one rank, the most critical ones in the first; whose turn it is stands in
    /// front.
    ranks: Vec<VecDeque<LaneId>>,
    /// Those who wait for the lanes to be drained.
    watchers: BTreeMap<u64, Waker>,
}

impl Line {
    /// Nobody waits, for any of `lanes`, which are in the order of their ids.
    pub(super) fn new(lanes: &[LaneConfig]) -> Self {
        let rank = |criticality| {
            let ids = (0..).map(LaneId).zip(lanes);
            ids.filter(|(_, lane)| lane.criticality == criticality)
                .map(|(id, _)| id)
                .collect()
        };
        let ranks = [
            Criticality::CriticalPlus,
            Criticality::Critical,
            Criticality::SheddablePlus,
            Criticality::Sheddable,
        ];
        Self {
            waiting: BTreeMap::new(),
            next_ticket: 0,
            ranks: ranks.map(rank).into(),
            watchers: BTreeMap::new(),
        }
    }

    /// Queues one more request; its ticket.
    pub(super) fn join(&mut self, lane: LaneId) -> u64 {
        let ticket = self.ticket();
        self.waiting.insert((lane, ticket), None);
        ticket
    }

    /// Removes a request; its waker, if it was still there.
    pub(super) fn leave(&mut self, lane: LaneId, ticket: u64) -> Option<Option<Waker>> {
        self.waiting.remove(&(lane, ticket))
    }

    /// Has `waker` woken when the request is served; `false` if it has been already. What is left in `waker` then is
    /// for after the lock.
    pub(super) fn watch_place(
        &mut self,
        lane: LaneId,
        ticket: u64,
        waker: &mut Option<Waker>,
    ) -> bool {
        let Some(kept) = self.waiting.get_mut(&(lane, ticket)) else {
            return false;
        };
        std::mem::swap(kept, waker);
        true
    }

    /// Calls `take` for each lane in which somebody waits, in the order of service, until it takes a place. The
    /// lane's first request has left the line then.
    pub(super) fn serve(
        &mut self,
        mut take: impl FnMut(LaneId) -> bool,
    ) -> Option<(LaneId, Option<Waker>)> {
        for rank in &mut self.ranks {
            let served = rank.iter().enumerate().find_map(|(turn, &lane)| {
                let ticket = first(&self.waiting, lane)?;
                take(lane).then_some((turn, lane, ticket))
            });
            if let Some((turn, lane, ticket)) = served {
                rank.remove(turn);
                rank.push_back(lane);
                let waker = self.waiting.remove(&(lane, ticket)).flatten();
                return Some((lane, waker));
            }
        }
        None
    }

    /// Empties the line: all that wait, with their wakers.
    pub(super) fn disperse(&mut self) -> impl Iterator<Item = (LaneId, Option<Waker>)> + use<> {
        let waiting = std::mem::take(&mut self.waiting);
        waiting.into_iter().map(|((lane, _), waker)| (lane, waker))
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
}

fn first(waiting: &BTreeMap<(LaneId, u64), Option<Waker>>, lane: LaneId) -> Option<u64> {
    let of_lane = (Included((lane, 0)), Excluded((lane, u64::MAX)));
    let (&(_, ticket), _) = waiting.range(of_lane).next()?;
    Some(ticket)
}
