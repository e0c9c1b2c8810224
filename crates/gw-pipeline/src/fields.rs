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
        let left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(left.len(), 2);
        assert!(headers.contains_key("x-b") && headers.contains_key("host"));
    }
}
