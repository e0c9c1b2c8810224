use std::num::NonZeroU32;

/// A part of the total, in millionths.
///
/// Kept as an integer so that rounding up means what it says: as floating-point numbers, 0.07 × 100 rounds up to 8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Share(u32);

impl Share {
    pub(crate) const WHOLE: Self = Self(1_000_000);

    /// `None` unless `ratio` is a number from 0 to 1.
    pub(crate) fn new(ratio: f64) -> Option<Self> {
        // In range, so the cast neither wraps nor loses more than the rounding means to.
        (0.0..=1.0)
            .contains(&ratio)
            .then(|| Self((ratio * f64::from(Self::WHOLE.0)).round() as u32))
    }

    /// This share of `total`, rounded up, at least 1.
    pub(crate) fn of(self, total: NonZeroU32) -> u32 {
        let millionths = u64::from(self.0) * u64::from(total.get());
        // At most `total`, which is a u32.
        let places = millionths.div_ceil(u64::from(Self::WHOLE.0)) as u32;
        places.max(1)
    }

    pub(crate) const fn millionths(self) -> u32 {
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
        #[test]
        fn is_the_least_whole_number_that_is_enough(percent in 0..=100u32, total in 1..=u32::MAX) {
            let places = share(f64::from(percent) / 100.0, total);
            let exact = u64::from(percent) * u64::from(total);
            prop_assert!(u64::from(places) * 100 >= exact);
            prop_assert!(places == 1 || (u64::from(places) - 1) * 100 < exact);
        }
    }
}
