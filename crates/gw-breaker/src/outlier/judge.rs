//! Who stands out from the others, in whole numbers.

use super::log2;

/// What came of one endpoint's requests in an interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) successes: u64,
    pub(super) failures: u64,
    pub(super) throttled: u64,
    /// Neither succeeded nor failed, but were waited for longer than is usual.
    pub(super) given_up: u64,
    /// The sum of the logarithms of the latencies of those that succeeded or were given up.
    pub(super) log_sum: u64,
}

/// By how much one has to differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// How many requests an endpoint needs in an interval to be judged.
    pub(super) min_requests: u64,
    /// How many times the usual spread of the set, in thousandths.
    pub(super) deviations: u64,
    /// How many failures more than usual, in millionths of the requests.
    pub(super) failure_gap: u64,
    /// How many times as long as usual, as a logarithm in [`FINE`] units.
    pub(super) latency_gap: u64,
}

/// What is usual in the set, and how far from it one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usual {
    median: u64,
    hurdle: u64,
}

/// Fewer than these have no majority that could say what is usual.
pub(super) const MIN_ENDPOINTS: usize = 3;

/// A mean of logarithms is told to 1/16 of their unit.
pub(super) const FINE: u64 = 16;

const WHOLE: u64 = 1_000_000;

impl Sample {
    pub(super) const fn requests(&self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// How many have a latency, if only one that is at least so long.
    pub(super) const fn timed(&self) -> u64 {
        self.successes.saturating_add(self.given_up)
    }

    /// The share that failed, in millionths.
    pub(super) fn failure_rate(&self) -> u64 {
        // At most one, whatever the counts are.
        let failures = u128::from(self.failures) * u128::from(WHOLE);
        failures
            .checked_div(u128::from(self.requests()))
            .unwrap_or(0) as u64
    }

    /// The mean of the logarithms of the latencies: that of their geometric mean, which a few slow ones hardly move.
    pub(super) fn mean_log(&self) -> Option<u64> {
        (self.log_sum * FINE).checked_div(self.timed())
    }
}

impl Rules {
    /// The failure rate of an endpoint that can be judged by it.
    pub(super) fn failure_rate(&self, sample: &Sample) -> Option<u64> {
        (sample.requests() >= self.min_requests).then(|| sample.failure_rate())
    }

    /// The latency of an endpoint that can be judged by it.
    pub(super) fn latency(&self, sample: &Sample) -> Option<u64> {
        sample
            .mean_log()
            .filter(|_| sample.timed() >= self.min_requests)
    }

    pub(super) fn usual_failure_rate(&self, rates: &mut [u64]) -> Option<Usual> {
        Usual::of(rates, self.deviations, self.failure_gap)
    }

    pub(super) fn usual_latency(&self, latencies: &mut [u64]) -> Option<Usual> {
        Usual::of(latencies, self.deviations, self.latency_gap)
    }

    /// How many thousandths of what is allowed its failure rate is off, if that is more than is allowed.
    pub(super) fn fails_more(&self, sample: &Sample, usual: Usual) -> Option<u64> {
        let excess = usual.excess(self.failure_rate(sample)?)?;
        // Of many endpoints and intervals some have bad luck.
        let expected = u128::from(sample.requests()) * u128::from(usual.median);
        let expected = (expected / u128::from(WHOLE / 1000)) as u64;
        let unlikely = expected.saturating_add(chance(expected));
        (sample.failures.saturating_mul(1000) > unlikely).then_some(excess)
    }

    /// The same for the latency.
    pub(super) fn is_slower(&self, sample: &Sample, usual: Usual) -> Option<u64> {
        usual.excess(self.latency(sample)?)
    }
}

impl Usual {
    /// Median and median absolute deviation: half of the set may be bad and neither moves far, while one bad endpoint
    /// moves a mean and widens a standard deviation enough to hide the next.
    fn of(values: &mut [u64], deviations: u64, gap: u64) -> Option<Self> {
        if values.len() < MIN_ENDPOINTS {
            return None;
        }
        let center = median(values)?;
        for value in values.iter_mut() {
            *value = value.abs_diff(center);
        }
        // 1.4826 times it is the standard deviation, where values are normally distributed.
        let spread = median(values)?.saturating_mul(14_826) / 10_000;
        Some(Self {
            median: center,
            hurdle: gap.max(spread.saturating_mul(deviations) / 1000),
        })
    }

    /// The median.
    pub(super) const fn center(self) -> u64 {
        self.median
    }

    /// Only upwards: nobody is ejected for being better than the others.
    fn excess(self, value: u64) -> Option<u64> {
        let over = value.checked_sub(self.median)?;
        (over >= self.hurdle).then(|| over.saturating_mul(1000) / self.hurdle.max(1))
    }
}

/// How many failures beyond the `expected` ones are too unlikely to be chance; both in thousandths.
///
/// Bernstein's inequality: more than `L/3 + √(L²/9 + 2Lμ)` beyond the mean μ has a chance below `e^-L`, whatever the rate,
/// and with few failures too, where a normal distribution says nothing. With `L = 14` that is one in a million.
fn chance(expected: u64) -> u64 {
    const L: u64 = 14;
    const THIRD: u64 = L * 1000 / 3;
    let under_root = (2 * L * 1000)
        .saturating_mul(expected)
        .saturating_add(THIRD * THIRD);
    THIRD + under_root.isqrt()
}

/// The median, between the two in the middle if they are even.
fn median(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(lower.midpoint(upper))
}

/// A factor in thousandths as the difference of two means of logarithms.
pub(super) fn latency_gap(thousandths: u64) -> u64 {
    log2::of_factor(thousandths) * FINE
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
