//! What details may be: nothing that an error could speak through.

use std::fmt;

/// The value of a detail: a number, a static word, or a place in the client's own document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Detail {
    /// A count, a limit, a number of seconds.
    Integer(i64),
    /// A word from a closed set.
    Word(&'static str),
    /// Where in the client's document the fault lies.
    Field(FieldPath),
}

impl From<i64> for Detail {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Detail {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Detail {
    /// Values above `i64::MAX` are shown as `i64::MAX`.
    fn from(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<&'static str> for Detail {
    fn from(value: &'static str) -> Self {
        Self::Word(value)
    }
}

impl From<FieldPath> for Detail {
    fn from(value: FieldPath) -> Self {
        Self::Field(value)
    }
}

/// A place in a JSON document, such as `/items/3/price`, cut to a harmless form.
///
/// Names of members come from clients, so each segment is cut to 64 characters and every character outside
/// `A-Z a-z 0-9 _ - $` becomes `_`; a path has at most 16 segments. It cannot carry a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldPath(String);

impl FieldPath {
    const MAX_SEGMENTS: usize = 16;
    const MAX_SEGMENT_CHARS: usize = 64;

    /// The path made of `segments`, from the root inwards. No segment is the document itself.
    pub fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        let mut path = String::new();
        for segment in segments.into_iter().take(Self::MAX_SEGMENTS) {
            path.push('/');
            path.extend(
                segment
                    .chars()
                    .take(Self::MAX_SEGMENT_CHARS)
                    .map(|c| match c {
                        'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' | '$' => c,
                        _ => '_',
                    }),
            );
        }
        Self(path)
    }

    /// The path as text; empty for the document itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_path_cannot_carry_a_message() {
        let hostile = "password is \"hunter2\"\r\nSet-Cookie: a".to_owned() + &"x".repeat(500);
        let path = FieldPath::new(std::iter::repeat_n(hostile.as_str(), 100));
        assert!(path.as_str().len() <= 16 * 65);
        assert!(
            path.as_str()
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "/_-$".contains(c))
        );
        assert_eq!(
            FieldPath::new(["items", "3", "price"]).as_str(),
            "/items/3/price"
        );
        assert_eq!(FieldPath::new([]).as_str(), "");
    }
}
