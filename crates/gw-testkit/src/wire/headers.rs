//! Header fields as they were sent.

use std::fmt;

use bytes::Bytes;

/// Header or trailer fields in the order and the case in which they were sent, repetitions included.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RawHeaders {
    fields: Vec<(String, Bytes)>,
}

impl RawHeaders {
    /// The value of the first field of that name, in any case.
    ///
    /// # Panics
    ///
    /// If the value is not UTF-8.
    #[track_caller]
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.values(name).next()?;
        match std::str::from_utf8(value) {
            Ok(text) => Some(text),
            Err(_) => panic!("the value of `{name}` is not UTF-8: {value:?}"),
        }
    }

    /// The values of all fields of that name, in any case.
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Bytes> {
        let same = move |field: &&(String, Bytes)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|(_, value)| value)
    }

    /// How many fields have that name, in any case.
    pub fn count(&self, name: &str) -> usize {
        self.values(name).count()
    }

    /// All fields, as sent.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.fields
            .iter()
            .map(|(name, value)| (name.as_str(), value))
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn from_parsed(parsed: &[httparse::Header<'_>]) -> Self {
        let own = |field: &httparse::Header<'_>| {
            (field.name.to_owned(), Bytes::copy_from_slice(field.value))
        };
        Self {
            fields: parsed.iter().map(own).collect(),
        }
    }
}

impl fmt::Debug for RawHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
