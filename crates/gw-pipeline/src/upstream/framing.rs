//! How long a message says that it is: a request on its way out, and what came back.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body::SizeHint;

use super::hop_by_hop::options;
use crate::fields::is_padded;

/// Makes the fields say what the body is, whatever the client's fields said: stages may have changed the body, and a
/// length that is wrong lets one request begin inside another.
///
/// Returns the length that the fields state and the body does not tell, which the body must be held to.
pub(super) fn frame(parts: &mut Parts, ended: bool, size: &SizeHint, http2: bool) -> Option<u64> {
    match (size.exact(), ended) {
        (Some(0), true) => {
            // RFC 9110 section 8.6: where content is expected, its absence is said, and some upstreams answer 411 otherwise.
            let expected =
                !http2 && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
            if expected || parts.headers.contains_key(CONTENT_LENGTH) {
                parts
                    .headers
                    .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        }
        (Some(length), _) => _ = parts.headers.insert(CONTENT_LENGTH, length.into()),
        (None, true) => _ = parts.headers.remove(CONTENT_LENGTH),
        (None, false) => {
            // A body that is to be empty would not be looked at, so whether it is stays open.
            let stated = sole_length(&parts.headers).filter(|length| *length > 0);
            if let Some(length) = stated {
                parts.headers.insert(CONTENT_LENGTH, length.into());
                return stated;
            }
            parts.headers.remove(CONTENT_LENGTH);
            // hyper takes a GET or HEAD without a length for one without a body.
            if !http2 && matches!(parts.method, Method::GET | Method::HEAD) {
                let chunked = HeaderValue::from_static("chunked");
                parts.headers.insert(TRANSFER_ENCODING, chunked);
            }
        }
    }
    None
}

/// Whether an answer of this status has no body, whatever its fields say (RFC 9110 sections 15.3.5 and 15.4.5).
pub(super) const fn has_no_body(status: StatusCode) -> bool {
    matches!(status.as_u16(), 204 | 304)
}

/// Whether an answer that has ended with its head does not say itself that it is empty: there is no body because of its status, or
/// because nobody asked for one.
pub(super) fn may_go_on(headers: &HeaderMap) -> bool {
    let length = headers.get(CONTENT_LENGTH);
    length.is_none_or(|length| length != "0") || headers.contains_key(TRANSFER_ENCODING)
}

/// Whether an answer without a body announces one that its status rules out.
///
/// The length in a 304 is that of what the client has. A transfer coding may stand there as well (RFC 9112 section 6.1), but who
/// writes it is more likely to send the end of a body than to know that.
pub(super) fn announces_in_vain(status: StatusCode, headers: &HeaderMap) -> bool {
    let states_length = || status == StatusCode::NO_CONTENT && headers.contains_key(CONTENT_LENGTH);
    has_no_body(status) && (headers.contains_key(TRANSFER_ENCODING) || states_length())
}

/// Whether an answer states no transfer coding and no more than one length, as nearly all do: it is then well framed, and
/// states one length. And no value has white space at its ends. One look at all fields costs less than two look-ups.
pub(super) fn is_plain(headers: &HeaderMap) -> bool {
    let mut stated = false;
    headers.iter().all(|(name, value)| {
        if *name == CONTENT_LENGTH {
            return !std::mem::replace(&mut stated, true) && is_number(value.as_bytes());
        }
        *name != TRANSFER_ENCODING && !is_padded(value)
    })
}

/// Whether an answer with a body leaves no doubt about where the body ends (RFC 9112 section 6.3).
pub(super) fn is_well_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(CONTENT_LENGTH)
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether the answer states no length, or one. One that is stated several times is stated once then (RFC 9110 section
/// 8.6): not all readers would take it for one.
pub(super) fn states_one_length(headers: &mut HeaderMap) -> bool {
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(line), None) if is_number(line.as_bytes()) => true,
        (Some(_), _) => match sole_length(headers) {
            Some(length) => {
                headers.insert(CONTENT_LENGTH, length.into());
                true
            }
            None => false,
        },
    }
}

/// The length that `Content-Length` states, be it several times (RFC 9110 section 8.6). `None` if it states none, or
/// more than one.
fn sole_length(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| options(line.as_bytes()).map(length));
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

fn length(digits: &[u8]) -> Option<u64> {
    // The parser would take a sign.
    let digits = str::from_utf8(digits).ok().filter(|_| is_number(digits))?;
    digits.parse().ok()
}

fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder();
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn lengths(lines: &[&str]) -> HeaderMap {
        let fields: Vec<_> = lines.iter().map(|line| ("content-length", *line)).collect();
        parts(&fields).headers
    }

    /// The lines of `Content-Length`.
    fn lines(headers: &HeaderMap) -> String {
        let lines = headers.get_all(CONTENT_LENGTH).iter();
        let lines: Vec<_> = lines.map(|line| line.to_str().unwrap()).collect();
        lines.join("|")
    }

    #[test]
    fn an_answer_tells_its_length_in_one_way() {
        let framed = |fields: &[(&str, &str)]| is_well_framed(&parts(fields).headers);
        assert!(framed(&[]));
        assert!(framed(&[("content-length", "3")]));
        assert!(framed(&[("transfer-encoding", "Chunked")]));
        let chunked = ("transfer-encoding", "chunked");
        assert!(!framed(&[chunked, ("content-length", "3")]));
        assert!(!framed(&[chunked, chunked]));
        assert!(!framed(&[("transfer-encoding", "gzip, chunked")]));
    }

    #[test]
    fn what_may_follow_a_head_without_a_body_is_told_apart() {
        let chunked = ("transfer-encoding", "chunked");
        for (fields, may, in_vain) in [
            (&[][..], true, [false, false, false]),
            (&[("content-length", "0")], false, [true, false, false]),
            (&[("content-length", "5")], true, [true, false, false]),
            (&[chunked], true, [true, true, false]),
            (
                &[chunked, ("content-length", "0")],
                true,
                [true, true, false],
            ),
        ] {
            let headers = parts(fields).headers;
            assert_eq!(may_go_on(&headers), may, "{fields:?}");
            for (status, in_vain) in [204, 304, 200].into_iter().zip(in_vain) {
                let status = StatusCode::from_u16(status).unwrap();
                let announces = announces_in_vain(status, &headers);
                assert_eq!(announces, in_vain, "{status} {fields:?}");
            }
        }
    }

    #[test]
    fn the_quick_look_and_the_close_ones_agree() {
        let lines = [
            ("content-length", "3"),
            ("content-length", "x"),
            ("transfer-encoding", "chunked"),
            ("content-type", "text/plain"),
            ("x-padded", "1 "),
        ];
        for picked in 0..1 << (2 * lines.len()) {
            let twice = lines.iter().chain(&lines).enumerate();
            let fields = twice.filter(|(bit, _)| picked & (1 << bit) != 0);
            let mut headers = parts(&fields.map(|(_, line)| *line).collect::<Vec<_>>()).headers;
            let count = |headers: &HeaderMap, name| headers.get_all(name).iter().count();
            let codings = count(&headers, TRANSFER_ENCODING);
            let (plain, several) = (is_plain(&headers), count(&headers, CONTENT_LENGTH) > 1);
            let padded = headers.values().any(is_padded);
            let close = is_well_framed(&headers) && states_one_length(&mut headers);
            // What is not plain may be in order all the same; what is plain is, and is left as it is.
            assert_eq!(
                plain,
                close && codings == 0 && !several && !padded,
                "{headers:?}"
            );
        }
    }

    #[test]
    fn a_length_that_is_stated_twice_is_stated_once() {
        let states = |stated: &[&str]| {
            let mut headers = lengths(stated);
            states_one_length(&mut headers).then(|| lines(&headers))
        };
        assert_eq!(states(&[]).unwrap(), "");
        assert_eq!(states(&["5"]).unwrap(), "5");
        assert_eq!(states(&["5, 5"]).unwrap(), "5");
        assert_eq!(states(&["5", "5"]).unwrap(), "5");
        for bad in [&["5, 6"][..], &["5", "6"], &["x"], &["+5"]] {
            assert_eq!(states(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let length = |fields: &[(&str, &str)], ended, size: SizeHint| {
            let mut request = parts(fields);
            let held = frame(&mut request, ended, &size, false);
            let chunked = request.headers.contains_key(TRANSFER_ENCODING);
            (lines(&request.headers), chunked, held)
        };
        let is = |length: &str, chunked, held| (length.to_owned(), chunked, held);
        let stated = &[("content-length", "5")][..];
        let empty = SizeHint::with_exact(0);
        let unknown = SizeHint::default;
        assert_eq!(length(stated, true, empty), is("0", false, None));
        assert_eq!(length(&[], true, empty), is("", false, None));
        let three = SizeHint::with_exact(3);
        assert_eq!(length(stated, false, three), is("3", false, None));
        assert_eq!(length(stated, false, unknown()), is("5", false, Some(5)));
        assert_eq!(length(&[], false, unknown()), is("", true, None));
        let zero = &[("content-length", "0")][..];
        assert_eq!(length(zero, false, unknown()), is("", true, None));
        let twice = &[("content-length", "5, 5"), ("content-length", "5")][..];
        assert_eq!(length(twice, false, unknown()), is("5", false, Some(5)));
        let two = &[("content-length", "5"), ("content-length", "6")][..];
        assert_eq!(length(two, false, unknown()), is("", true, None));
    }

    /// Story: over HTTP/2 no length is stated, and some upstreams answer a POST without one 411.
    #[test]
    fn a_method_that_has_content_says_that_there_is_none() {
        let length = |method: Method, http2| {
            let mut parts = parts(&[]);
            parts.method = method;
            frame(&mut parts, true, &SizeHint::with_exact(0), http2);
            lines(&parts.headers)
        };
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            assert_eq!(length(method.clone(), false), "0", "{method}");
            assert_eq!(length(method.clone(), true), "", "{method}");
        }
        for method in [Method::GET, Method::HEAD, Method::DELETE, Method::OPTIONS] {
            assert_eq!(length(method.clone(), false), "", "{method}");
        }
    }

    #[test]
    fn a_length_is_digits_and_one() {
        let sole = |stated: &[&str]| sole_length(&lengths(stated));
        assert_eq!(sole(&["12"]), Some(12));
        assert_eq!(sole(&["12, 12", "12"]), Some(12));
        for bad in [
            &[][..],
            &[""],
            &["+1"],
            &["1,"],
            &["1, 2"],
            &["1", "2"],
            &["18446744073709551616"],
        ] {
            assert_eq!(sole(bad), None, "{bad:?}");
        }
    }
}
