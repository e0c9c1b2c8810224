//! The head of a request, kept to be sent again.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request, uri,
};
use smallvec::SmallVec;

use self::text::Text;
use crate::context::Known;

mod text;

/// What is needed to send a request's head once more.
///
/// As text, which is parsed again for a retry. Nearly all requests are sent once, and the first clone of a name, value or path that is
/// memory of its own allocates: most are, of what was read from HTTP/2 or built. Any other clone counts references.
pub(crate) struct Head {
    method: Method,
    version: Version,
    scheme: Option<Scheme>,
    /// Authority, path, and name and value of each field, one behind the other.
    text: Text,
    authority: usize,
    path: usize,
    /// In a row and not in a map, which is dear to make.
    fields: SmallVec<[Field; 12]>,
}

/// How long a field's name and value are. In eight bytes: there is room for some of them in each [`Head`].
struct Field {
    value: u32,
    name: u16,
    sensitive: bool,
}

/// How many attempts of a gRPC call went before (gRPC proposal A6).
pub(crate) const PREVIOUS_RPC_ATTEMPTS: HeaderName =
    HeaderName::from_static("grpc-previous-rpc-attempts");

/// Whether the client of a gRPC call has sent it before.
pub(crate) fn is_grpc_retry(headers: &HeaderMap) -> bool {
    let before = headers.get_all(PREVIOUS_RPC_ATTEMPTS);
    before.iter().any(|value| is_above(0, value))
}

/// Whether a field has a larger number. What is none says nothing.
#[cold]
fn is_above(least: u64, value: &HeaderValue) -> bool {
    let is_above = |part: &[u8]| {
        let digits = part.trim_ascii();
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        // One that is too long is large.
        let number = str::from_utf8(digits).map(|text| text.parse().unwrap_or(u64::MAX));
        is_number && number.is_ok_and(|number| number > least)
    };
    // Several fields may have been made one line.
    value.as_bytes().split(|byte| *byte == b',').any(is_above)
}

impl Head {
    /// Of a request, as far as it takes no copying. The rest is written into its place by [`keep`](Self::keep).
    #[inline]
    pub(crate) fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            version: request.version(),
            scheme: None,
            text: Text::new(),
            authority: 0,
            path: 0,
            fields: SmallVec::new(),
        }
    }

    /// Keeps target and fields, unless one of these says that the request must not be sent again: one that takes the connection over
    /// cannot be sent twice, and what was sent again further out, as the field `attempt` says, is not sent again here. Whether
    /// it may be. What is in the extensions is kept elsewhere, see [`Known`].
    #[inline]
    pub(crate) fn keep<B>(&mut self, request: &Request<B>, attempt: &HeaderName) -> bool {
        let uri = request.uri();
        if let Some(authority) = uri.authority() {
            self.scheme = uri.scheme().cloned();
            self.authority = self.push(authority.as_str());
        }
        // Asked for what is not there, `PathAndQuery` says `/`.
        if let Some(path) = uri.path_and_query().filter(|_| !uri.path().is_empty()) {
            self.path = self.push(path.as_str());
        }
        let headers = request.headers();
        self.fields.reserve_exact(headers.len());
        // Seen as they go by: to look for the two would cost more than to copy all of them does.
        for (name, value) in headers {
            if name == header::UPGRADE || name == attempt && is_above(1, value) {
                return false;
            }
            let name = self.push(name.as_str());
            self.text.push(value.as_bytes());
            let (Ok(name), Ok(length)) = (name.try_into(), value.len().try_into()) else {
                return false;
            };
            self.fields.push(Field {
                value: length,
                name,
                sensitive: value.is_sensitive(),
            });
        }
        true
    }

    /// Keeps a piece of text, and says how long it is.
    #[inline]
    fn push(&mut self, piece: &str) -> usize {
        self.text.push(piece.as_bytes());
        piece.len()
    }

    /// The head of another attempt, with what is known of the request. None only for what no parser takes, and so no server has read, and
    /// for some 24,000 fields.
    pub(crate) fn again(&self, known: Option<&Known>) -> Option<request::Parts> {
        let mut text = self.text.pieces();
        let mut target = uri::Parts::default();
        target.scheme.clone_from(&self.scheme);
        if self.authority > 0 {
            target.authority = Some(Authority::try_from(text.next(self.authority)?).ok()?);
        }
        if self.path > 0 {
            target.path_and_query = Some(PathAndQuery::try_from(text.next(self.path)?).ok()?);
        }
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = Uri::from_parts(target).ok()?;
        parts.version = self.version;
        // With room for two that say which attempt it is. A map has a bound, up to which each value counts as if its name were another.
        parts.headers = HeaderMap::try_with_capacity(self.fields.len() + 2).ok()?;
        for field in &self.fields {
            // Not by `from_bytes`, which takes less than HTTP/2 does.
            let name = HeaderName::from_lowercase(text.next(usize::from(field.name))?).ok()?;
            let value = text.next(usize::try_from(field.value).ok()?)?;
            let mut value = HeaderValue::from_bytes(value).ok()?;
            value.set_sensitive(field.sensitive);
            parts.headers.append(name, value);
        }
        if let Some(known) = known {
            parts.extensions = known.extensions();
        }
        Some(parts)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What is sent if this is sent again.
    fn again<B>(request: &Request<B>) -> request::Parts {
        let mut head = Head::new(request);
        assert!(head.keep(request, &header::MAX_FORWARDS));
        head.again(None).unwrap()
    }

    #[test]
    fn a_target_of_any_form_goes_out_as_it_came() {
        for target in [
            "/",
            "/a?b=c",
            "//a",
            "/a?",
            "/\u{fc}",
            "*",
            "http://orders/",
            "http://orders?b=c",
            "http://orders:8080/a?b=c",
            "other://user:word@[::1]:8080/a",
            "orders:8080",
        ] {
            let request = Request::get(target).body(()).unwrap();
            assert_eq!(again(&request).uri, *request.uri(), "{target}");
        }
        let empty = Uri::from_parts(uri::Parts::default()).unwrap();
        let request = Request::get(empty).body(()).unwrap();
        assert_eq!(again(&request).uri.path(), "");
    }

    #[test]
    fn what_a_map_has_no_room_for_is_not_sent_again() {
        let mut request = Request::new(());
        for _ in 0..24_575 {
            let value = HeaderValue::from_static("");
            request.headers_mut().append("x-a", value);
        }
        let mut head = Head::new(&request);
        assert!(head.keep(&request, &header::MAX_FORWARDS));
        assert!(head.again(None).is_none());
    }

    #[test]
    fn a_value_that_is_sensitive_stays_so() {
        let mut request = Request::new(());
        let mut value = HeaderValue::from_static("a:b;c");
        request.headers_mut().append("x-a", value.clone());
        value.set_sensitive(true);
        request.headers_mut().append("x-a", value);
        let fields = again(&request).headers;
        assert_eq!(fields, *request.headers());
        let sensitive = fields.get_all("x-a").iter().map(HeaderValue::is_sensitive);
        assert!(sensitive.eq([false, true]));
    }

    fn name() -> impl Strategy<Value = HeaderName> {
        let bytes = prop_oneof![
            "(accept|host|cookie)".prop_map(String::into_bytes),
            // With what names have over HTTP/2 only.
            "[\"!#$%&'*+.^_`|~a-z0-9-]{1,100}".prop_map(String::into_bytes),
        ];
        bytes.prop_map(|name| HeaderName::from_lowercase(&name).unwrap())
    }

    fn value() -> impl Strategy<Value = HeaderValue> {
        let byte = prop_oneof![Just(b'\t'), 32..=126_u8, 128..=255_u8];
        vec(byte, 0..200).prop_map(|value| HeaderValue::from_bytes(&value).unwrap())
    }

    proptest! {
        #[test]
        fn fields_go_out_as_they_came(fields in vec((name(), value()), 0..12)) {
            let mut request = Request::new(());
            for (name, value) in fields {
                request.headers_mut().append(name, value);
            }
            prop_assume!(request.headers().get(header::UPGRADE).is_none());
            let again = again(&request).headers;
            prop_assert_eq!(&again, request.headers());
            prop_assert!(again.iter().eq(request.headers()));
        }
    }
}
