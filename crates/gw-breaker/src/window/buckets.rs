use std::time::Duration;

use super::{Call, Cell, Tally};
use crate::rules::millis;
use crate::word::LATEST;

/// The calls of the last while, in parts of equal length that begin with the generation.
///
/// The counts of a part carry the time at which it began. One that has passed is written over by the one that comes to
/// its place, and is not counted before that either: so the time during which nobody called is counted exactly, however
/// long it was.
#[derive(Debug)]
pub(crate) struct Buckets {
    width: u64,
    buckets: [Bucket; PARTS as usize],
}

const PARTS: u64 = 10;

#[derive(Debug, Default)]
struct Bucket {
    calls: Cell,
    failed: Cell,
    slow: Cell,
}

impl Buckets {
    pub(crate) fn new(window: Duration) -> Self {
        Self {
            width: millis(window).div_ceil(PARTS).max(1),
            buckets: Default::default(),
        }
    }

    #[inline(never)]
    pub(crate) fn add_good(&self, generation: u64, now: u64) {
        self.add(generation, now, Call::GOOD);
    }

    #[inline(always)]
    pub(crate) fn add(&self, generation: u64, now: u64, call: Call) {
        let Some((bucket, began)) = self.at(generation, self.part(generation, now)) else {
            return;
        };
        // A later part has come to its place: this call is long gone.
        if bucket.calls.add(began, 1).is_none() {
            return;
        }
        if call.failed {
            bucket.failed.add(began, 1);
        }
        if call.slow {
            bucket.slow.add(began, 1);
        }
    }

    pub(crate) fn tally(&self, generation: u64, now: u64) -> Tally {
        let last = self.part(generation, now);
        let live =
            || (last.saturating_sub(PARTS - 1)..=last).filter_map(|part| self.at(generation, part));
        let sum = |cell: fn(&Bucket) -> &Cell| {
            let counts = live().map(|(bucket, began)| cell(bucket).get(began));
            counts.fold(0, u32::saturating_add)
        };
        // The calls last: they are counted first.
        let (failed, slow) = (sum(|bucket| &bucket.failed), sum(|bucket| &bucket.slow));
        Tally {
            calls: sum(|bucket| &bucket.calls),
            failed,
            slow,
        }
    }

    /// The number of the part at `now`, from 0 when the generation began.
    fn part(&self, generation: u64, now: u64) -> u64 {
        now.saturating_sub(generation) / self.width
    }

    /// Where a part is counted, and the time at which it began: not after the time of its calls, and so before the next
    /// generation.
    fn at(&self, generation: u64, part: u64) -> Option<(&Bucket, u64)> {
        let began = (generation + part * self.width).min(LATEST);
        Some((self.buckets.get((part % PARTS) as usize)?, began))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_what_a_list_of_calls_counts(
            width in 1..50_u64,
            generation in 1..1_000_000_u64,
            calls in proptest::collection::vec(
                (prop_oneof![0..20_u64, 0..2_000_u64, Just(1 << 32), Just(1 << 36)], any::<bool>(), any::<bool>()),
                0..100,
            ),
        ) {
            let buckets = Buckets::new(Duration::from_millis(width * PARTS));
            let mut now = generation;
            let mut list = Vec::new();
            for (later, failed, slow) in calls {
                now += later;
                if now >= LATEST {
                    break;
                }
                buckets.add(generation, now, Call { failed, slow });
                list.push((now, failed, slow));
                // The oldest part is in it as a whole.
                let part = |at: u64| (at - generation) / width;
                let live: Vec<_> = list.iter().filter(|call| part(call.0) + PARTS > part(now)).collect();
                let tally = buckets.tally(generation, now);
                prop_assert_eq!(tally.calls as usize, live.len());
                prop_assert_eq!(tally.failed as usize, live.iter().filter(|call| call.1).count());
                prop_assert_eq!(tally.slow as usize, live.iter().filter(|call| call.2).count());
                prop_assert_eq!(buckets.tally(now + 1, now + 1), Tally::default());
            }
        }
    }
}
