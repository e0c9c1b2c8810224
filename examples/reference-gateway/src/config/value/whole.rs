//! Whole numbers with bounds of their own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserializer, Error, Unexpected, Visitor};

/// For `#[serde(deserialize_with)]` on a whole number from `LEAST` to `MOST`, both of which a `T` can be.
pub(in crate::config) fn whole<'de, D, T, const LEAST: u32, const MOST: u32>(
    deserializer: D,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u32>,
{
    deserializer.deserialize_u32(Whole::<T, LEAST, MOST>(PhantomData))
}

/// As [`whole`], for a field that may be left out.
pub(in crate::config) fn optional_whole<'de, D, T, const LEAST: u32, const MOST: u32>(
    deserializer: D,
) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u32>,
{
    whole::<D, T, LEAST, MOST>(deserializer).map(Some)
}

struct Whole<T, const LEAST: u32, const MOST: u32>(PhantomData<T>);

impl<T: TryFrom<u32>, const LEAST: u32, const MOST: u32> Visitor<'_> for Whole<T, LEAST, MOST> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {LEAST} to {MOST}")
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        match u64::try_from(value) {
            Ok(value) => self.visit_u64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        u32::try_from(value)
            .ok()
            .filter(|value| (LEAST..=MOST).contains(value))
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
}
