//! One way from a string to a typed value, for our types and for foreign ones.

use serde::de::{Deserialize, Deserializer, Error as _};

/// A value that is written as a string.
pub(in crate::config) trait FromText: Sized {
    /// Parses it, or says the rule with an example. The sentence follows the key, so it starts with
    /// "must".
    fn from_text(text: &str) -> Result<Self, &'static str>;
}

/// Carries a [`FromText`] value through serde.
pub(in crate::config) struct Text<T>(pub T);

impl<'de, T: FromText> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::from_text(&text).map(Text).map_err(D::Error::custom)
    }
}

/// For `#[serde(deserialize_with)]` on a `T`.
pub(in crate::config) fn text<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<T, D::Error> {
    Text::deserialize(deserializer).map(|Text(value)| value)
}

/// For `#[serde(deserialize_with)]` on an `Option<T>`; the field needs a default as well.
pub(in crate::config) fn optional<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    text(deserializer).map(Some)
}

/// For `#[serde(deserialize_with)]` on an `Option<T>` whose default is on: the empty string turns
/// it off.
pub(in crate::config) fn text_or_off<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    T::from_text(&text).map(Some).map_err(D::Error::custom)
}

/// For `#[serde(deserialize_with)]` on a `Vec<T>`.
pub(in crate::config) fn list<'de, D: Deserializer<'de>, T: FromText>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let items = Vec::<Text<T>>::deserialize(deserializer)?;
    Ok(items.into_iter().map(|Text(item)| item).collect())
}

/// Gives a type of ours serde's `Deserialize` through [`FromText`].
macro_rules! deserialize_from_text {
    ($($type:ty),+ $(,)?) => {$(
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::config::value::text::text(deserializer)
            }
        }
    )+};
}
pub(super) use deserialize_from_text;
