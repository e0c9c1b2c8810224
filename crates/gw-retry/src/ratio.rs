/// A part of a whole, in millionths: an integer, so that no rounding is lost and no NaN gets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ratio(u32);

impl Ratio {
    pub(crate) const ONE: u32 = 1_000_000;
    pub(crate) const HALF: Self = Self(Self::ONE / 2);

    /// `None` unless `ratio` is a number from 0 to `most`, which is at most 1000.
    pub(crate) fn new(ratio: f64, most: f64) -> Option<Self> {
        // In range, so the cast neither wraps nor loses more than the rounding means to.
        (0.0..=most)
            .contains(&ratio)
            .then(|| Self((ratio * f64::from(Self::ONE)).round() as u32))
    }

    /// Those of another one.
    pub(crate) const fn of_millionths(millionths: u32) -> Self {
        Self(millionths)
    }

    pub(crate) const fn millionths(self) -> u32 {
        self.0
    }

    /// For whoever reads it.
    pub(crate) fn as_f64(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE)
    }

    /// This part of `whole`, rounded down.
    pub(crate) fn of(self, whole: u32) -> u32 {
        let part = u64::from(self.0) * u64::from(whole) / u64::from(Self::ONE);
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}
