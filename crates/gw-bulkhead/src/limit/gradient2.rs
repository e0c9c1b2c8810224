use std::time::Duration;

use gw_core::ConfigError;

use super::baseline::Baseline;
use super::episode::{Episode, Verdict};
use super::probe::{Found, Ground, Probe, seconds};
use super::{Algorithm, Next, Report, Window};

/// Follows the latency: the limit goes down as answers take longer than they do where nobody queues, and up while they
/// do not.
///
/// The limit is multiplied by the gradient, `tolerance × baseline / latency` between a half and 1, and smoothed. It grows,
/// by its square root or by 4 if that is more, only where the gradient is 1 and at least half of the limit is used; until
/// the first time that it is not, by its whole. A request that was dropped counts as a gradient of a half.
///
/// What is promised of the baseline, the latency where nobody queues:
///
/// - It rises only while less than half of the limit is used, and then by no more than a doubling in
///   [`Gradient2::doubling`]. Under overload, however long, it does not drift, nor does it where others share the backend.
///   A degradation is not taken for normal faster than that, and not at all while the lane is full.
/// - A baseline that was learnt from a queue is put right by probes: the first one begins a second or so after the lane is
///   full, the others every [`Gradient2::probe_every`].
/// - A latency that does not depend on the number of requests halves the limit at most. It does not collapse: less would only be
///   less. What was so given up is taken back, by a doubling in [`Gradient2::doubling`] at most and to where it began, while
///   answers take no longer than a probe saw them take where nobody queues. Drops may bring the limit down to its least.
#[derive(Debug, Clone)]
pub struct Gradient2 {
    tolerance: f64,
    smoothing: f64,
    doubling: Duration,
    probe_every: Duration,
    /// The limit with its fraction.
    exact: f64,
    /// Until answers took too long for the first time.
    first_rise: bool,
    baseline: Option<Baseline>,
    /// A moving mean of the latency in seconds.
    recent: Option<f64>,
    gradient: f64,
    episode: Option<Episode>,
    probe: Option<Probe>,
    /// Below it the limit does not go for a latency that is no worse than it was there.
    ground: Option<Ground>,
    next_probe: Duration,
    interval: Duration,
    /// When the last window with too long answers ended.
    recovered: Duration,
}

impl Default for Gradient2 {
    fn default() -> Self {
        Self {
            tolerance: 1.5,
            smoothing: 0.2,
            doubling: Duration::from_secs(5 * 60),
            probe_every: Duration::from_secs(30),
            exact: 0.0,
            first_rise: true,
            baseline: None,
            recent: None,
            gradient: 1.0,
            episode: None,
            probe: None,
            ground: None,
            next_probe: Duration::ZERO,
            interval: Self::FIRST_PROBE,
            recovered: Duration::ZERO,
        }
    }
}

impl Gradient2 {
    /// The interval of probes begins with this, and doubles up to the one that is set.
    const FIRST_PROBE: Duration = Duration::from_secs(1);
    /// The least by which the limit grows, before smoothing.
    const GROWTH: f64 = 4.0;
    /// How many samples the moving mean of the latency reaches back.
    const RECENT: f64 = 100.0;
    /// So many times the latency where nobody queues is no longer than that.
    const NO_LONGER: f64 = 1.1;
    /// What passed without a look at the latency counts as no more time than this.
    const LONGEST: Duration = Duration::from_secs(10);

    /// How many times its baseline an answer may take before the limit goes down: from 1.1 to 10, 1.5 by default.
    #[must_use]
    pub const fn tolerance(mut self, times: f64) -> Self {
        self.tolerance = times;
        self
    }

    /// How much of each change is made, above 0 and up to 1; 0.2 by default.
    #[must_use]
    pub const fn smoothing(mut self, share: f64) -> Self {
        self.smoothing = share;
        self
    }

    /// The time in which the baseline may double, from 1 second; 5 minutes by default.
    #[must_use]
    pub const fn doubling(mut self, time: Duration) -> Self {
        self.doubling = time;
        self
    }

    /// How long a full lane runs without a probe, from 1 second to 1 day; 30 seconds by default. Each interval is
    /// jittered by half of itself.
    #[must_use]
    pub const fn probe_every(mut self, interval: Duration) -> Self {
        self.probe_every = interval;
        self
    }

    fn steer(&mut self, window: &Window) -> Next {
        let drops = window.drops();
        let latency = window.latency.map(|latency| latency.as_secs_f64());
        let gradient = latency.map_or(1.0, |latency| self.learn(latency, window));
        self.gradient = gradient * (1.0 - drops) + 0.5 * drops;
        let reached_floor = if window.is_idle() {
            // The limit does not matter now: what it should be is not seen.
            false
        } else {
            self.follow(gradient, drops, latency, window)
        };
        if let Some(latency) = self.recent
            && drops == 0.0
            && window.is_limited()
            && window.at >= self.next_probe
            // While it still rises by much there is no crowd yet.
            && (!self.first_rise || window.limit == window.max)
        {
            return self.step(Probe::new(self.exact, latency), window);
        }
        let next = Next::limit(window.within(self.exact));
        match self.recent {
            Some(latency) if reached_floor => next.settling(3 * seconds(latency)),
            _ => next,
        }
    }

    fn step(&mut self, probe: Probe, window: &Window) -> Next {
        let next = Next::limit(window.within(probe.limit()))
            .after(Probe::SAMPLES)
            .settling(probe.settling())
            .lasting(probe.length());
        self.probe = Some(probe);
        next
    }

    /// Takes in a latency; the gradient by it.
    fn learn(&mut self, latency: f64, window: &Window) -> f64 {
        let weight = f64::from(window.answered) / (f64::from(window.answered) + Self::RECENT);
        let recent = self.recent.get_or_insert(latency);
        *recent += weight * (latency - *recent);
        let doubling = self.doubling;
        let baseline = self
            .baseline
            .get_or_insert_with(|| Baseline::new(latency, window.at, doubling));
        baseline.pass(window.at, latency, window.answered, window.is_idle());
        (self.tolerance * baseline.seconds() / latency).clamp(0.5, 1.0)
    }

    /// Moves the limit; whether it has come down to where it is to be seen what that did.
    fn follow(&mut self, gradient: f64, drops: f64, latency: Option<f64>, window: &Window) -> bool {
        let reached_floor = match latency {
            Some(latency) if gradient < 1.0 => self.shrink(gradient, latency, window),
            Some(_) => {
                self.grow(drops, window);
                false
            }
            None => false,
        };
        if drops > 0.0 {
            self.first_rise = false;
            self.exact *= 1.0 - self.smoothing * 0.5 * drops;
        }
        self.bound(window);
        reached_floor
    }

    fn shrink(&mut self, gradient: f64, latency: f64, window: &Window) -> bool {
        self.first_rise = false;
        self.recover(window);
        let free = self
            .ground
            .filter(|ground| latency <= self.tolerance * ground.latency)
            .map_or(0.0, |ground| ground.limit);
        if self.exact <= free {
            return false;
        }
        let episode = self.episode.get_or_insert_with(|| Episode::new(self.exact));
        match episode.too_long(self.exact, latency, window.answered) {
            Verdict::Shrink => {
                let floor = episode.floor();
                let shrunk = self.exact * (1.0 - self.smoothing * (1.0 - gradient));
                let reached_floor = shrunk <= floor && self.exact > floor;
                self.exact = shrunk.max(floor).max(free);
                reached_floor
            }
            Verdict::Futile => {
                // What it was seen by may have been things that changed: a probe looks again.
                self.next_probe = window.at;
                false
            }
            Verdict::Measure | Verdict::Hold => false,
        }
    }

    /// Takes back, slowly, what was given up for nothing: no more than there was when answers began to take too long, and while
    /// they take no longer than they do where a probe saw that nobody queues. Who shares a backend sees the others' queue there,
    /// so it is for what was had before that this asks, and not for more.
    fn recover(&mut self, window: &Window) {
        let since = std::mem::replace(&mut self.recovered, window.at);
        if let (Some(episode), Some(ground), Some(recent)) =
            (&self.episode, &mut self.ground, self.recent)
            && window.drops() == 0.0
            && self.exact <= ground.limit
            && self.exact < episode.top()
            && recent <= Self::NO_LONGER * ground.latency
        {
            let passed = window.at.saturating_sub(since).min(Self::LONGEST);
            let factor = (passed.as_secs_f64() / self.doubling.as_secs_f64()).exp2();
            self.exact = (self.exact * factor).min(episode.top());
            ground.limit = ground.limit.max(self.exact);
        }
    }

    fn grow(&mut self, drops: f64, window: &Window) {
        let over = |episode: &mut Episode| episode.good(window.answered);
        if self.episode.as_mut().is_some_and(over) {
            self.episode = None;
        }
        if drops == 0.0 {
            let growth = if self.first_rise {
                self.exact
            } else {
                self.exact.sqrt().max(Self::GROWTH)
            };
            self.exact += self.smoothing * growth;
        }
    }

    /// Goes on with a probe.
    fn probed(&mut self, probe: Probe, window: &Window) -> Next {
        let latency = window.latency.map(|latency| latency.as_secs_f64());
        if let (Some(latency), Some(baseline)) = (latency, &mut self.baseline)
            && window.drops() == 0.0
            && window.is_limited()
            && window.elapsed <= probe.longest()
        {
            if probe.look(latency) == Found::Queue {
                return self.step(probe.descend(window.at, latency), window);
            }
            baseline.probed(window.at, latency);
            self.ground = Some(probe.ground(latency));
            self.exact = probe.after(latency, self.tolerance);
            if probe.found_queue() {
                self.episode = None;
            }
        } else {
            self.exact = probe.before();
        }
        let wait = self.interval.max(probe.pause(window.at));
        let wait = wait.mul_f64(0.5 + window.jitter);
        self.next_probe = window.at.saturating_add(wait);
        self.interval = self.interval.saturating_mul(2).min(self.probe_every);
        self.bound(window);
        Next::limit(window.within(self.exact))
    }

    fn bound(&mut self, window: &Window) {
        let (min, max) = (f64::from(window.min), f64::from(window.max));
        self.exact = self.exact.min(max).max(min);
    }
}

impl Algorithm for Gradient2 {
    fn name(&self) -> &'static str {
        "gradient2"
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |field, rule| Err(ConfigError::new(field, rule));
        if !(1.1..=10.0).contains(&self.tolerance) {
            return wrong("limit.tolerance", "must be a number from 1.1 to 10");
        }
        if !(self.smoothing > 0.0 && self.smoothing <= 1.0) {
            return wrong("limit.smoothing", "must be a number above 0 and at most 1");
        }
        if self.doubling < Duration::from_secs(1) {
            return wrong("limit.doubling", "must be at least 1 second");
        }
        let day = Duration::from_secs(24 * 60 * 60);
        if !(Duration::from_secs(1)..=day).contains(&self.probe_every) {
            return wrong("limit.probe_every", "must be from 1 second to 1 day");
        }
        Ok(())
    }

    fn update(&mut self, window: &Window) -> Next {
        if let Some(probe) = self.probe.take() {
            if window.limit == window.within(probe.limit()) {
                return self.probed(probe, window);
            }
            // The bounds were changed under it.
            self.exact = probe.before();
            self.bound(window);
        } else if window.within(self.exact) != window.limit {
            // The first window, or the bounds were changed.
            if self.baseline.is_none() {
                self.next_probe = window
                    .at
                    .saturating_add(self.interval.mul_f64(0.5 + window.jitter));
            }
            self.exact = f64::from(window.limit);
        }
        self.steer(window)
    }

    fn report(&self) -> Report {
        let duration = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let held = self.episode.as_ref().is_some_and(Episode::is_futile);
        Report {
            latency: self.recent.map(duration),
            baseline: self
                .baseline
                .as_ref()
                .map(|baseline| duration(baseline.seconds())),
            // Between 50 and 100.
            gradient_percent: Some((self.gradient * 100.0).round() as u32),
            state: match () {
                () if self.probe.is_some() => "probing",
                () if held => "held",
                () if self.episode.is_some() => "shrinking",
                () if self.first_rise => "first_rise",
                () => "steady",
            },
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const START: u64 = 3600;

    /// A lane that is full whatever its limit is, an hour after it was made.
    struct Full {
        algorithm: Gradient2,
        limit: u32,
        now: u64,
    }

    impl Full {
        fn new() -> Self {
            Self {
                algorithm: Gradient2::default(),
                limit: 10,
                now: START,
            }
        }

        /// The next window, which `change` may make another one.
        fn window(&mut self, seconds: u64, change: impl FnOnce(&mut Window)) -> &'static str {
            let elapsed = Duration::from_secs(seconds);
            self.now += seconds;
            let mut window = Window::full(self.limit, Duration::from_millis(5));
            window.max = 10;
            window.elapsed = elapsed;
            window.at = Duration::from_secs(self.now);
            change(&mut window);
            self.limit = self.algorithm.update(&window).limit;
            self.algorithm.report().state
        }

        /// Whether a probe begins within `seconds`.
        fn probes_within(&mut self, seconds: u64) -> bool {
            (0..seconds).any(|_| self.window(1, |_| {}) == "probing")
        }
    }

    #[test]
    fn a_probe_whose_first_look_sees_nothing_is_soon_made_again() {
        // Story: how long it had taken was counted from when the lanes were made, and ten times as long there was none.
        let mut lane = Full::new();
        assert!(lane.probes_within(120));
        assert_ne!(lane.window(1, |window| window.peak = 3), "probing");
        assert!(lane.probes_within(120));
    }

    #[test]
    fn a_night_in_which_nobody_came_is_not_the_time_that_a_probe_took() {
        let mut lane = Full::new();
        assert!(lane.probes_within(120));
        assert_eq!(lane.window(1, |_| {}), "probing");
        assert!(lane.limit < 10);
        assert_ne!(lane.window(8 * 3600, |_| {}), "probing");
        assert!(lane.probes_within(600));
    }
}
