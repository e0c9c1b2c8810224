//! The fields of a request, kept to be sent again.

use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// In a row and not in a map: nearly all requests are sent once, and a map is dear to clone.
///
/// Names as text, one behind the other: a clone of a name that is none of the usual ones allocates where a server has read it, and it takes
/// no more than to parse it once more for a retry. Both without an allocation for as many as requests of services have.
#[derive(Debug)]
pub(super) struct Fields {
    names: SmallVec<[u8; 96]>,
    /// Of each field how long its name is, and its value.
    values: SmallVec<[(usize, HeaderValue); 8]>,
}

impl Fields {
    #[inline]
    pub(super) fn new() -> Self {
        Self {
            names: SmallVec::new(),
            values: SmallVec::new(),
        }
    }

    /// Makes room for so many.
    #[inline]
    pub(super) fn reserve(&mut self, fields: usize) {
        self.values.reserve_exact(fields);
    }

    #[inline]
    pub(super) fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        let name = name.as_str().as_bytes();
        self.names.extend_from_slice(name);
        self.values.push((name.len(), value.clone()));
    }

    /// As they were, with room for so many more.
    pub(super) fn map(&self, more: usize) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.values.len() + more);
        let mut names = self.names.as_slice();
        for (length, value) in &self.values {
            let Some((name, rest)) = names.split_at_checked(*length) else {
                break;
            };
            names = rest;
            // It was one before.
            if let Ok(name) = HeaderName::from_bytes(name) {
                map.append(name, value.clone());
            }
        }
        map
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn fields_go_out_as_they_came() {
        let mut map = HeaderMap::new();
        let long = "x".repeat(65_535);
        for (number, name) in ["accept", "x-a", "accept", &long, "traceparent", "x-a"]
            .into_iter()
            .enumerate()
        {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from(number));
        }
        let secret = map.get_mut("traceparent").unwrap();
        secret.set_sensitive(true);
        let mut fields = Fields::new();
        for (name, value) in &map {
            fields.push(name, value);
        }
        let again = fields.map(0);
        assert_eq!(again, map);
        assert!(again["traceparent"].is_sensitive());
        assert_eq!(Fields::new().map(2), HeaderMap::new());
    }
}
