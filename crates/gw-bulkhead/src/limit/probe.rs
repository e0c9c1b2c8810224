use std::time::Duration;

/// A look at the latency with fewer requests in flight, while the lane is full and nothing else tells whether they queue.
///
/// It goes down by steps. If the latency fell as the limit did, the step cost nothing: as many were answered, and only
/// the queue was shorter; so it takes another one. Where the latency does not fall any more, nobody queues, and that is
/// the baseline. No step is taken that the one before did not show to be free, so throughput is cut by no more than the
/// last one cuts it: by a third, for a hundred answers.
///
/// That the latency is the one that is known is no reason to stop: under a baseline that was learnt from a queue the
/// first step finds just that.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// The limit to return to.
    before: f64,
    /// The latency before this step.
    latency: f64,
    /// The limit of this step.
    limit: f64,
    steps: u32,
}

/// What a step of a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// They queue: on with the next step.
    Queue,
    /// Nobody queues.
    Ground,
}

impl Probe {
    /// Each step is a mean of this many samples at least.
    pub(super) const SAMPLES: u32 = 100;
    /// The longest that one step may take: with fewer samples in this time there is no crowd to look at.
    pub(super) const LONGEST_STEP: Duration = Duration::from_secs(10);
    /// By what the limit is divided.
    const STEP: f64 = 1.5;
    /// From 10,000 down to 6: who is above that begins anew from there.
    const STEPS: u32 = 18;
    /// The latency fell as the limit did: the least power of the limit's ratio.
    const FALL: f64 = 0.5;

    /// Begins where answers take `latency` at `limit`.
    pub(super) fn new(limit: f64, latency: f64) -> Self {
        Self {
            before: limit,
            latency,
            limit: limit / Self::STEP,
            steps: 1,
        }
    }

    /// The limit of this step.
    pub(super) const fn limit(&self) -> f64 {
        self.limit
    }

    /// The limit to return to if it finds nothing.
    pub(super) const fn before(&self) -> f64 {
        self.before
    }

    /// Judges the latency of this step.
    pub(super) fn look(&self, latency: f64) -> Found {
        let fell = (self.latency / latency).ln() / Self::STEP.ln();
        if fell >= Self::FALL && self.steps < Self::STEPS && self.limit > Self::STEP {
            Found::Queue
        } else {
            Found::Ground
        }
    }

    /// Goes down by another step from one with this latency.
    pub(super) fn descend(self, latency: f64) -> Self {
        Self {
            latency,
            limit: self.limit / Self::STEP,
            steps: self.steps + 1,
            ..self
        }
    }

    /// The limit to go on from, now that the ground was reached: where this step began, with the room above it that a
    /// limit may have.
    pub(super) fn after(&self, tolerance: f64) -> f64 {
        self.before.min(self.limit * Self::STEP * tolerance)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// A backend of 100 servers, each of which takes a second.
    fn latency(limit: f64) -> f64 {
        (limit / 100.0).max(1.0)
    }

    fn probed(limit: f64) -> Probe {
        let mut probe = Probe::new(limit, latency(limit));
        while probe.look(latency(probe.limit())) == Found::Queue {
            let seen = latency(probe.limit());
            probe = probe.descend(seen);
        }
        probe
    }

    #[test]
    fn goes_down_to_one_step_below_what_can_be_served() {
        for limit in [120.0, 150.0, 400.0, 2000.0] {
            let probe = probed(limit);
            assert_eq!(latency(probe.limit()), 1.0, "{limit}");
            assert!(probe.limit() >= 60.0, "{limit}: {probe:?}");
            let after = probe.after(1.5);
            assert!((120.0..=225.0).contains(&after), "{limit}: {after}");
            assert!(after <= limit);
        }
    }

    #[test]
    fn a_slow_backend_is_told_from_a_queue_by_one_step() {
        let probe = Probe::new(90.0, 1.0);
        assert_eq!(probe.look(1.0), Found::Ground);
        assert_eq!(probe.before(), 90.0);
        assert_eq!(probe.after(1.5), 90.0);
    }

    #[test]
    fn ends() {
        let mut probe = Probe::new(1e9, 1.0);
        let mut latency = 1.0;
        for _ in 0..Probe::STEPS {
            latency /= 2.0;
            if probe.look(latency) == Found::Ground {
                return;
            }
            probe = probe.descend(latency);
        }
        panic!("{probe:?}");
    }
}
