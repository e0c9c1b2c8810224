//! A histogram that counts in place.

use std::sync::atomic::Ordering;

use metrics::HistogramFn;

use super::shards::{Shards, add, sum};

/// How many samples there were in each bucket, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The upper bounds of the buckets, which belong to them.
    bounds: &'static [f64],
    /// One number for each bucket, one for what is over the last bound, and the sum.
    numbers: Shards,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            numbers: Shards::new(bounds.len() + 2),
        }
    }

    /// How many samples there were up to each bound, the last of which is infinity: that many there were in all.
    pub(super) fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let numbered = bounds.enumerate();
        numbered.scan(0, |total, (bucket, bound)| {
            let shares = self.numbers.all(bucket);
            *total += shares
                .map(|count| count.load(Ordering::Relaxed))
                .sum::<u64>();
            Some((bound, *total))
        })
    }

    pub(super) fn sum(&self) -> f64 {
        sum(self.numbers.all(self.bounds.len() + 1))
    }
}

// Relaxed: the numbers order nothing. A page may show a sample's sum without its count, and the next one shows both.
impl HistogramFn for Histogram {
    fn record(&self, value: f64) {
        // Most samples are in one of the first buckets.
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        let bucket = bucket.unwrap_or(self.bounds.len());
        if let Some(count) = self.numbers.own(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(sum) = self.numbers.own(self.bounds.len() + 1) {
            add(sum, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_counted_up_to_all_bounds_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[1.0, 2.5]);
        for sample in [0.0, 1.0, 1.5, 2.5, 2.75, 100.0] {
            histogram.record(sample);
        }
        let up_to: Vec<_> = histogram.up_to().collect();
        assert_eq!(up_to, [(1.0, 2), (2.5, 4), (f64::INFINITY, 6)]);
        assert_eq!(histogram.sum(), 107.75);
    }

    #[test]
    fn threads_lose_nothing() {
        let histogram = Histogram::new(&[1.0]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| histogram.record(0.5)));
            }
        });
        assert_eq!(histogram.up_to().last(), Some((f64::INFINITY, 40_000)));
        assert_eq!(histogram.sum(), 20_000.0);
    }
}
