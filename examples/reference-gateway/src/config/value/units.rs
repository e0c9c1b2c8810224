//! Durations, sizes and rates: a whole number and a unit, nothing between them.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer};

use super::text::{FromText, Text, deserialize_from_text};

/// Longest duration, a year: added to any instant it stays an instant.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Largest size, a pebibyte: more is a slip.
const LARGEST: u64 = 1 << 50;

/// `12` and `ms` of `12ms`. Digits only: no sign, no space, no fraction. A number that is too large for any unit is the
/// largest there is.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    (!number.is_empty()).then(|| (number.parse().unwrap_or(u64::MAX), unit))
}

/// A duration or size for which zero has a meaning.
struct OrZero<T>(T);

impl FromText for OrZero<Duration> {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str =
            "must be a duration: a whole number and ms, s, m or h, such as \"250ms\" or \"5s\"";
        let (number, unit) = number_and_unit(text).ok_or(RULE)?;
        let duration = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.saturating_mul(60)),
            "h" => Duration::from_secs(number.saturating_mul(3600)),
            _ => return Err(RULE),
        };
        if duration > LONGEST {
            return Err("must not be longer than a year, \"8760h\"");
        }
        Ok(Self(duration))
    }
}

impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match OrZero::from_text(text)? {
            OrZero(Self::ZERO) => Err("must be longer than zero, such as \"1s\""),
            OrZero(duration) => Ok(duration),
        }
    }
}

/// For `#[serde(deserialize_with)]` where zero means "at once" or "never".
pub(in crate::config) fn duration_or_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    Text::<OrZero<Duration>>::deserialize(deserializer).map(|Text(OrZero(duration))| duration)
}

/// A number of bytes. Only on its way: the tables hold plain `u64`.
struct Size(u64);

impl FromText for OrZero<Size> {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str =
            "must be a size: a whole number and B, KiB, MiB or GiB, such as \"64KiB\"";
        let (number, unit) = number_and_unit(text).ok_or(RULE)?;
        let scale = match unit {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(RULE),
        };
        match number.saturating_mul(scale) {
            bytes @ ..=LARGEST => Ok(Self(Size(bytes))),
            _ => Err("must not be larger than a pebibyte, \"1048576GiB\""),
        }
    }
}

impl FromText for Size {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match OrZero::from_text(text)? {
            OrZero(Self(0)) => Err("must be more than zero, such as \"64KiB\""),
            OrZero(size) => Ok(size),
        }
    }
}

/// For `#[serde(deserialize_with)]` on bytes, at least one.
pub(in crate::config) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    Text::<Size>::deserialize(deserializer).map(|Text(Size(bytes))| bytes)
}

/// For `#[serde(deserialize_with)]` on bytes where none has a meaning.
pub(in crate::config) fn size_or_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<u64, D::Error> {
    Text::<OrZero<Size>>::deserialize(deserializer).map(|Text(OrZero(Size(bytes)))| bytes)
}

/// As [`size_or_zero`], for a field that may be left out.
pub(in crate::config) fn optional_size_or_zero<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<u64>, D::Error> {
    size_or_zero(deserializer).map(Some)
}

/// So many in a span of time: `"100/s"`, `"6000/m"`, `"10000/h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: NonZeroU32,
    /// One second, minute or hour.
    pub per: Duration,
}

impl FromText for Rate {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be a rate: a whole number from 1 to 1000000000 and /s, /m or /h, such as \"100/s\"";
        // One a nanosecond.
        const MOST: u32 = 1_000_000_000;
        let (number, unit) = number_and_unit(text).ok_or(RULE)?;
        let per = match unit {
            "/s" => Duration::from_secs(1),
            "/m" => Duration::from_secs(60),
            "/h" => Duration::from_secs(3600),
            _ => return Err(RULE),
        };
        let count = u32::try_from(number)
            .ok()
            .filter(|count| *count <= MOST)
            .and_then(NonZeroU32::new)
            .ok_or(RULE)?;
        Ok(Self { count, per })
    }
}

deserialize_from_text!(Rate);

/// A count that is at least 1, for defaults.
pub(in crate::config) const fn count(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}
