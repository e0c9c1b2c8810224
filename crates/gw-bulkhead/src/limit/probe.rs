use std::time::Duration;

/// A look at the latency with fewer requests in flight, while the lane is full and nothing else tells whether they queue.
///
/// First it looks at how it is, with nothing changed: what was seen before may be of a queue that was just growing. Then it
/// goes down by steps. If the latency fell as the limit did, the step cost nothing: as many were answered, and only
/// the queue was shorter; so it takes another one. Where the latency does not fall any more, nobody queues, and that is
/// the baseline. No step is taken that the one before did not show to be free, so throughput is cut by no more than the
/// last one cuts it: by a third, for a hundred answers.
///
/// That the latency is the one that is known is no reason to stop: under a baseline that was learnt from a queue the
/// first step finds just that.
#[derive(Debug, Clone)]
pub(super) struct Probe {
    /// When it began to go down.
    since: Duration,
    /// The limit to return to, and the latency there.
    before: f64,
    crowded: f64,
    /// The latency before this step.
    latency: f64,
    /// The limit of this step.
    limit: f64,
    steps: u32,
}

/// Where nobody queued when it was last looked at: as many as this in flight, and answers that took this long. Above what a
/// probe saw itself it is what Little's law makes of it, or what was tried since.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    pub(super) limit: f64,
    pub(super) latency: f64,
}

/// What a step of a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// They queue, or it is not known: on with the next step.
    Queue,
    /// Nobody queues.
    Ground,
}

impl Probe {
    /// Each step is a mean of this many samples at least.
    pub(super) const SAMPLES: u32 = 100;
    /// And lasts for at least this many times the latency.
    const LENGTH: u32 = 2;
    /// After this many times the latency there is hardly anything left of the step before.
    const SETTLING: u32 = 3;
    /// Probes take at most one part in this many of the time.
    const PAUSE: u32 = 10;
    /// By what the limit is divided.
    const STEP: f64 = 1.5;
    /// From 10,000 down to 6: who is above that begins anew from there.
    const STEPS: u32 = 18;
    /// The latency fell as the limit did: the least power of the limit's ratio.
    const FALL: f64 = 0.5;

    /// Begins at `limit`, where answers took about `latency`.
    pub(super) const fn new(limit: f64, latency: f64) -> Self {
        Self {
            since: Duration::ZERO,
            before: limit,
            crowded: latency,
            latency,
            limit,
            steps: 0,
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

    /// How long it takes until it can be judged what this step does.
    pub(super) fn settling(&self) -> Duration {
        seconds(self.latency).saturating_mul(Self::SETTLING)
    }

    /// How long this step is judged at least.
    pub(super) fn length(&self) -> Duration {
        seconds(self.latency).saturating_mul(Self::LENGTH)
    }

    /// How long it may take. A crowd that fills the limit brings the samples in a third of this time.
    pub(super) fn longest(&self) -> Duration {
        let samples = f64::from(Self::SAMPLES) / self.limit;
        let length = self.length().max(seconds(self.latency * samples));
        length.saturating_mul(3).max(Duration::from_secs(10))
    }

    /// How long to wait after it has ended at `at` before there is another one.
    pub(super) fn pause(&self, at: Duration) -> Duration {
        // The first look takes nothing from anybody, and nor does a step that ends late because nobody comes.
        let step = self.longest().saturating_add(self.settling());
        let most = step.saturating_mul(self.steps);
        let took = at.saturating_sub(self.since).min(most);
        took.saturating_mul(Self::PAUSE)
    }

    /// Whether a queue was found.
    pub(super) const fn found_queue(&self) -> bool {
        self.steps > 1
    }

    /// Judges the latency of this step.
    pub(super) fn look(&self, latency: f64) -> Found {
        if self.steps == 0 {
            return Found::Queue;
        }
        let fell = (self.latency / latency).ln() / Self::STEP.ln();
        if fell >= Self::FALL && self.steps < Self::STEPS && self.limit > Self::STEP {
            Found::Queue
        } else {
            Found::Ground
        }
    }

    /// Goes down by another step, at `at`, from one with this latency.
    pub(super) fn descend(self, at: Duration, latency: f64) -> Self {
        let first = self.steps == 0;
        Self {
            since: if first { at } else { self.since },
            crowded: if first { latency } else { self.crowded },
            latency,
            limit: self.limit / Self::STEP,
            steps: self.steps + 1,
            ..self
        }
    }

    /// The ground, reached with this latency.
    pub(super) fn ground(&self, latency: f64) -> Ground {
        // If even the first step changed nothing, there was no queue before it either.
        let limit = if self.found_queue() {
            self.without_queue(latency)
        } else {
            self.before
        };
        Ground { limit, latency }
    }

    /// The limit to go on from, now that the ground was reached with this latency: above what is answered without a queue there
    /// is the room that a limit may have.
    pub(super) fn after(&self, ground: f64, tolerance: f64) -> f64 {
        if self.found_queue() {
            self.before.min(self.without_queue(ground) * tolerance)
        } else {
            self.before
        }
    }

    /// How many are in flight where as much is answered as before, and nobody queues (Little's law).
    fn without_queue(&self, ground: f64) -> f64 {
        self.before * (ground / self.crowded).min(1.0)
    }
}

/// A latency as a duration.
pub(super) fn seconds(latency: f64) -> Duration {
    Duration::try_from_secs_f64(latency).unwrap_or(Duration::MAX)
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
        let mut probe = Probe::new(limit, 0.1);
        while probe.look(latency(probe.limit())) == Found::Queue {
            let seen = latency(probe.limit());
            probe = probe.descend(Duration::ZERO, seen);
        }
        probe
    }

    #[test]
    fn goes_down_to_one_step_below_what_can_be_served() {
        for limit in [150.0, 400.0, 2000.0] {
            let probe = probed(limit);
            assert_eq!(latency(probe.limit()), 1.0, "{limit}");
            assert!(probe.limit() >= 60.0, "{limit}: {probe:?}");
            assert!(probe.found_queue());
            let after = probe.after(1.0, 1.5);
            assert!((after - 150.0_f64.min(limit)).abs() < 1e-9, "{after}");
        }
    }

    #[test]
    fn nobody_queues_where_as_much_is_answered_without_a_queue() {
        for limit in [150.0, 400.0, 2000.0] {
            let ground = probed(limit).ground(1.0);
            assert!((ground.limit - 100.0).abs() < 1e-9, "{ground:?}");
        }
        // A latency above what it was says that something else has changed.
        assert_eq!(probed(150.0).ground(9.0).limit, 150.0);
    }

    #[test]
    fn a_slow_backend_is_told_from_a_queue_by_one_step() {
        let probe = Probe::new(90.0, 1.0).descend(Duration::ZERO, 1.0);
        assert_eq!(probe.look(1.0), Found::Ground);
        assert_eq!(probe.before(), 90.0);
        assert_eq!(probe.after(1.0, 1.5), 90.0);
        assert!(!probe.found_queue());
    }

    #[test]
    fn ends() {
        let mut probe = Probe::new(1e9, 1.0);
        let mut latency = 1.0;
        for _ in 0..=Probe::STEPS {
            latency /= 2.0;
            if probe.look(latency) == Found::Ground {
                return;
            }
            probe = probe.descend(Duration::ZERO, latency);
        }
        panic!("{probe:?}");
    }
}
