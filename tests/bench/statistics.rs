//! Medians and percentiles of whole samples: they are small enough to be sorted.

use std::time::Duration;

/// Latencies of a run, sorted.
#[derive(Debug, Clone)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    /// Takes them in any order.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self { sorted: samples }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest latency that at least so many thousandths of the samples do not exceed (nearest rank, nothing
    /// interpolated); zero if there are none.
    pub fn per_mille(&self, thousandths: usize) -> Duration {
        let rank = (self.sorted.len() * thousandths).div_ceil(1000).max(1);
        self.sorted
            .get(rank - 1)
            .or(self.sorted.last())
            .copied()
            .unwrap_or_default()
    }
}

/// The middle value, or the mean of the two in the middle. Not a number if there are none.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let above = values.get(middle).copied().unwrap_or(f64::NAN);
    match middle.checked_sub(1).and_then(|below| values.get(below)) {
        Some(below) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        _ => above,
    }
}

/// Microseconds, with their fraction.
pub fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let latencies = Latencies::new((1..=200).rev().map(Duration::from_micros).collect());
        assert_eq!(latencies.count(), 200);
        assert_eq!(latencies.per_mille(500), Duration::from_micros(100));
        assert_eq!(latencies.per_mille(990), Duration::from_micros(198));
        assert_eq!(latencies.per_mille(1000), Duration::from_micros(200));
        assert_eq!(latencies.per_mille(0), Duration::from_micros(1));
        assert_eq!(Latencies::new(Vec::new()).per_mille(990), Duration::ZERO);
    }

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median([]).is_nan());
    }
}
