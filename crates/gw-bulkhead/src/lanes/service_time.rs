use std::time::Duration;

use tokio::time::Instant;

/// How long requests of a lane take, from getting a place to giving it back: what almost all of them stay below.
///
/// Counts in buckets that are a fifth wide, over the window before this one and this one. Rounded up, so that who relies
/// on it errs on the side of not starting what might be late.
#[derive(Debug)]
pub(super) struct ServiceTime {
    now: Window,
    before: Window,
    began: Option<Instant>,
    /// What was found last; found again after every so many samples.
    needed: Option<Duration>,
    since_found: u32,
}

#[derive(Debug, Clone)]
struct Window {
    counts: [u32; BUCKETS],
    samples: u32,
}

/// Four in each doubling, from 64 µs to more than an hour; above and below, the last and the first one.
const BUCKETS: usize = 104;
const FIRST: f64 = 64e-6;
const PER_DOUBLING: f64 = 4.0;

impl ServiceTime {
    /// One in so many requests may take longer. A lane's started work is late in fewer than one in a hundred cases, and
    /// waiting is not the only reason.
    const EXCEPTION: u32 = 200;
    /// Fewer samples say nothing.
    const FEWEST: u32 = 10;
    /// A window has at least so many samples and lasts so long, or ends without them after ten times as long.
    const WINDOW_SAMPLES: u32 = 1000;
    const WINDOW: Duration = Duration::from_secs(1);
    const LONGEST_WINDOW: Duration = Duration::from_secs(10);
    /// What was before says nothing about now once nothing was seen for so long.
    pub(super) const GOOD_FOR: Duration = Duration::from_secs(20);
    /// How many samples go by between two looks.
    const LOOK: u32 = 16;

    pub(super) const fn new() -> Self {
        Self {
            now: Window::new(),
            before: Window::new(),
            began: None,
            needed: None,
            since_found: 0,
        }
    }

    /// A request took so long; what almost all requests stay below, once enough have been seen.
    pub(super) fn record(&mut self, now: Instant, took: Duration) -> Option<Duration> {
        let began = *self.began.get_or_insert(now);
        let age = now.saturating_duration_since(began);
        let full = age >= Self::WINDOW && self.now.samples >= Self::WINDOW_SAMPLES;
        if full || age >= Self::LONGEST_WINDOW {
            self.before = std::mem::replace(&mut self.now, Window::new());
            if age >= Self::GOOD_FOR {
                // Nothing has been seen for as long as a window lasts: what was before tells nothing about now.
                self.before = Window::new();
            }
            self.began = Some(now);
            self.since_found = Self::LOOK;
        }
        self.now.add(took);
        self.since_found += 1;
        if self.since_found >= Self::LOOK || self.now.samples <= Self::FEWEST {
            self.needed = self.find();
            self.since_found = 0;
        }
        self.needed
    }

    fn find(&self) -> Option<Duration> {
        let samples = self.now.samples + self.before.samples;
        if samples < Self::FEWEST {
            return None;
        }
        let mut above = samples / Self::EXCEPTION;
        let counts = self.now.counts.iter().zip(&self.before.counts);
        for (bucket, (now, before)) in counts.enumerate().rev() {
            let here = now + before;
            if here > above {
                return Some(upper_end(bucket));
            }
            above -= here;
        }
        None
    }
}

impl Window {
    const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            samples: 0,
        }
    }

    fn add(&mut self, took: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(took)) {
            *count = count.saturating_add(1);
            self.samples = self.samples.saturating_add(1);
        }
    }
}

fn bucket(took: Duration) -> usize {
    let doublings = (took.as_secs_f64() / FIRST).log2();
    // A cast of what is below zero, or infinite, saturates.
    ((doublings * PER_DOUBLING).ceil() as usize).min(BUCKETS - 1)
}

/// What nothing in the bucket is above. The last one has no end: it says that nothing should wait.
fn upper_end(bucket: usize) -> Duration {
    Duration::from_secs_f64(FIRST * (bucket as f64 / PER_DOUBLING).exp2())
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn after(times: &[Duration]) -> Option<Duration> {
        let (start, mut seen) = (Instant::now(), ServiceTime::new());
        let mut needed = None;
        for time in times {
            needed = seen.record(start, *time);
        }
        needed
    }

    #[test]
    fn a_few_samples_say_nothing() {
        assert_eq!(after(&[millis(10); 9]), None);
        assert!(after(&[millis(10); 10]).is_some());
    }

    #[test]
    fn what_is_rare_does_not_count() {
        let mut times = vec![millis(10); 1000];
        times.extend([millis(900); 3]);
        times.extend([millis(10); 20]);
        assert!(after(&times).unwrap() < millis(12));
        times.extend([millis(900); 16]);
        assert!(after(&times).unwrap() >= millis(900));
    }

    #[test]
    fn old_times_are_forgotten() {
        let (start, mut seen) = (Instant::now(), ServiceTime::new());
        for n in 0..1000 {
            seen.record(start + millis(n), millis(900));
        }
        // Two windows on.
        let mut needed = None;
        for n in 0..2500 {
            needed = seen.record(start + millis(1000 + n), millis(10));
        }
        assert!(needed.unwrap() < millis(12), "{needed:?}");
        // And after a pause at once.
        for n in 0..9 {
            needed = seen.record(start + Duration::from_secs(100) + millis(n), millis(1));
        }
        assert_eq!(needed, None);
    }

    #[test]
    fn the_ends_of_the_scale_hold() {
        assert_eq!(
            after(&[Duration::ZERO; 10]),
            Some(Duration::from_secs_f64(FIRST))
        );
        assert!(after(&[Duration::MAX; 10]).unwrap() > Duration::from_secs(3600));
    }

    proptest! {
        #[test]
        fn is_the_quantile_rounded_up_by_less_than_a_fifth(times in prop::collection::vec(100..5_000_000u64, 16..600)) {
            // As many as are looked at.
            let times: Vec<_> = times[..times.len() / 16 * 16].iter().map(|n| Duration::from_micros(*n)).collect();
            let (start, mut seen) = (Instant::now(), ServiceTime::new());
            times.iter().for_each(|time| _ = seen.record(start, *time));
            let mut sorted = times.clone();
            sorted.sort();
            let exact = sorted[times.len() - 1 - times.len() / 200].as_secs_f64();
            let found = seen.find().unwrap().as_secs_f64();
            prop_assert!((exact * 0.999..exact * 1.19).contains(&found), "{exact} {found}");
        }
    }
}
