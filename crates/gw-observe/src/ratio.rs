use gw_core::ConfigError;

/// A share of all: a number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ratio(f64);

/// How many bits of a trace id take part in sampling: as many as the specification calls random.
const RANDOM_BITS: u32 = 56;

impl Ratio {
    pub(crate) const ALL: Self = Self(1.0);

    pub(crate) fn new(field: &'static str, share: f64) -> Result<Self, ConfigError> {
        if (0.0..=1.0).contains(&share) {
            Ok(Self(share))
        } else {
            Err(ConfigError::new(field, "must be a number from 0 to 1"))
        }
    }

    /// What was checked before, from a place that holds numbers only.
    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }

    pub(crate) const fn share(self) -> f64 {
        self.0
    }

    /// Whether this share of all random numbers has `random` in it; of a greater share it is a part, too.
    pub(crate) fn takes(self, random: u64) -> bool {
        let number = random & ((1 << RANDOM_BITS) - 1);
        // The product is off by at most one part in 2^53.
        number < (self.0 * (1u64 << RANDOM_BITS) as f64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_so_many() {
        let share = |share| Ratio::new("normal", share).unwrap();
        assert!(share(1.0).takes(u64::MAX) && share(1.0).takes(0));
        assert!(!share(0.0).takes(u64::MAX) && !share(0.0).takes(0));
        let mut random = fastrand::Rng::with_seed(7);
        let numbers: Vec<u64> = (0..100_000).map(|_| random.u64(..)).collect();
        let tenth = numbers.iter().filter(|n| share(0.1).takes(**n));
        assert!((9_500..10_500).contains(&tenth.clone().count()));
        // What a smaller share takes, a greater one takes as well.
        assert!(tenth.clone().all(|n| share(0.2).takes(*n)));
        for wrong in [-0.1, 1.1, f64::NAN] {
            let error = Ratio::new("normal", wrong).unwrap_err();
            assert_eq!(error.to_string(), "normal: must be a number from 0 to 1");
        }
    }
}
