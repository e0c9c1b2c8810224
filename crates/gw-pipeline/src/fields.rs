//! Removing header fields.

use http::{HeaderMap, HeaderName};

/// Removes the fields whose names `goes` picks.
///
/// A look at all names costs less than the hashing of a few, and most heads have none of those that must go.
pub(crate) fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| goes(name)).cloned() {
        headers.remove(name);
    }
}

/// A few names that fields are looked up in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    names: Vec<HeaderName>,
    /// The lengths that occur, a bit each: most other names differ in that, and need no closer look.
    lengths: u64,
}

impl Names {
    pub(crate) const fn new() -> Self {
        Self {
            names: Vec::new(),
            lengths: 0,
        }
    }

    pub(crate) fn push(&mut self, name: HeaderName) {
        self.lengths |= bit(&name);
        self.names.push(name);
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.lengths & bit(name) != 0 && self.names.contains(name)
    }
}

impl FromIterator<HeaderName> for Names {
    fn from_iter<T: IntoIterator<Item = HeaderName>>(names: T) -> Self {
        let mut all = Self::new();
        names.into_iter().for_each(|name| all.push(name));
        all
    }
}

/// Lengths from 63 on share a bit.
fn bit(name: &HeaderName) -> u64 {
    1 << name.as_str().len().min(63)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn all_lines_of_a_field_go_and_the_others_stay() {
        let mut headers = HeaderMap::new();
        for name in ["x-a", "x-b", "x-a", "te", "host"] {
            headers.append(name, HeaderValue::from_static("1"));
        }
        remove_where(&mut headers, |name| matches!(name.as_str(), "x-a" | "te"));
        assert_eq!(headers.len(), 2);
        assert!(headers.contains_key("x-b") && headers.contains_key("host"));
    }

    #[test]
    fn names_are_found_whatever_their_length() {
        let long = HeaderName::try_from("x".repeat(100)).unwrap();
        let longer = HeaderName::try_from("x".repeat(200)).unwrap();
        let server = HeaderName::from_static("server");
        let names = Names::from_iter([server.clone(), long.clone()]);
        assert!(names.contains(&server) && names.contains(&long));
        assert!(!names.contains(&longer));
        assert!(!names.contains(&HeaderName::from_static("cookie")));
        assert!(!Names::new().contains(&server));
    }
}
