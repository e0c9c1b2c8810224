//! The head of a request, kept to be sent again.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request, uri,
};

use self::fields::Fields;
use crate::context::Known;

mod fields;

/// What is needed to send a request's head once more.
#[derive(Debug)]
pub(crate) struct Head {
    method: Method,
    // The target in its parts, and not as a whole: most are a path and no more, which is half as dear to clone.
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    version: Version,
    fields: Fields,
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
    /// The path of a request, for [`keep`](Self::keep). Asked for well before that: a processor waits with moving on what has just been
    /// written in pieces, as by a clone, and has something else to do until then.
    #[inline]
    pub(crate) fn path_of<B>(request: &Request<B>) -> Option<PathAndQuery> {
        request.uri().path_and_query().cloned()
    }

    /// Of a request, as far as it takes no copying. The rest is written into its place by [`keep`](Self::keep).
    #[inline]
    pub(crate) fn new<B>(request: &Request<B>) -> Self {
        Self {
            method: request.method().clone(),
            scheme: None,
            authority: None,
            path: None,
            version: request.version(),
            fields: Fields::new(),
        }
    }

    /// Keeps target, which is `path` if that is all of it, and fields, unless one of these says that the request must not be sent again: one that takes the connection over cannot be
    /// sent twice, and what was sent again further out, as the field `attempt` says, is not sent again here. Whether it may be. What is
    /// in the extensions is kept elsewhere, see [`Known`].
    #[inline]
    pub(crate) fn keep<B>(
        &mut self,
        request: &Request<B>,
        path: Option<PathAndQuery>,
        attempt: &HeaderName,
    ) -> bool {
        let headers = request.headers();
        self.fields.reserve(headers.len());
        // Seen as they go by: to look for the two would cost more than to copy all of them does.
        for (name, value) in headers {
            if name == header::UPGRADE || name == attempt && is_above(1, value) {
                return false;
            }
            self.fields.push(name, value);
        }
        let uri = request.uri();
        if let Some(authority) = uri.authority() {
            self.scheme = uri.scheme().cloned();
            self.authority = Some(authority.clone());
        }
        self.path = path;
        true
    }

    fn uri(&self) -> Uri {
        let mut parts = uri::Parts::default();
        parts.scheme.clone_from(&self.scheme);
        parts.authority.clone_from(&self.authority);
        parts.path_and_query.clone_from(&self.path);
        // It was one before.
        Uri::from_parts(parts).unwrap_or_default()
    }

    /// The head of another attempt, with what is known of the request.
    pub(crate) fn again(&self, known: Option<&Known>) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri();
        parts.version = self.version;
        parts.headers = self.fields.map(2);
        if let Some(known) = known {
            parts.extensions = known.extensions();
        }
        parts
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_any_form_goes_out_as_it_came() {
        for target in [
            "/",
            "/a?b=c",
            "*",
            "http://orders/",
            "http://orders:8080/a?b=c",
            "orders:8080",
        ] {
            let request = Request::get(target).body(()).unwrap();
            let mut head = Head::new(&request);
            assert!(head.keep(&request, Head::path_of(&request), &header::ACCEPT));
            assert_eq!(head.again(None).uri, *request.uri(), "{target}");
        }
    }
}
