//! A histogram that counts in place.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;

/// How many samples there were in each bucket, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    /// The upper bounds of the buckets, which belong to them.
    bounds: &'static [f64],
    /// One for each bucket, and one for what is over the last bound.
    counts: Box<[AtomicU64]>,
    /// The bits of a number.
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0f64.to_bits()),
        }
    }

    /// How many samples there were up to each bound, the last of which is infinity: that many there were in all.
    pub(super) fn up_to(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(&self.counts).scan(0, |total, (bound, count)| {
            *total += count.load(Ordering::Relaxed);
            Some((bound, *total))
        })
    }

    pub(super) fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Ordering::Relaxed))
    }
}

// Relaxed: the numbers order nothing. A page may show a sample's sum without its count, and the next one shows both.
impl HistogramFn for Histogram {
    fn record(&self, value: f64) {
        // Most samples are in one of the first buckets.
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        let bucket = bucket.unwrap_or(self.bounds.len());
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // Never fails: there is always a new value.
        _ = self
            .sum
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
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
