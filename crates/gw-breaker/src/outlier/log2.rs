//! Logarithms of latencies as whole numbers, so that a sum of them is one addition for each request.

use std::time::Duration;

/// So many units to an octave: a factor of two.
pub(super) const OCTAVE: u64 = 64;

/// The greatest logarithm there is: of the greatest number of nanoseconds.
pub(super) const MAX_LOG: u64 = 64 * OCTAVE - 1;

/// The base-two logarithm of a latency in nanoseconds, in 1/64. Never falls as latency grows; off by less than two units,
/// which is 2 %.
pub(super) fn of_nanos(nanos: u64) -> u64 {
    let nanos = nanos.max(1);
    let octave = u64::from(nanos.ilog2());
    // What is behind the leading one, as 16 bits.
    let mantissa = ((nanos << (63 - octave)) & (u64::MAX >> 1)) >> 47;
    // log2(1 + m) is m + 0.3431 m (1 - m), to a hundredth.
    let bend = (((mantissa * (65_536 - mantissa)) >> 16) * 22_485) >> 16;
    octave * OCTAVE + (((mantissa + bend) * OCTAVE) >> 16)
}

/// The logarithm of how many times as long, given in thousandths.
pub(super) fn of_factor(thousandths: u64) -> u64 {
    // Far from 1, where rounding to whole nanoseconds would show.
    of_nanos(thousandths.saturating_mul(1 << 20)).saturating_sub(of_nanos(1000 << 20))
}

/// The latency whose logarithm this is, to a few percent.
pub(super) fn to_duration(log: u64) -> Duration {
    Duration::from_nanos(to_nanos(log))
}

/// The least number of nanoseconds whose logarithm is at least this.
pub(super) fn to_nanos(log: u64) -> u64 {
    let (mut low, mut high) = (1, u64::MAX);
    while low < high {
        let middle = low + (high - low) / 2;
        if of_nanos(middle) < log {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doublings_are_octaves() {
        for octave in 0..64 {
            assert_eq!(of_nanos(1 << octave), octave * OCTAVE);
        }
        assert_eq!(of_nanos(0), 0);
        assert_eq!(of_nanos(u64::MAX), MAX_LOG);
        assert_eq!(of_factor(1000), 0);
        assert_eq!(of_factor(2000), OCTAVE);
        assert_eq!(of_factor(4000), 2 * OCTAVE);
    }

    #[test]
    fn latencies_come_back() {
        for millis in [1, 7, 30, 250, 9_999] {
            let latency = Duration::from_millis(millis);
            let back = to_duration(of_nanos(latency.as_nanos() as u64));
            let off = back.abs_diff(latency).as_secs_f64() / latency.as_secs_f64();
            assert!(off < 0.025, "{latency:?} {back:?}");
        }
        assert_eq!(to_duration(0), Duration::from_nanos(1));
    }

    proptest! {
        #[test]
        fn is_the_logarithm_to_two_units(nanos in 1u64..) {
            let exact = (nanos as f64).log2() * OCTAVE as f64;
            prop_assert!((of_nanos(nanos) as f64 - exact).abs() < 2.0, "{exact}");
        }

        #[test]
        fn never_falls(nanos in 1u64..u64::MAX) {
            prop_assert!(of_nanos(nanos) <= of_nanos(nanos + 1));
        }
    }
}
