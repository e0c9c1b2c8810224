//! Shares of a whole.

use serde::de::{Deserialize, Deserializer, Error as _};

use super::whole::whole;

/// A number from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(f64);

impl Ratio {
    /// The whole.
    pub const ONE: Self = Self(1.0);

    /// `None` outside 0..=1, and for NaN.
    pub const fn new(value: f64) -> Option<Self> {
        if value >= 0.0 && value <= 1.0 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// Cuts to 0..=1, for defaults and for sums.
    pub(in crate::config) const fn clamped(value: f64) -> Self {
        Self(value.clamp(0.0, 1.0))
    }

    /// The number, from 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Self::new(value)
            .ok_or_else(|| D::Error::custom("must be a share from 0 to 1, such as 0.25"))
    }
}

/// Less is nothing to those that count in millionths.
const LEAST: f64 = 0.000_001;

/// For `#[serde(deserialize_with)]` where a share of nothing makes no sense.
pub(in crate::config) fn ratio_above_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Ratio, D::Error> {
    let rule = "must be a share from 0.000001 to 1, such as 0.25";
    let value = f64::deserialize(deserializer)?;
    Ratio::new(value)
        .filter(|ratio| ratio.0 >= LEAST)
        .ok_or_else(|| D::Error::custom(rule))
}

/// For `#[serde(deserialize_with)]` on a quantile that a hedge can wait for.
pub(in crate::config) fn quantile<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Ratio, D::Error> {
    let rule = "must be from 0.5 to 0.9999, such as 0.99";
    let value = f64::deserialize(deserializer)?;
    Ratio::new(value)
        .filter(|ratio| (0.5..=0.9999).contains(&ratio.0))
        .ok_or_else(|| D::Error::custom(rule))
}

/// A whole number from 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Percent(u8);

impl Percent {
    /// `None` above 100.
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 100 {
            Some(Self(value))
        } else {
            None
        }
    }

    /// For defaults: cuts at 100.
    pub(in crate::config) const fn clamped(value: u8) -> Self {
        Self(if value > 100 { 100 } else { value })
    }

    /// The number, from 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// For `#[serde(deserialize_with)]` where no percent makes no sense.
pub(in crate::config) fn percent_above_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Percent, D::Error> {
    whole::<_, _, 1, 100>(deserializer).map(Percent)
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        whole::<_, _, 0, 100>(deserializer).map(Self)
    }
}
