//! What a request says about where it goes.

use http::header::{COOKIE, HOST};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Version};

use super::config::HostHeader;

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
        // One look at all fields costs less than two look-ups.
        let (mut hosts, mut cookies) = (0, 0);
        for (name, _) in &parts.headers {
            hosts += usize::from(*name == HOST);
            cookies += usize::from(*name == COOKIE);
        }
        let preserved =
            policy == HostHeader::Preserve && parts.uri.authority().is_none() && hosts == 1;
        if !preserved {
            let host = match policy {
                HostHeader::Preserve => requested_host(parts)?,
                HostHeader::Upstream => None,
            };
            parts
                .headers
                .insert(HOST, host.unwrap_or_else(|| self.host.clone()));
        }
        if cookies > 1 {
            join_cookies(&mut parts.headers);
        }
        // As behind the route stage: a path and a query are left as they are.
        if parts.uri.authority().is_some() || parts.uri.scheme().is_some() {
            parts.uri = match parts.uri.path_and_query() {
                Some(path) => Uri::from(path.clone()),
                None => Uri::default(),
            };
        }
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
    let crumbs = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let crumbs: Vec<&[u8]> = crumbs.collect();
    // Values put together with visible characters make a value again.
    if let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, cookie);
    }
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
}
