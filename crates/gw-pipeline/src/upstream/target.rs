//! What a request says about where it goes and how long it is.

use http::header::{CONTENT_LENGTH, COOKIE, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Version};
use http_body::SizeHint;

use super::config::HostHeader;
use super::hop_by_hop::options;

/// A place that serves an upstream.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// With the path `/`, as the connector wants it.
    pub(super) uri: Uri,
    authority: Authority,
    host: HeaderValue,
}

/// The client's host cannot stand in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InvalidHost;

impl Endpoint {
    pub(super) fn new(authority: Authority) -> Option<Self> {
        let host = HeaderValue::from_str(authority.as_str()).ok()?;
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(authority.clone())
            .path_and_query("/")
            .build()
            .ok()?;
        Some(Self {
            uri,
            authority,
            host,
        })
    }

    /// Makes a request one for this endpoint over HTTP/1.1: target in origin form, `Host` set.
    pub(super) fn aim_http1(
        &self,
        parts: &mut Parts,
        policy: HostHeader,
    ) -> Result<(), InvalidHost> {
        let preserved = policy == HostHeader::Preserve
            && parts.uri.authority().is_none()
            && parts.headers.get_all(HOST).iter().count() == 1;
        if !preserved {
            let host = match policy {
                HostHeader::Preserve => requested_host(parts)?,
                HostHeader::Upstream => None,
            };
            parts
                .headers
                .insert(HOST, host.unwrap_or_else(|| self.host.clone()));
        }
        join_cookies(&mut parts.headers);
        parts.uri = match parts.uri.path_and_query() {
            Some(path) => Uri::from(path.clone()),
            None => Uri::default(),
        };
        parts.version = Version::HTTP_11;
        Ok(())
    }

    /// Makes a request one for this endpoint over HTTP/2: scheme and authority in the target, no `Host`.
    pub(super) fn aim_http2(
        &self,
        parts: &mut Parts,
        policy: HostHeader,
    ) -> Result<(), InvalidHost> {
        let authority = match (policy, requested_host(parts)?) {
            (HostHeader::Preserve, Some(host)) => {
                Authority::try_from(host.as_bytes()).map_err(|_| InvalidHost)?
            }
            _ => self.authority.clone(),
        };
        parts.headers.remove(HOST);
        let path = parts.uri.path_and_query().cloned();
        let mut target = http::uri::Parts::default();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(authority);
        target.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        parts.uri = Uri::from_parts(target).map_err(|_| InvalidHost)?;
        parts.version = Version::HTTP_2;
        Ok(())
    }
}

/// The host that the client asked for. An authority in the target wins over `Host` (RFC 9112 section 3.2.2).
pub(super) fn requested_host(parts: &Parts) -> Result<Option<HeaderValue>, InvalidHost> {
    match parts.uri.authority() {
        Some(authority) => {
            let text = authority.as_str();
            let host = text.rsplit_once('@').map_or(text, |(_user, host)| host);
            HeaderValue::from_str(host)
                .map(Some)
                .map_err(|_| InvalidHost)
        }
        None => Ok(parts.headers.get(HOST).cloned()),
    }
}

/// HTTP/2 clients may send cookies in crumbs; HTTP/1 knows one field only (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if crumbs.len() < 2 {
        return;
    }
    // Values put together with visible characters make a value again.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
}

/// Makes the fields say what the body is, whatever the client's fields said: stages may have changed the body, and a
/// length that is wrong lets one request begin inside another.
///
/// Returns the length that the fields state and the body does not tell, which the body must be held to.
pub(super) fn frame(parts: &mut Parts, ended: bool, size: &SizeHint, http2: bool) -> Option<u64> {
    match (size.exact(), ended) {
        (Some(0), true) => {
            if parts.headers.contains_key(CONTENT_LENGTH) {
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

/// The length that `Content-Length` states, be it several times (RFC 9110 section 8.6). `None` if it states none, or
/// more than one.
pub(super) fn sole_length(headers: &HeaderMap) -> Option<u64> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let mut lengths = lines.flat_map(|line| options(line.as_bytes()).map(length));
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

fn length(digits: &[u8]) -> Option<u64> {
    // The parser would take a sign.
    let plain = digits.iter().all(u8::is_ascii_digit);
    let digits = str::from_utf8(digits).ok().filter(|_| plain)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new(Authority::from_static("10.0.0.7:9001")).unwrap()
    }

    fn parts(target: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn http1_has_origin_form_and_host() {
        let mut request = parts("/a%2Fb;c?x=%20&y", &[("host", "shop.example")]);
        endpoint()
            .aim_http1(&mut request, HostHeader::Preserve)
            .unwrap();
        assert_eq!(request.uri, "/a%2Fb;c?x=%20&y");
        assert_eq!(request.headers[HOST], "shop.example");
        endpoint()
            .aim_http1(&mut request, HostHeader::Upstream)
            .unwrap();
        assert_eq!(request.headers[HOST], "10.0.0.7:9001");
    }

    #[test]
    fn the_target_wins_over_host() {
        let mut request = parts("http://u:p@shop.example:81/a", &[("host", "other.example")]);
        endpoint()
            .aim_http1(&mut request, HostHeader::Preserve)
            .unwrap();
        assert_eq!(request.uri, "/a");
        assert_eq!(request.headers[HOST], "shop.example:81");
    }

    #[test]
    fn http2_has_an_authority_and_no_host() {
        let mut request = parts("/a?b", &[("host", "shop.example")]);
        endpoint()
            .aim_http2(&mut request, HostHeader::Preserve)
            .unwrap();
        assert_eq!(request.uri, "http://shop.example/a?b");
        assert!(!request.headers.contains_key(HOST));
        let mut request = parts("/", &[("host", "a b")]);
        let aimed = endpoint().aim_http2(&mut request, HostHeader::Preserve);
        assert_eq!(aimed, Err(InvalidHost));
        let mut request = parts("/", &[]);
        endpoint()
            .aim_http2(&mut request, HostHeader::Preserve)
            .unwrap();
        assert_eq!(request.uri, "http://10.0.0.7:9001/");
    }

    #[test]
    fn cookie_crumbs_are_joined_for_http1() {
        let mut request = parts("/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        endpoint()
            .aim_http1(&mut request, HostHeader::Upstream)
            .unwrap();
        assert_eq!(request.headers.get_all(COOKIE).iter().count(), 1);
        assert_eq!(request.headers[COOKIE], "a=1; b=2");
    }

    #[test]
    fn the_length_is_that_of_the_body() {
        let length = |fields: &[(&str, &str)], ended, size: SizeHint| {
            let mut request = parts("/", fields);
            let held = frame(&mut request, ended, &size, false);
            let lines = request.headers.get_all(CONTENT_LENGTH).iter();
            let lines: Vec<_> = lines
                .map(|line| line.to_str().unwrap().to_owned())
                .collect();
            let chunked = request.headers.contains_key(TRANSFER_ENCODING);
            (lines.join("|"), chunked, held)
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

    #[test]
    fn a_length_is_digits_and_one() {
        let sole = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_LENGTH, line.parse().unwrap());
            }
            sole_length(&headers)
        };
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
