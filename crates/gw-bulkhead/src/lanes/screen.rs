use gw_core::Mode;
use gw_core::context::Criticality;
use tokio::time::Instant;

use super::inner::Inner;
use super::permit::{Stake, Ticks};
use super::wait::Term;
use super::{Arrival, LaneId, Reason};
use crate::pressure::Pressure;

/// Who may not come in whatever places there are, and for how long waiting is any use.
impl Inner {
    /// Whether a request may come in at all, and what it has from then on. In [`Mode::Enforce`] one that may not has
    /// nothing.
    pub(super) fn screen(
        &self,
        pressure: &Pressure,
        id: LaneId,
        arrival: &Arrival,
        mode: Mode,
    ) -> (Stake, Option<Reason>) {
        let lane = self.lane(id);
        let aware = lane.config.deadline_aware;
        let mut barred = None;
        if self.sheds(pressure, id, arrival.criticality) {
            barred = Some(Reason::Pressure);
        } else if aware
            && arrival
                .deadline
                .is_some_and(|deadline| deadline <= arrival.at)
        {
            barred = Some(Reason::Deadline);
        }
        if mode == Mode::Enforce && barred.is_some() {
            return (Stake::default(), barred);
        }
        if let (Some(keys), Some(key)) = (&lane.keys, arrival.key) {
            match mode {
                Mode::Enforce if !keys.claim(key) => {
                    return (Stake::default(), Some(Reason::PerKey));
                }
                Mode::Enforce => {}
                Mode::Shadow | Mode::Off => {
                    let fits = keys.force(key);
                    barred = barred.or((!fits).then_some(Reason::PerKey));
                }
            }
        }
        let stake = Stake {
            key: arrival.key.filter(|_| lane.keys.is_some()),
            since: if aware && !arrival.open_ended {
                self.ticks(arrival.at)
            } else {
                Ticks::default()
            },
        };
        (stake, barred)
    }

    /// Whether requests of a lane, or those of a lane that are so critical, are shed under `pressure`.
    pub(super) fn sheds(
        &self,
        pressure: &Pressure,
        id: LaneId,
        criticality: Option<Criticality>,
    ) -> bool {
        !pressure.is_normal()
            && pressure
                .load()
                .sheds(criticality.unwrap_or(self.lane(id).config.criticality))
    }

    /// Until when one who came then may wait, and what it is refused for then: the lane's timeout, the time at which it
    /// must start to be done before its deadline as far as is known now, or the time for which one may wait in a queue that
    /// stands.
    pub(super) fn term(
        &self,
        id: LaneId,
        came: Instant,
        now: Instant,
        deadline: Option<Instant>,
        short: Option<Instant>,
    ) -> Term {
        let lane = self.lane(id);
        let start =
            deadline.map(|deadline| deadline.checked_sub(lane.time_needed(now)).unwrap_or(now));
        let ends = [
            (Some(came + lane.config.queue_timeout), Reason::QueueTimeout),
            (start, Reason::Deadline),
            (short, Reason::QueueDelay),
        ];
        let first = ends
            .into_iter()
            .filter_map(|(until, reason)| {
                Some(Term {
                    came,
                    until: until?,
                    reason,
                    deadline,
                })
            })
            .min_by_key(|term| term.until);
        let never = Term {
            came,
            until: now,
            reason: Reason::QueueTimeout,
            deadline,
        };
        first.unwrap_or(never)
    }

    /// Gives back what a request had beside its place.
    #[cold]
    pub(super) fn give_back(&self, id: LaneId, stake: Stake) {
        let lane = self.lane(id);
        if let (Some(keys), Some(key)) = (&lane.keys, stake.key) {
            keys.release(key);
        }
        if !stake.since.is_none() {
            let now = Instant::now();
            lane.took(now, stake.since.until(self.ticks(now)));
        }
    }

    pub(super) fn ticks(&self, at: Instant) -> Ticks {
        Ticks::at(self.holds.nanos(at))
    }
}
