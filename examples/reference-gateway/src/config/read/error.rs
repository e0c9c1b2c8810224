//! Serde's complaints in our words.

use std::fmt::{self, Display};

use serde::de::{Expected, Unexpected};

use crate::config::finding::{Anchor, KeyPath};
use crate::config::suggest::nearest;

/// A rule about several keys of a table, and the one to look at, if it is written. Serde hands errors on as text, so the key stands
/// in that, before a NUL.
#[derive(Debug)]
pub(in crate::config) struct Broken {
    pub key: Option<&'static str>,
    pub rule: &'static str,
}

impl Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key {
            Some(key) => write!(f, "{key}\0{}", self.rule),
            None => f.write_str(self.rule),
        }
    }
}

/// One complaint, and the entry it is about once that is known.
#[derive(Debug)]
pub(super) struct ReadError {
    pub message: String,
    /// The key of the entry that it lacks, or that is to be looked at.
    pub key: Option<String>,
    pub place: Option<(KeyPath, Anchor)>,
}

impl ReadError {
    fn new(message: String) -> Self {
        Self {
            message,
            key: None,
            place: None,
        }
    }

    /// Settles the place unless a deeper entry already has.
    pub(super) fn or_at(mut self, path: &KeyPath, anchor: Anchor) -> Self {
        self.place.get_or_insert_with(|| (path.clone(), anchor));
        self
    }
}

impl Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ReadError {}

impl serde::de::Error for ReadError {
    fn custom<T: Display>(message: T) -> Self {
        let message = message.to_string();
        match message.split_once('\0') {
            Some((key, rule)) => Self {
                key: Some(key.to_owned()),
                ..Self::new(rule.to_owned())
            },
            None => Self::new(message),
        }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!(
            "must be {}, not {}",
            wanted(&expected.to_string()),
            given(&found)
        ))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::new(format!(
            "must be {}, not {}",
            wanted(&expected.to_string()),
            given(&found)
        ))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::new(format!("must be {}", any_of(expected)))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let hint = match nearest(field, expected.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("known here: {}", expected.join(", ")),
        };
        Self::new(format!("unknown key; {hint}"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self {
            message: "is missing: it has no default and must be written".to_owned(),
            key: Some(field.to_owned()),
            place: None,
        }
    }
}

/// `"a", "b" or "c"`.
fn any_of(words: &[&str]) -> String {
    match words {
        [] => "left out".to_owned(),
        [only] => format!("\"{only}\""),
        [first @ .., last] => format!("\"{}\" or \"{last}\"", first.join("\", \"")),
    }
}

/// What serde's visitors call the thing they wait for, in the words of a configuration file.
fn wanted(expected: &str) -> String {
    let plain = match expected {
        "a boolean" => "true or false",
        "a string" => "a string in quotes",
        "a sequence" => "an array in brackets",
        "a map" | "newtype variant" => "a table",
        "f64" => "a number",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        _ if expected.starts_with("struct ") => "a table",
        _ => expected,
    };
    plain.to_owned()
}

/// What the file has instead. Numbers are shown; strings are not, they may be secrets from the
/// environment.
fn given(found: &Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(_) | Unexpected::UnitVariant => "a string".to_owned(),
        Unexpected::Seq => "an array".to_owned(),
        Unexpected::Map | Unexpected::StructVariant => "a table".to_owned(),
        other => other.to_string(),
    }
}
