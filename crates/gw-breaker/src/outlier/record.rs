use super::judge::Sample;
use super::log2;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What the path of requests reads and writes of one endpoint. Alone on its cache lines: two, since processors fetch them
/// in pairs.
///
/// Counters only ever grow, and wrap. An interval is the difference of two readings, so nothing is ever reset, and no
/// report can fall between an old interval and a new one. Relaxed everywhere: each number stands for itself.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Record {
    /// Until when the endpoint is out, in the set's nanoseconds.
    out_until: AtomicU64,
    /// How many succeeded, in the high 26 bits, and the sum of the logarithms of their latencies: one addition each. The
    /// difference of two readings is right unless more than 67 million succeed in between.
    successes: AtomicU64,
    /// The same of those that were given up when the endpoint had been waited for longer than is usual.
    given_up: AtomicU64,
    failures: AtomicU64,
    throttled: AtomicU64,
    /// Failures in a row.
    streak: AtomicU32,
}

/// A reading of the counters.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reading {
    successes: u64,
    given_up: u64,
    failures: u64,
    throttled: u64,
}

/// Out until someone says otherwise, and even if too few are left.
pub(super) const FORCED: u64 = u64::MAX;
/// Out until someone says otherwise.
pub(super) const UNHEALTHY: u64 = u64::MAX - 1;
/// The last moment that there is.
pub(super) const LAST: u64 = u64::MAX - 2;

const SUM_BITS: u32 = 38;
const SUM: u64 = (1 << SUM_BITS) - 1;
// As many as can be counted, each as slow as can be, do not overflow into the count.
const _: () = assert!(((1 << (64 - SUM_BITS)) - 1) * log2::MAX_LOG <= SUM);

impl Record {
    pub(super) fn new() -> Self {
        Self {
            out_until: AtomicU64::new(0),
            successes: AtomicU64::new(0),
            given_up: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            streak: AtomicU32::new(0),
        }
    }

    /// Whether the endpoint may be picked at `now`, if all may be that are not forced out until `panic_until`.
    pub(super) fn is_usable(&self, now: u64, panic_until: impl FnOnce() -> u64) -> bool {
        let until = self.out_until.load(Ordering::Relaxed);
        until <= now || (until != FORCED && now < panic_until())
    }

    /// Whether the endpoint was out at `then`. What was sent before it came back says nothing about how it is since.
    pub(super) fn was_out(&self, then: u64) -> bool {
        then < self.out_until.load(Ordering::Relaxed)
    }

    pub(super) fn succeeded(&self, latency: u64) {
        self.successes.fetch_add(timed(latency), Ordering::Relaxed);
        // Mostly it is 0 already, and a line that is only read stays with all who read it.
        if self.streak.load(Ordering::Relaxed) != 0 {
            self.streak.store(0, Ordering::Relaxed);
        }
    }

    /// Neither a success nor a failure: only its latency says something.
    pub(super) fn given_up(&self, latency: u64) {
        self.given_up.fetch_add(timed(latency), Ordering::Relaxed);
    }

    /// Returns how many failed in a row with this one.
    pub(super) fn failed(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.streak.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    pub(super) fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_out_until(&self, until: u64) {
        self.out_until.store(until, Ordering::Relaxed);
    }

    pub(super) fn streak(&self) -> u32 {
        self.streak.load(Ordering::Relaxed)
    }

    pub(super) fn set_streak(&self, streak: u32) {
        self.streak.store(streak, Ordering::Relaxed);
    }

    pub(super) fn cap_streak(&self, most: u32) {
        self.streak.fetch_min(most, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> Reading {
        Reading {
            successes: self.successes.load(Ordering::Relaxed),
            given_up: self.given_up.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
        }
    }
}

impl Reading {
    /// Whether nothing came in between that makes a row of failures longer or ends it.
    pub(super) const fn has_same_row(self, later: Self) -> bool {
        self.successes == later.successes && self.failures == later.failures
    }

    /// What came in since `earlier`.
    pub(super) fn since(self, earlier: Self) -> Sample {
        let successes = self.successes.wrapping_sub(earlier.successes);
        let given_up = self.given_up.wrapping_sub(earlier.given_up);
        Sample {
            successes: successes >> SUM_BITS,
            given_up: given_up >> SUM_BITS,
            log_sum: (successes & SUM) + (given_up & SUM),
            failures: self.failures.wrapping_sub(earlier.failures),
            throttled: self.throttled.wrapping_sub(earlier.throttled),
        }
    }
}

/// One more, with the logarithm of its latency.
fn timed(latency: u64) -> u64 {
    (1 << SUM_BITS) | log2::of_nanos(latency)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_difference_survives_that_counters_wrap() {
        let record = Record::new();
        record.successes.store(u64::MAX - 1, Ordering::Relaxed);
        record.given_up.store(u64::MAX - 1, Ordering::Relaxed);
        record.failures.store(u64::MAX, Ordering::Relaxed);
        let before = record.read();
        for _ in 0..1000 {
            record.succeeded(u64::MAX);
        }
        record.given_up(u64::MAX);
        record.failed();
        record.throttled();
        let sample = record.read().since(before);
        assert_eq!(
            (
                sample.successes,
                sample.given_up,
                sample.failures,
                sample.throttled
            ),
            (1000, 1, 1, 1)
        );
        assert_eq!(sample.log_sum, 1001 * log2::MAX_LOG);
    }

    proptest! {
        #[test]
        fn the_sums_of_two_intervals_are_apart(
            first in proptest::collection::vec(0u64.., 0..50),
            second in proptest::collection::vec(0u64.., 0..50),
        ) {
            let record = Record::new();
            let start = record.read();
            first.iter().for_each(|latency| record.succeeded(*latency));
            let middle = record.read();
            second.iter().for_each(|latency| record.succeeded(*latency));
            let end = record.read();
            for (sample, latencies) in [(middle.since(start), first), (end.since(middle), second)] {
                prop_assert_eq!(sample.successes, latencies.len() as u64);
                prop_assert_eq!(sample.log_sum, latencies.into_iter().map(log2::of_nanos).sum::<u64>());
            }
        }
    }
}
