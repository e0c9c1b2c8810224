//! All phases, one after the other, and what they come to.

use std::io;

use crate::gateway::Protection;
use crate::phase::{self, Kind, Phase};
use crate::report;
use crate::scenario::Timeline;
use crate::schedule::Schedule;
use crate::verdict::{Facts, Finding, judge};

/// The phases of a run, the last one being the one that is judged.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) seed: u64,
    pub(crate) healthy: Phase,
    pub(crate) unprotected: Phase,
    pub(crate) protected: Phase,
    /// Without these protections, if that was asked for.
    pub(crate) reduced: Option<(Vec<Protection>, Phase)>,
}

impl Replay {
    /// Runs everything.
    pub(crate) async fn run(
        seed: u64,
        timeline: Timeline,
        without: Vec<Protection>,
    ) -> io::Result<Self> {
        let schedule = Schedule::draw(seed, timeline);
        report::begin(seed, timeline, schedule.arrivals().len());
        let phase = |kind| phase::run(kind, &without, seed, timeline, &schedule);
        Ok(Self {
            seed,
            healthy: phase(Kind::Healthy).await?,
            unprotected: phase(Kind::Unprotected).await?,
            protected: phase(Kind::Protected).await?,
            reduced: if without.is_empty() {
                None
            } else {
                let phase = phase(Kind::Reduced).await?;
                Some((without, phase))
            },
        })
    }

    /// All phases, as they were run.
    pub(crate) fn phases(&self) -> Vec<&Phase> {
        let all = [&self.healthy, &self.unprotected, &self.protected];
        let reduced = self.reduced.as_ref().map(|(_, phase)| phase);
        all.into_iter().chain(reduced).collect()
    }

    /// The phase that has to meet the objectives: what was asked for, so the reduced one if there is one.
    pub(crate) fn judged(&self) -> &Phase {
        match &self.reduced {
            Some((_, phase)) => phase,
            None => &self.protected,
        }
    }

    /// Log requests of a phase, relative to what the same clients send when nothing fails.
    pub(crate) fn amplification(&self, phase: &Phase) -> f64 {
        phase.logs.total().sent as f64 / self.healthy.logs.total().sent as f64
    }

    /// Whether the replay shows what it must.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let judged = self.judged();
        let timeline = judged.timeline;
        let flood = timeline.flood_begins()..timeline.seconds();
        let healthy = [self.healthy.auth.total(), self.healthy.logs.total()];
        let unprotected = self.unprotected.auth.summary(flood.clone());
        let protected = judged.auth.total();
        judge(&Facts {
            healthy_sent: healthy.iter().map(|route| route.sent).sum(),
            healthy_ok: healthy.iter().map(|route| route.ok).sum(),
            unprotected_sent: unprotected.sent,
            unprotected_ok: unprotected.ok,
            protected_sent: protected.sent,
            protected_ok: protected.ok,
            protected_idle: judged.auth.summary(0..timeline.idle).p99,
            protected_flood: judged.auth.summary(flood).p99,
            unprotected_amplification: self.amplification(&self.unprotected),
            protected_amplification: self.amplification(judged),
            same_schedule: self
                .phases()
                .iter()
                .all(|phase| phase.offered == self.healthy.offered),
        })
    }
}
