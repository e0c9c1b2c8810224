use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::header::{SERVER, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};

use crate::fields::{Names, remove_where};

/// The header fields that answers must not carry, and those that all answers carry.
///
/// Fields are added where an answer has none of that name, local answers included, and removed before that.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHeaders {
    removed: Names,
    added: Vec<(HeaderName, HeaderValue)>,
    /// The names of both.
    concerned: Names,
}

impl ResponseHeaders {
    /// Changes nothing.
    pub const fn none() -> Self {
        Self {
            removed: Names::new(),
            added: Vec::new(),
            concerned: Names::new(),
        }
    }

    /// Removes what tells about the machinery (`Server`, `X-Powered-By`), and adds `X-Content-Type-Options: nosniff`,
    /// `X-Frame-Options: DENY` and `Strict-Transport-Security` for a year, sub-domains included.
    ///
    /// Browsers heed the last one over TLS only.
    pub fn recommended() -> Self {
        Self::none()
            .remove(SERVER)
            .remove(HeaderName::from_static("x-powered-by"))
            .add(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"))
            .add(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"))
            .add(
                STRICT_TRANSPORT_SECURITY,
                HeaderValue::from_static("max-age=31536000; includeSubDomains"),
            )
    }

    /// Removes the field `name` from every answer.
    #[must_use]
    pub fn remove(mut self, name: HeaderName) -> Self {
        self.concerned.push(name.clone());
        self.removed.push(name);
        self
    }

    /// Adds the field `name` to every answer that has none. Of two values for one name, the first counts.
    #[must_use]
    pub fn add(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if !self.added.iter().any(|(added, _)| *added == name) {
            self.concerned.push(name.clone());
            self.added.push((name, value));
        }
        self
    }

    /// Treats the fields of an answer that passes no [`AnswerLayer`](super::AnswerLayer), which does this to all others.
    pub fn apply(&self, headers: &mut HeaderMap) {
        // One look at all names tells that most answers have none of them.
        if !headers.keys().any(|name| self.concerned.contains(name)) {
            for (name, value) in &self.added {
                headers.insert(name, value.clone());
            }
            return;
        }
        remove_where(headers, |name| self.removed.contains(name));
        for (name, value) in &self.added {
            headers.entry(name).or_insert_with(|| value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_then_adds_what_is_absent() {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER, HeaderValue::from_static("orders/1.2 (host db-7)"));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
        ResponseHeaders::recommended().apply(&mut headers);
        assert!(!headers.contains_key(SERVER));
        assert_eq!(headers[X_FRAME_OPTIONS], "SAMEORIGIN");
        assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    }

    #[test]
    fn an_answer_without_any_of_them_gets_what_is_added_once() {
        let mut headers = HeaderMap::new();
        ResponseHeaders::recommended()
            .add(X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"))
            .apply(&mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
    }
}
