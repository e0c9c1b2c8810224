use std::time::Duration;

/// A mean over samples, taken together from the means of windows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Mean {
    sum: f64,
    samples: f64,
}

impl Mean {
    pub(super) fn add(&mut self, mean: f64, samples: u32) {
        self.sum += mean * f64::from(samples);
        self.samples += f64::from(samples);
    }

    pub(super) const fn samples(&self) -> f64 {
        self.samples
    }

    /// `None` without samples.
    pub(super) fn value(&self) -> Option<f64> {
        (self.samples > 0.0).then(|| self.sum / self.samples)
    }
}

/// How long an answer takes where nobody queues, in seconds.
///
/// It falls as soon as answers are seen to be faster, since queueing never makes them so. It rises only while there are too
/// few requests to queue, and never by more than a doubling in a set time: a degradation is not taken for normal faster
/// than that, and not at all while the lane is full. What a probe finds may raise it by no more than its noise: who
/// shares a backend with others sees their queue, however few requests of its own are left. If probes could raise it,
/// each of those who share would take the queue of the others for normal, and all of them would drift.
///
/// Until it was probed for the first time, or some seconds and many samples have passed, it is the mean of all that was
/// seen. After that samples are taken together until there are many before it moves. If it moved by each window it would fall by their
/// noise, and by the bound on its rise not come back.
#[derive(Debug, Clone)]
pub(super) struct Baseline {
    seconds: f64,
    /// What a probe may raise it to.
    most: f64,
    doubling: Duration,
    moved: Duration,
    block: Block,
    /// Until something is known.
    settling: bool,
}

/// Windows taken together.
#[derive(Debug, Clone)]
struct Block {
    since: Duration,
    mean: Mean,
    /// Whether all of them were idle.
    idle: bool,
}

impl Block {
    const SAMPLES: f64 = 500.0;
    const LENGTH: Duration = Duration::from_secs(5);

    fn new(since: Duration) -> Self {
        Self {
            since,
            mean: Mean::default(),
            idle: true,
        }
    }
}

impl Baseline {
    /// What passed without a look at the latency counts as no more time than this.
    const LONGEST: Duration = Duration::from_secs(120);
    /// How far what is found again and again lies apart.
    const NOISE: f64 = 1.1;

    pub(super) fn new(seconds: f64, at: Duration, doubling: Duration) -> Self {
        Self {
            seconds,
            most: seconds,
            doubling,
            moved: at,
            block: Block::new(at),
            settling: true,
        }
    }

    pub(super) const fn seconds(&self) -> f64 {
        self.seconds
    }

    /// Learns from a window in which requests ran as they came; `idle` says that there were too few to queue.
    pub(super) fn pass(&mut self, at: Duration, latency: f64, samples: u32, idle: bool) {
        self.block.mean.add(latency, samples);
        self.block.idle &= idle;
        if self.settling
            && let Some(mean) = self.block.mean.value()
        {
            self.seconds = mean;
            self.most = mean * Self::NOISE;
            self.moved = at;
        }
        let long = at.saturating_sub(self.block.since) >= Block::LENGTH;
        if !long || self.block.mean.samples() < Block::SAMPLES {
            return;
        }
        let block = std::mem::replace(&mut self.block, Block::new(at));
        if std::mem::take(&mut self.settling) {
            return;
        }
        match block.mean.value() {
            Some(mean) if mean < self.seconds => self.fall(at, mean, 0.5),
            Some(mean) if block.idle => self.rise(at, mean),
            Some(_) | None => {}
        }
    }

    /// Learns from a probe, in which nobody of this lane queued.
    pub(super) fn probed(&mut self, at: Duration, latency: f64) {
        if std::mem::take(&mut self.settling) || latency < 0.7 * self.seconds {
            // So much is no noise.
            self.seconds = latency;
            self.most = latency * Self::NOISE;
        } else {
            self.seconds = (self.seconds + 0.3 * (latency - self.seconds)).min(self.most);
        }
        self.moved = at;
        self.block = Block::new(at);
    }

    fn fall(&mut self, at: Duration, latency: f64, weight: f64) {
        self.seconds += weight * (latency - self.seconds);
        self.moved = at;
    }

    fn rise(&mut self, at: Duration, latency: f64) {
        let passed = at.saturating_sub(self.moved).min(Self::LONGEST);
        let factor = (passed.as_secs_f64() / self.doubling.as_secs_f64()).exp2();
        self.seconds = latency.min(self.seconds * factor);
        self.most = self.most.max(self.seconds * Self::NOISE);
        self.moved = at;
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const DOUBLING: Duration = Duration::from_secs(300);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A second after another, each with 100 samples of this latency.
    fn pass(baseline: &mut Baseline, from: u64, to: u64, latency: f64, idle: bool) -> f64 {
        for at in from..to {
            baseline.pass(seconds(at), latency, 100, idle);
        }
        baseline.seconds()
    }

    /// One that has settled at a tenth of a second.
    fn settled() -> Baseline {
        let mut baseline = Baseline::new(0.1, Duration::ZERO, DOUBLING);
        baseline.probed(Duration::ZERO, 0.1);
        baseline
    }

    #[test]
    fn is_the_mean_of_all_until_it_has_settled() {
        let mut baseline = Baseline::new(0.05, Duration::ZERO, DOUBLING);
        baseline.pass(seconds(1), 0.05, 10, false);
        baseline.pass(seconds(2), 0.1, 90, false);
        assert!((baseline.seconds() - 0.095).abs() < 1e-9);
        // Once a probe has said better, only what may.
        baseline.probed(seconds(3), 0.08);
        assert_eq!(pass(&mut baseline, 4, 100, 1.0, false), 0.08);
    }

    #[test]
    fn rises_no_faster_than_it_may_and_only_where_nobody_queues() {
        assert_eq!(pass(&mut settled(), 1, 1000, 1.0, false), 0.1);
        let mut baseline = settled();
        let doubled = pass(&mut baseline, 1, 301, 1.0, true);
        assert!((0.19..0.201).contains(&doubled), "{doubled}");
        let end = pass(&mut baseline, 301, 1500, 1.0, true);
        assert_eq!(end, 1.0);
    }

    #[test]
    fn falls_at_once_in_any_case() {
        let mut baseline = settled();
        let fallen = pass(&mut baseline, 1, 60, 0.01, false);
        assert!((0.01..0.011).contains(&fallen), "{fallen}");
    }

    #[test]
    fn a_long_silence_does_not_allow_for_a_leap() {
        let mut baseline = settled();
        let day = 24 * 3600;
        // One block, after a day.
        let leapt = pass(&mut baseline, day, day + 10, 10.0, true);
        assert!(leapt < 0.14, "{leapt}");
    }

    #[test]
    fn probes_lower_it_and_raise_it_by_noise_only() {
        let mut baseline = settled();
        for at in 0..1000 {
            baseline.probed(seconds(at), if at % 2 == 0 { 0.12 } else { 0.5 });
        }
        assert!((baseline.seconds() - 0.11).abs() < 1e-9);
        baseline.probed(seconds(1000), 0.05);
        assert_eq!(baseline.seconds(), 0.05);
        baseline.probed(seconds(1001), 0.5);
        assert!((baseline.seconds() - 0.055).abs() < 1e-9);
    }
}
