//! How long attempts take, as they do now.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::nanos;
use crate::ratio::Ratio;
use crate::sync::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// A histogram of fixed size that forgets: each second a thirty-second part of what it holds, so that half of what a
/// quantile says is of the last 22 seconds.
///
/// Buckets are an eighth of a power of two wide, from 1 µs to 18 minutes, so a quantile is up to 13 % too high and never
/// too low. It is read in one step: it is worked out once a second, by whoever records first. A minute after the last of
/// them nothing is known.
pub(crate) struct Latency {
    buckets: [AtomicU64; BUCKETS],
    /// The quantile that is asked for, in millionths.
    asked: AtomicU32,
    /// It, in nanoseconds; 0 while too few are known.
    cached: AtomicU64,
    /// How many are needed.
    min_samples: u64,
    /// The second in which the quantile was worked out.
    second: AtomicU64,
    busy: AtomicBool,
    origin: Instant,
}

/// Eighths of powers of two, of which there are 30.
const STEPS: u32 = 8;
const POWERS: u32 = 30;
const BUCKETS: usize = (STEPS * POWERS) as usize;
/// For how many seconds a quantile is known that nobody works out anew: in an outage nothing succeeds, and after a quiet night
/// attempts take as long as they take then.
const KEPT: u64 = 60;
/// The part of what is known that a second takes away.
const FORGOTTEN: u64 = 32;
/// What a sample counts, so that a part of one can be forgotten.
const SAMPLE: u64 = 1 << 10;

impl Latency {
    pub(crate) fn new(quantile: Ratio, min_samples: u64) -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            asked: AtomicU32::new(quantile.millionths()),
            cached: AtomicU64::new(0),
            min_samples: min_samples.max(1),
            second: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            origin: Instant::now(),
        }
    }

    /// The median of attempts.
    pub(crate) fn of_attempts() -> Self {
        // Fewer samples than this tell little of how long an attempt takes.
        const MIN_SAMPLES: u64 = 20;
        Self::new(Ratio::HALF, MIN_SAMPLES)
    }

    /// The quantile, once there are enough samples, if somebody has recorded one within the last minute.
    pub(crate) fn quantile(&self, now: Instant) -> Option<Duration> {
        let age = self
            .since(now)
            .saturating_sub(self.second.load(Ordering::Relaxed));
        self.latest().filter(|_| age <= KEPT)
    }

    /// The quantile as it was worked out last, however long ago.
    #[inline]
    pub(crate) fn latest(&self) -> Option<Duration> {
        match self.cached.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Which quantile it is.
    pub(crate) fn asked(&self) -> Ratio {
        Ratio::of_millionths(self.asked.load(Ordering::Relaxed))
    }

    /// Which one it is when it is worked out next.
    pub(crate) fn ask(&self, quantile: Ratio) {
        self.asked.store(quantile.millionths(), Ordering::Relaxed);
    }

    pub(crate) fn record(&self, took: Duration, now: Instant) {
        self.record_for(1, took, now);
    }

    /// An attempt that was sent then has succeeded, and how long that took is worth to know.
    #[inline(never)]
    pub(crate) fn answered(&self, started: Instant) {
        // Once it is known, an eighth of them says it as well, and a look at the clock is dear. Each of them counts for eight:
        // else what is known would be forgotten faster than learned.
        let samples = match self.latest() {
            None => 1,
            Some(_) => 8,
        };
        if samples == 1 || fastrand::u8(..).is_multiple_of(8) {
            let now = Instant::now();
            let took = now.saturating_duration_since(started);
            self.record_for(samples, took, now);
        }
    }

    /// Records one of so many, which stands for all of them.
    fn record_for(&self, samples: u32, took: Duration, now: Instant) {
        let second = self.since(now);
        if second > self.second.load(Ordering::Relaxed) {
            self.refresh(second);
        }
        if let Some(bucket) = self.buckets.get(bucket(took)) {
            bucket.fetch_add(SAMPLE * u64::from(samples), Ordering::Relaxed);
        }
    }

    /// In seconds.
    fn since(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_secs()
    }

    #[cold]
    fn refresh(&self, second: u64) {
        // One is enough; others go on with the numbers of the second before.
        if self.busy.swap(true, Ordering::Acquire) {
            return;
        }
        let passed = second.saturating_sub(self.second.load(Ordering::Relaxed));
        if passed > 0 {
            let found: Vec<u64> = (self.buckets.iter())
                .map(|bucket| bucket.load(Ordering::Relaxed))
                .collect();
            // As if it were done each second: silence is forgotten first, this second's part only afterwards.
            let counts: Vec<u64> = (found.iter())
                .map(|count| kept(*count, passed - 1))
                .collect();
            self.cached.store(
                quantile(&counts, self.asked(), self.min_samples).map_or(0, nanos),
                Ordering::Relaxed,
            );
            for (bucket, (found, count)) in self.buckets.iter().zip(found.iter().zip(&counts)) {
                // What came in meanwhile stays.
                bucket.fetch_sub(found - kept(*count, 1), Ordering::Relaxed);
            }
            self.second.store(second, Ordering::Relaxed);
        }
        self.busy.store(false, Ordering::Release);
    }
}

/// What is left of a count after so many seconds.
fn kept(count: u64, seconds: u64) -> u64 {
    // After half an hour there is nothing left of the largest number.
    (0..seconds.min(1800)).fold(count, |count, _| count - count.div_ceil(FORGOTTEN))
}

fn quantile(counts: &[u64], quantile: Ratio, min_samples: u64) -> Option<Duration> {
    let total: u64 = counts.iter().sum();
    if total < min_samples * SAMPLE {
        return None;
    }
    let rank = u128::from(total) * u128::from(quantile.millionths()) / u128::from(Ratio::ONE);
    let rank = u64::try_from(rank).unwrap_or(u64::MAX).max(1);
    let mut seen = 0;
    let place = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    place.map(|place| Duration::from_nanos(upper(place)))
}

/// The place of a duration: the power of two of its microseconds, and the eighth within.
fn bucket(took: Duration) -> usize {
    // In units of an eighth of a microsecond, so that the smallest power has eighths as well.
    let units = (nanos(took) / 125).max(u64::from(STEPS));
    let power = units.ilog2() - 3;
    let eighth = (units >> power) - u64::from(STEPS);
    let place = u64::from(power) * u64::from(STEPS) + eighth;
    usize::try_from(place)
        .unwrap_or(usize::MAX)
        .min(BUCKETS - 1)
}

/// The end of a bucket in nanoseconds.
fn upper(place: usize) -> u64 {
    let (power, eighth) = (
        place as u64 / u64::from(STEPS),
        place as u64 % u64::from(STEPS),
    );
    ((u64::from(STEPS) + eighth + 1) << power) * 125
}

impl std::fmt::Debug for Latency {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Latency")
            .field("quantile", &self.latest())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn latency(quantile: f64, min_samples: u64) -> Latency {
        Latency::new(Ratio::new(quantile, 1.0).unwrap(), min_samples)
    }

    #[tokio::test(start_paused = true)]
    async fn is_known_after_enough_samples() {
        let latency = latency(0.99, 100);
        let start = Instant::now();
        for n in 1..=99 {
            latency.record(Duration::from_millis(n), start);
        }
        latency.record(Duration::from_millis(100), start);
        assert_eq!(latency.quantile(start), None);
        let second = start + Duration::from_secs(1);
        latency.record(Duration::from_millis(100), second);
        let p99 = latency.quantile(second).unwrap();
        let (low, high) = (Duration::from_millis(98), Duration::from_millis(113));
        assert!(p99 >= low && p99 <= high, "{p99:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn follows_what_changes_and_forgets() {
        let latency = latency(0.5, 10);
        let start = Instant::now();
        let mut now = start;
        let mut feed = |millis: u64, seconds: u64| {
            for _ in 0..seconds {
                for _ in 0..50 {
                    latency.record(Duration::from_millis(millis), now);
                }
                now += Duration::from_secs(1);
            }
            latency.quantile(now)
        };
        assert!(feed(10, 60).unwrap() < Duration::from_millis(12));
        assert!(feed(100, 40).unwrap() > Duration::from_millis(99));
        // An hour of silence, and what was known is gone.
        let later = start + Duration::from_secs(3600);
        latency.record(Duration::from_millis(1), later);
        assert_eq!(latency.quantile(later), None);
        let second = later + Duration::from_secs(1);
        latency.record(Duration::from_millis(1), second);
        assert_eq!(latency.quantile(second), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_has_recorded_for_a_minute_is_not_known() {
        // Story: only attempts that succeed are recorded. After an outage of hours what they took before it was as good as new.
        let latency = latency(0.5, 10);
        let start = Instant::now();
        for _ in 0..1000 {
            latency.record(Duration::from_millis(10), start);
        }
        let then = |seconds| start + Duration::from_secs(seconds);
        latency.record(Duration::from_millis(10), then(1));
        assert!(latency.quantile(then(61)).is_some());
        assert_eq!(latency.quantile(then(62)), None);
        // And again: a part of what was there is left, and what comes counts whole.
        for _ in 0..1000 {
            latency.record(Duration::from_millis(100), then(61));
        }
        latency.record(Duration::from_millis(100), then(62));
        assert!(latency.quantile(then(62)).unwrap() > Duration::from_millis(99));
    }

    proptest! {
        #[test]
        fn a_bucket_holds_what_falls_into_it(micros in 1..1_000_000_000u64) {
            let took = Duration::from_micros(micros);
            let place = bucket(took);
            let end = Duration::from_nanos(upper(place));
            prop_assert!(took <= end, "{took:?} {end:?}");
            prop_assert!(end <= took.mul_f64(1.1251) + Duration::from_nanos(1), "{took:?} {end:?}");
        }

        #[test]
        fn no_duration_is_out_of_range(nanos: u64) {
            prop_assert!(bucket(Duration::from_nanos(nanos)) < BUCKETS);
        }
    }
}
