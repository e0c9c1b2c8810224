//! Counters and gauges that count in place.

use std::sync::atomic::Ordering;

use metrics::{CounterFn, GaugeFn};

use super::shards::{Shards, add, sum};

/// A number that only grows.
#[derive(Debug)]
pub(super) struct Counter(Shards);

impl Counter {
    pub(super) fn new() -> Self {
        Self(Shards::new(1))
    }

    pub(super) fn value(&self) -> u64 {
        let shares = self.0.all(0).map(|share| share.load(Ordering::Relaxed));
        shares.fold(0, u64::wrapping_add)
    }
}

// Relaxed here and below: the numbers order nothing.
impl CounterFn for Counter {
    fn increment(&self, value: u64) {
        if let Some(share) = self.0.own(0) {
            share.fetch_add(value, Ordering::Relaxed);
        }
    }

    /// A counter that is told what it is has one who tells it: what others add meanwhile may come on top.
    fn absolute(&self, value: u64) {
        self.increment(value.saturating_sub(self.value()));
    }
}

/// A number that is either set, or moved up and down.
#[derive(Debug)]
pub(super) struct Gauge(Shards);

impl Gauge {
    pub(super) fn new() -> Self {
        Self(Shards::new(1))
    }

    pub(super) fn value(&self) -> f64 {
        sum(self.0.all(0))
    }
}

impl GaugeFn for Gauge {
    fn increment(&self, value: f64) {
        if let Some(share) = self.0.own(0) {
            add(share, value);
        }
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    /// In one share, whichever thread sets it, so that the last one who does is right.
    fn set(&self, value: f64) {
        let mut bits = value.to_bits();
        for share in self.0.all(0) {
            share.store(std::mem::take(&mut bits), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_lose_nothing() {
        let (counter, gauge) = (Counter::new(), Gauge::new());
        std::thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        counter.increment(2);
                        gauge.increment(1.0);
                    }
                    for _ in 0..999 {
                        gauge.decrement(1.0);
                    }
                });
            }
        });
        assert_eq!((counter.value(), gauge.value()), (40_000, 20.0));
    }

    #[test]
    fn what_is_set_is_what_was_set_last() {
        let gauge = Gauge::new();
        for value in [3.5, 1e9, 0.0, -7.0] {
            gauge.set(value);
            assert_eq!(gauge.value(), value);
        }
        std::thread::scope(|scope| {
            scope.spawn(|| gauge.set(11.0));
        });
        assert_eq!(gauge.value(), 11.0);
        gauge.set(12.0);
        gauge.increment(0.5);
        assert_eq!(gauge.value(), 12.5);
        let counter = Counter::new();
        for (told, value) in [(5, 5), (3, 5), (9, 9)] {
            counter.absolute(told);
            assert_eq!(counter.value(), value);
        }
    }
}
