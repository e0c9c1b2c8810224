//! Finding and removing header fields.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Removes the fields whose names `goes` picks.
///
/// A look at all names costs less than the hashing of a few, and most heads have none of those that must go.
pub(crate) fn remove_where(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    while let Some(name) = headers.keys().find(|name| goes(name)).cloned() {
        headers.remove(name);
    }
}

/// The rule of fields that are looked for behind the stage that drops those with an underscore.
pub(crate) const NO_UNDERSCORE: &str = "must have no underscore: such fields are dropped";

/// Whether a name has an underscore.
///
/// Eight bytes at a time, the last ones over again: names are too short for a search to be worth its while.
pub(crate) fn has_underscore(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    if let Some(last) = name.last_chunk() {
        let (words, _) = name.as_chunks();
        return is_in_word(*last) || words.iter().any(|word| is_in_word(*word));
    }
    match (name.first_chunk(), name.last_chunk()) {
        (Some([a, b, c, d]), Some([e, f, g, h])) => is_in_word([*a, *b, *c, *d, *e, *f, *g, *h]),
        _ => name.contains(&b'_'),
    }
}

/// Whether one of the bytes is an underscore.
const fn is_in_word(word: [u8; 8]) -> bool {
    const UNDERSCORES: u64 = u64::from_ne_bytes([b'_'; 8]);
    has_zero(u64::from_ne_bytes(word) ^ UNDERSCORES)
}

/// Whether one of the bytes is zero: only such a byte borrows, and has its highest bit set by that alone.
const fn has_zero(bytes: u64) -> bool {
    const LOWEST: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHEST: u64 = LOWEST << 7;
    bytes.wrapping_sub(LOWEST) & !bytes & HIGHEST != 0
}

/// Whether a value begins or ends with white space.
pub(crate) fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let value = value.as_bytes();
    is_space(value.first()) || is_space(value.last())
}

/// Takes white space from both ends of all values, where HTTP/1 does not count it as part of them. Over HTTP/2 it stands for itself,
/// and must not go on (RFC 9113 section 8.2.1).
#[cfg(feature = "upstream")]
pub(crate) fn trim(headers: &mut HeaderMap) {
    for value in headers.values_mut().filter(|value| is_padded(value)) {
        if let Ok(mut trimmed) = HeaderValue::from_bytes(value.as_bytes().trim_ascii()) {
            trimmed.set_sensitive(value.is_sensitive());
            *value = trimmed;
        }
    }
}

/// A few names that fields are looked up in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// By their lengths: most other names differ in that, and need no closer look. Lengths from [`LONG`] on share a place.
    by_length: Vec<Vec<HeaderName>>,
}

const LONG: usize = 63;

impl Names {
    pub(crate) const fn new() -> Self {
        Self {
            by_length: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, name: HeaderName) {
        let place = place(&name);
        if self.by_length.len() <= place {
            self.by_length.resize_with(place + 1, Vec::new);
        }
        if let Some(names) = self.by_length.get_mut(place) {
            names.push(name);
        }
    }

    #[cfg(feature = "upstream")]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &HeaderName> {
        self.by_length.iter().flatten()
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        let names = self.by_length.get(place(name));
        names.is_some_and(|names| names.contains(name))
    }
}

impl FromIterator<HeaderName> for Names {
    fn from_iter<T: IntoIterator<Item = HeaderName>>(names: T) -> Self {
        let mut all = Self::new();
        names.into_iter().for_each(|name| all.push(name));
        all
    }
}

fn place(name: &HeaderName) -> usize {
    name.as_str().len().min(LONG)
}

#[cfg(test)]
mod tests {
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

    #[cfg(feature = "upstream")]
    #[test]
    fn values_lose_white_space_at_their_ends_and_nothing_else() {
        let mut headers = HeaderMap::new();
        for value in ["a", " a\tb \t", " ", ""] {
            let mut value = HeaderValue::from_static(value);
            value.set_sensitive(true);
            headers.append("x", value);
        }
        trim(&mut headers);
        let values: Vec<_> = headers.get_all("x").iter().collect();
        assert_eq!(values, ["a", "a\tb", "", ""]);
        assert!(values.iter().all(|value| value.is_sensitive()));
    }

    #[test]
    fn an_underscore_is_seen_wherever_it_is() {
        for length in 1..20 {
            let plain = "~".repeat(length);
            assert!(!has_underscore(&plain.parse().unwrap()));
            for place in 0..length {
                let mut name = plain.clone();
                name.replace_range(place..=place, "_");
                assert!(has_underscore(&name.parse().unwrap()), "{name}");
            }
        }
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
