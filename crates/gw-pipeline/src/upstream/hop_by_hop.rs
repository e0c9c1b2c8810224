//! Fields that are for one connection and must not be passed on (RFC 9110 section 7.6.1).

use std::sync::LazyLock;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED,
    HOST, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http_body::Frame;

use crate::fields::{Names, remove_where, trim};

/// Removed even if `Connection` does not name them. `Trailer` is kept: trailers are passed on.
pub(super) static ALWAYS: LazyLock<Names> = LazyLock::new(|| {
    [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
        HeaderName::from_static("http2-settings"),
        PROXY_AUTHORIZATION,
        PROXY_AUTHENTICATE,
    ]
    .into_iter()
    .collect()
});

/// Kept even if `Connection` names them: the gateway or the upstream relies on them, and nobody may make it forget
/// them.
const NEVER: [HeaderName; 9] = [
    HOST,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    CONTENT_ENCODING,
    AUTHORIZATION,
    COOKIE,
    FORWARDED,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
];

/// Not passed on in trailers.
static HEAD_ONLY: [HeaderName; 3] = [CONTENT_LENGTH, HOST, TRAILER];

/// The lines of a head's `Connection` that name fields: these are for that connection in the trailers as well.
///
/// Not the names: the lines share the head's memory, and names that a client makes up would take many times as much.
#[derive(Debug, Clone)]
pub(super) struct Named(Vec<HeaderValue>);

/// The fields that a line of `Connection` names, but for those that are never passed on, those in `protected`, and some that the
/// gateway relies on. Usually there are none.
fn named<'a>(
    line: &'a HeaderValue,
    protected: &'a [HeaderName],
) -> impl Iterator<Item = HeaderName> + 'a {
    // What is not a field name names no field. Parsing makes it lower case.
    let names = options(line.as_bytes()).filter_map(|option| HeaderName::from_bytes(option).ok());
    names.filter(|name| {
        name.as_str() != "close"
            && !ALWAYS.contains(name)
            && !NEVER.contains(name)
            && !protected.contains(name)
    })
}

impl Named {
    pub(super) const NOTHING: Self = Self(Vec::new());

    pub(super) fn of(headers: &HeaderMap, protected: &[HeaderName]) -> Self {
        let lines = headers.get_all(CONNECTION).iter();
        let naming = lines.filter(|line| named(line, protected).next().is_some());
        Self(naming.cloned().collect())
    }

    fn remove_from(&self, headers: &mut HeaderMap, protected: &[HeaderName]) {
        for name in self.0.iter().flat_map(|line| named(line, protected)) {
            headers.remove(name);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes from trailers what [`strip`] removes from a head, what the head has named, and what tells of a message's framing or
    /// target: it must stand in the head (RFC 9110 section 6.5.1), where it was looked at. HTTP/2 resets a stream for some of
    /// these fields.
    pub(super) fn strip_trailers<T>(&self, frame: &mut Frame<T>) {
        if let Some(trailers) = frame.trailers_mut() {
            strip(trailers, &[]);
            self.remove_from(trailers, &[]);
            remove_where(trailers, |name| HEAD_ONLY.contains(name));
            trim(trailers);
        }
    }
}

/// Removes what was for the connection that the message came on: all that the lines of `Connection` name, except for
/// the fields in `protected` and some that the gateway relies on, and what is never passed on. Returns what was named.
///
/// Must run before the gateway adds fields of its own.
pub(super) fn strip(headers: &mut HeaderMap, protected: &[HeaderName]) -> Named {
    let always = &*ALWAYS;
    if !headers.keys().any(|name| always.contains(name)) {
        return Named::NOTHING;
    }
    let named = Named::of(headers, protected);
    named.remove_from(headers, protected);
    remove_where(headers, |name| always.contains(name));
    named
}

/// Whether a line of `Connection` has the option `option`, in any case.
pub(super) fn has_option(headers: &HeaderMap, option: &str) -> bool {
    let mut lines = headers.get_all(CONNECTION).iter();
    lines.any(|line| options(line.as_bytes()).any(|it| it.eq_ignore_ascii_case(option.as_bytes())))
}

/// Whether the caller takes trailers.
pub(super) fn accepts_trailers(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TE).iter();
    lines.any(|line| options(line.as_bytes()).any(|it| it.eq_ignore_ascii_case(b"trailers")))
}

/// The members of a comma-separated line.
pub(super) fn options(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn all_lines_of_connection_count_in_any_case() {
        let mut headers = headers(&[
            ("connection", "close, X-One"),
            ("connection", " x-TWO ,, x/bad"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("x-two", "again"),
            ("x-three", "3"),
        ]);
        strip(&mut headers, &[]);
        assert_eq!(names(&headers), ["x-three"]);
    }

    #[test]
    fn some_fields_go_unnamed_and_trailer_stays() {
        let mut headers = headers(&[
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authenticate", "Basic"),
            ("trailer", "x-sum"),
        ]);
        strip(&mut headers, &[]);
        assert_eq!(names(&headers), ["trailer"]);
    }

    #[test]
    fn nobody_can_remove_what_the_gateway_relies_on() {
        let all = "host, content-length, authorization, cookie, forwarded, traceparent, tracestate, x-user-id, x-other";
        let mut headers = headers(&[("connection", all), ("x-user-id", "7"), ("x-other", "1")]);
        for name in NEVER {
            headers.insert(name, "1".parse().unwrap());
        }
        strip(&mut headers, &[HeaderName::from_static("x-user-id")]);
        assert_eq!(headers.len(), NEVER.len() + 1);
        assert!(!headers.contains_key("x-other"));
    }

    #[test]
    fn what_is_usual_names_no_field() {
        for line in [
            "close",
            "keep-alive",
            "Upgrade, TE",
            "cookie, x-user-id",
            "a/b",
        ] {
            let headers = headers(&[("connection", line)]);
            let named = Named::of(&headers, &[HeaderName::from_static("x-user-id")]);
            assert!(named.is_empty(), "{line}");
        }
    }

    #[test]
    fn options_are_whole_words() {
        let headers = headers(&[
            ("connection", "keep-alive, Upgrade"),
            ("te", "deflate;q=0.5, Trailers"),
        ]);
        assert!(has_option(&headers, "upgrade"));
        assert!(!has_option(&headers, "keep"));
        assert!(accepts_trailers(&headers));
    }
}
