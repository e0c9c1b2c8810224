use std::num::NonZeroU32;

/// A part of the total, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Share(f64);

impl Share {
    /// By so much a share may miss what is meant, since it is a floating-point number, and often a sum: else 0.07 × 100
    /// would round up to 8. It is less than a hundredth of a place of any total.
    const ROUNDING: f64 = 1e-12;

    /// `None` unless `ratio` is a number from 0 to 1.
    pub(crate) fn new(ratio: f64) -> Option<Self> {
        (0.0..=1.0).contains(&ratio).then_some(Self(ratio))
    }

    /// This share of `total`, rounded up, at least 1.
    pub(crate) fn of(self, total: NonZeroU32) -> u32 {
        let places = (self.0 - Self::ROUNDING) * f64::from(total.get());
        // At most `total`, which is a u32; what is below zero becomes 0.
        (places.ceil() as u32).max(1)
    }

    pub(crate) fn is_below(self, other: Self) -> bool {
        self.0 < other.0 - Self::ROUNDING
    }

    pub(crate) const fn get(self) -> f64 {
        self.0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(ratio: f64, total: u32) -> u32 {
        Share::new(ratio)
            .unwrap()
            .of(NonZeroU32::new(total).unwrap())
    }

    #[test]
    fn rounds_up_and_is_at_least_one() {
        for (ratio, total, places) in [
            (0.0, 512, 1),
            (0.05, 512, 26),
            (0.15, 512, 77),
            (0.07, 100, 7),
            (0.07, 101, 8),
            (1.0 / 6.0, 6, 1),
            (2.0 / 3.0, 30, 20),
            (0.1 + 0.2, 10, 3),
            (1.0 - 0.9, 10, 1),
            (0.5, 1, 1),
            (1.0, 512, 512),
            (1.0, u32::MAX, u32::MAX),
        ] {
            assert_eq!(share(ratio, total), places, "{ratio} of {total}");
        }
    }

    #[test]
    fn only_numbers_from_zero_to_one_are_shares() {
        for ratio in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::new(ratio), None, "{ratio}");
        }
    }

    proptest! {
        /// Story: a share was rounded to the nearest millionth first. Where that is more than the share, the rest made a
        /// place: two thirds of 30 were 21.
        #[test]
        fn is_the_least_whole_number_that_is_enough(whole in 1..=100u32, total in 1..=u32::MAX) {
            for part in 0..=whole {
                let places = share(f64::from(part) / f64::from(whole), total);
                let exact = (u64::from(part) * u64::from(total)).div_ceil(whole.into());
                prop_assert_eq!(u64::from(places), exact.max(1), "{} of {}", part, whole);
            }
        }
    }
}
