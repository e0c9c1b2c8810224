use http::{HeaderMap, header};

use super::split::Format;

/// The format that a request names, if it is one of ours in UTF-8.
pub(super) fn format(headers: &HeaderMap) -> Option<Format> {
    let mut values = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let mut parts = value.to_str().ok()?.split(';').map(str::trim);
    let kind = parts.next()?;
    // JSON is UTF-8 by its definition, but a client that says otherwise means it.
    let foreign_charset = parts.any(|parameter| {
        parameter
            .split_once('=')
            .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
            .is_some_and(|(_, charset)| {
                !charset
                    .trim()
                    .trim_matches('"')
                    .eq_ignore_ascii_case("utf-8")
            })
    });
    if foreign_charset {
        None
    } else if kind.eq_ignore_ascii_case("application/json") {
        Some(Format::Json)
    } else if kind.eq_ignore_ascii_case("application/x-ndjson") {
        Some(Format::Ndjson)
    } else {
        None
    }
}

/// Whether the body is as it was written: no coding, or `identity`.
pub(super) fn is_identity(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::CONTENT_ENCODING)
        .iter()
        .all(|value| {
            value.to_str().is_ok_and(|codings| {
                codings
                    .split(',')
                    .all(|coding| coding.trim().eq_ignore_ascii_case("identity"))
            })
        })
}

/// The body's length, as announced. One that is not a number is the server's to refuse.
pub(super) fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}

/// Through how many intakes the events have gone; a number too large to read is large.
pub(super) fn hops(headers: &HeaderMap) -> u32 {
    let Some(value) = headers.get(super::fields::HOPS) else {
        return 0;
    };
    let digits = value.as_bytes();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    value
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(u32::MAX)
}

/// Whether the query asks for all or nothing.
///
/// `Err` unless it says `true` or `false`, and says it once: who asks for all or nothing in a way that is not understood must
/// not get a part.
pub(super) fn atomic(query: Option<&str>) -> Result<bool, ()> {
    let pairs = query.unwrap_or_default().split('&');
    let mut values = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .filter_map(|(name, value)| (name == "atomic").then_some(value));
    match (values.next(), values.next()) {
        (None, _) | (Some("false"), None) => Ok(false),
        (Some("true"), None) => Ok(true),
        _ => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn media_types() {
        for (value, expected) in [
            ("application/json", Some(Format::Json)),
            ("Application/JSON ; Charset=\"UTF-8\"", Some(Format::Json)),
            ("application/x-ndjson;charset=utf-8", Some(Format::Ndjson)),
            ("application/json; charset=latin1", None),
            ("application/jsonx", None),
            ("text/plain", None),
            ("", None),
        ] {
            assert_eq!(
                format(&headers(&[("content-type", value)])),
                expected,
                "{value}"
            );
        }
        assert_eq!(format(&headers(&[])), None);
        let two = [
            ("content-type", "application/json"),
            ("content-type", "application/json"),
        ];
        assert_eq!(format(&headers(&two)), None);
    }

    #[test]
    fn codings() {
        assert!(is_identity(&headers(&[])));
        assert!(is_identity(&headers(&[("content-encoding", "Identity")])));
        for coding in ["gzip", "identity, gzip", "", "zstd"] {
            assert!(
                !is_identity(&headers(&[("content-encoding", coding)])),
                "{coding}"
            );
        }
    }

    #[test]
    fn hops_and_atomic() {
        for (value, expected) in [
            ("0", 0),
            ("3", 3),
            ("-1", 0),
            ("x", 0),
            ("", 0),
            ("99999999999999", u32::MAX),
        ] {
            assert_eq!(
                hops(&headers(&[("x-gw-log-hops", value)])),
                expected,
                "{value}"
            );
        }
        for (query, expected) in [
            (None, Ok(false)),
            (Some("a=b"), Ok(false)),
            (Some("atomic=true"), Ok(true)),
            (Some("a=b&atomic=false"), Ok(false)),
            (Some("atomic=1"), Err(())),
            (Some("atomic="), Err(())),
            // A flag without a value was taken for no wish at all, and of two the first one counted.
            (Some("atomic"), Err(())),
            (Some("a=b&atomic&c"), Err(())),
            (Some("atomic=false&atomic=true"), Err(())),
            (Some("atomic=true&atomic=true"), Err(())),
            (Some("atomic==true"), Err(())),
            (Some("atomics=true&anatomic=yes&=atomic&"), Ok(false)),
        ] {
            assert_eq!(atomic(query), expected, "{query:?}");
        }
    }
}
