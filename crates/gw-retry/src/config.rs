use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a layer does. It can be changed while requests run, see [`RetryHandle`](crate::RetryHandle),
/// [`HedgeHandle`](crate::hedge::HedgeHandle), [`TimeoutHandle`](crate::timeout::TimeoutHandle) and
/// [`Budget::set_mode`](crate::Budget::set_mode).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Decides, and does it: sends requests again, ends what is late, refuses retries that are too many.
    #[default]
    Enforce,
    /// Decides and counts, and does none of it. The budget of a layer that sends requests again is charged as if it had.
    Shadow,
    /// Passes everything on untouched and uncounted.
    Off,
}

/// The mode that all services of a layer share.
#[derive(Debug, Default)]
pub(crate) struct SharedMode(AtomicU8);

impl SharedMode {
    pub(crate) const fn new(mode: Mode) -> Self {
        Self(AtomicU8::new(mode as u8))
    }

    #[inline]
    pub(crate) fn get(&self) -> Mode {
        // Relaxed: nothing else is published with it.
        match self.0.load(Ordering::Relaxed) {
            0 => Mode::Enforce,
            1 => Mode::Shadow,
            _ => Mode::Off,
        }
    }

    /// Whether it was another one.
    pub(crate) fn set(&self, mode: Mode) -> bool {
        self.0.swap(mode as u8, Ordering::Relaxed) != mode as u8
    }
}

/// A setting that cannot be: which field, and the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    rule: &'static str,
}

impl ConfigError {
    pub(crate) const fn new(field: &'static str, rule: &'static str) -> Self {
        Self { field, rule }
    }

    /// The field, such as `max_attempts`.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The rule.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl std::error::Error for ConfigError {}

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

    pub(crate) const fn millionths(self) -> u32 {
        self.0
    }

    /// This part of `whole`, rounded down.
    pub(crate) fn of(self, whole: u32) -> u32 {
        let part = u64::from(self.0) * u64::from(whole) / u64::from(Self::ONE);
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}
