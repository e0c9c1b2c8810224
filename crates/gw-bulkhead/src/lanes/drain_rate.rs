use std::time::Duration;

use tokio::time::Instant;

/// How fast a lane gives places back, measured while it refuses: only then does it drain as fast as it can.
///
/// An exponentially weighted mean over some seconds. It is sampled by refusals, so that requests that pass pay
/// nothing for it.
#[derive(Debug, Default)]
pub(super) struct DrainRate {
    sample: Option<Sample>,
    per_second: Option<f64>,
}

/// The sample that is open, until a place comes back: where that takes long, samples of one length would say never, and now
/// and then ten a second.
#[derive(Debug, Clone, Copy)]
struct Sample {
    since: Instant,
    /// How many requests the lane had completed then.
    before: u64,
    /// The last refusal.
    seen: Instant,
    /// For how long nothing had come back then, if that is long enough to say something.
    silent: Duration,
}

/// What an observation meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observed {
    /// The first refusal after a while without any.
    Onset,
    /// One of many.
    Ongoing,
}

impl DrainRate {
    /// Samples are at least this far apart.
    const SAMPLE: Duration = Duration::from_millis(100);
    /// For so long nothing may come back before it counts as a rate: until then it says that requests take longer than
    /// this, and not how much longer.
    const FIRST: Duration = Duration::from_secs(1);
    /// After so long without a refusal nothing known is worth keeping.
    const STALE: Duration = Duration::from_secs(10);
    /// How far back the mean reaches.
    const MEMORY: Duration = Duration::from_secs(2);
    /// The longest wait that is foretold: with the jitter of a fifth on top, clients come back within 30 seconds.
    pub(super) const LONGEST: Duration = Duration::from_secs(25);

    /// Notes that a request was refused at `now`, when the lane had completed so many requests since it was made.
    pub(super) fn observe(&mut self, now: Instant, completed: u64) -> Observed {
        let Some(mut sample) = self.sample else {
            return self.restart(now, completed);
        };
        if now.saturating_duration_since(sample.seen) > Self::STALE {
            return self.restart(now, completed);
        }
        let elapsed = now.saturating_duration_since(sample.since);
        let done = completed.saturating_sub(sample.before);
        sample.seen = now;
        sample.silent = Duration::ZERO;
        match (done, elapsed >= Self::SAMPLE) {
            (0, true) => sample.silent = elapsed,
            (_, true) => {
                self.close(done as f64, elapsed.as_secs_f64());
                (sample.since, sample.before) = (now, completed);
            }
            (_, false) => {}
        }
        self.sample = Some(sample);
        Observed::Ongoing
    }

    fn close(&mut self, done: f64, elapsed: f64) {
        let sample = done / elapsed;
        let rate = self.per_second.unwrap_or(sample);
        let weight = 1.0 - (-elapsed / Self::MEMORY.as_secs_f64()).exp();
        self.per_second = Some(rate + weight * (sample - rate));
    }

    /// How long it takes until the next place is given back, and each one after it, as of the last refusal; `None` while that
    /// is not known.
    pub(super) fn per_place(&self) -> Option<(Duration, Duration)> {
        let silent = self.sample?.silent;
        match self.per_second {
            Some(rate) => {
                let longest = Self::LONGEST.as_secs_f64();
                let each = Duration::from_secs_f64((1.0 / rate).min(longest));
                // A lane that has been silent for longer than that may have stopped. Or its places come back together: how
                // long it takes until the next one says nothing of those after it.
                Some((each.max(silent).min(Self::LONGEST), each))
            }
            None => (silent >= Self::FIRST).then_some((Self::LONGEST, Self::LONGEST)),
        }
    }

    fn restart(&mut self, now: Instant, completed: u64) -> Observed {
        self.sample = Some(Sample {
            since: now,
            before: completed,
            seen: now,
            silent: Duration::ZERO,
        });
        self.per_second = None;
        Observed::Onset
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const NEVER: (Duration, Duration) = (DrainRate::LONGEST, DrainRate::LONGEST);

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn converges_to_the_rate_at_which_places_come_back() {
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        assert_eq!(rate.observe(start, 1000), Observed::Onset);
        assert_eq!(rate.per_place(), None);
        for step in 1..=100 {
            // 20 a second.
            assert_eq!(
                rate.observe(start + millis(100) * step, 1000 + 2 * u64::from(step)),
                Observed::Ongoing
            );
        }
        let (_, wait) = rate.per_place().unwrap();
        assert!((millis(49)..=millis(51)).contains(&wait), "{wait:?}");
    }

    #[test]
    fn a_lane_that_does_not_drain_has_the_longest_wait() {
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        for step in 0..=10 {
            rate.observe(start + millis(100) * step, 7);
        }
        assert_eq!(rate.per_place(), Some(NEVER));
    }

    #[test]
    fn a_burst_of_requests_that_take_their_time_is_no_lane_that_does_not_drain() {
        // Story: ten requests of a second each came at once. Who was refused in that second was sent away for half a
        // minute, because in the first tenth of it none of the ten was done.
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        for step in 0..=9 {
            rate.observe(start + millis(100) * step, 7);
            assert_eq!(rate.per_place(), None);
        }
        rate.observe(start + millis(1000), 17);
        assert_eq!(rate.per_place(), Some((millis(100), millis(100))));
    }

    #[test]
    fn a_lane_that_stops_draining_is_told_apart_at_once() {
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        rate.observe(start, 0);
        rate.observe(start + millis(100), 10);
        let before = rate.per_place();
        rate.observe(start + millis(200), 10);
        assert!(rate.per_place() > before);
    }

    #[test]
    fn what_is_told_is_how_often_places_come_back_however_seldom() {
        // Story: a place that came back was ten a second for a tenth of a second, and none from then on. Where one came
        // every ten seconds, clients were told anything from 2 to 25 seconds.
        for every in [200, 1000, 3000, 10_000] {
            let (start, mut rate) = (Instant::now(), DrainRate::default());
            let mut rng = fastrand::Rng::with_seed(every);
            let mut now = 0;
            while now < 20 * every {
                rate.observe(start + millis(now), now / every);
                if now >= 2 * every {
                    let (told, _) = rate.per_place().unwrap();
                    let band = millis(every * 8 / 10)..=millis(every * 12 / 10 + 50);
                    assert!(band.contains(&told), "every {every} ms, {now}: {told:?}");
                }
                now += rng.u64(5..50);
            }
            // From here on nothing comes back any more.
            for later in 0..100 {
                rate.observe(start + millis(now + 300 * later), 20);
            }
            let (told, _) = rate.per_place().unwrap();
            assert_eq!(told, DrainRate::LONGEST);
        }
    }

    #[test]
    fn places_that_come_back_together_are_as_many_as_they_are() {
        // Story: ten requests of a second each came and went together. Who was refused just before the next ten were done was
        // told the silence once for each one who waited: twenty seconds instead of two.
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        for now in (0..=5_950).step_by(50) {
            rate.observe(start + millis(now), now / 1000 * 10);
        }
        let (next, each) = rate.per_place().unwrap();
        assert_eq!(next, millis(950));
        assert!((millis(80)..=millis(120)).contains(&each), "{each:?}");
    }

    #[test]
    fn an_old_rate_is_forgotten() {
        // Story: ten requests in a quiet hour are not a lane that drains once in six minutes. A mean that reached back
        // over the pause sent the first refused clients away for the longest time there is.
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        rate.observe(start, 0);
        assert_eq!(
            rate.observe(start + Duration::from_secs(3600), 10),
            Observed::Onset
        );
        assert_eq!(rate.per_place(), None);
    }

    #[test]
    fn refusals_in_quick_succession_are_one_sample() {
        let (start, mut rate) = (Instant::now(), DrainRate::default());
        rate.observe(start, 0);
        for n in 1..100 {
            rate.observe(start + Duration::from_micros(n), n);
        }
        assert_eq!(rate.per_place(), None);
    }
}
