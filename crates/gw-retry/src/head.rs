//! The head of a request, kept to be sent again.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, header, request};

use crate::context::Known;

/// What is needed to send a request's head once more.
#[derive(Debug)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    fields: Fields,
}

/// How many attempts of a gRPC call went before (gRPC proposal A6).
pub(crate) const PREVIOUS_RPC_ATTEMPTS: HeaderName =
    HeaderName::from_static("grpc-previous-rpc-attempts");

/// In a row and not in a map: nearly all requests are sent once, and a map is dear to clone.
type Fields = Vec<(HeaderName, HeaderValue)>;

/// The fields of a request, unless it must not be sent again: one that takes the connection over cannot be sent twice, and what
/// was sent again further out, as the field `attempt` says, is not sent again here.
#[inline]
pub(crate) fn fields<B>(request: &Request<B>, attempt: &HeaderName) -> Option<Fields> {
    if request.method() == Method::CONNECT {
        return None;
    }
    let headers = request.headers();
    let mut fields = Fields::with_capacity(headers.len());
    // Seen as they go by: to look for the two would cost more than to copy all of them does.
    for (name, value) in headers {
        if name == header::UPGRADE || name == attempt && is_above(1, value) {
            return None;
        }
        fields.push((name.clone(), value.clone()));
    }
    Some(fields)
}

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
    /// Of a request with these fields. Without what is in the extensions, see [`Known`].
    #[inline]
    pub(crate) fn of<B>(request: &Request<B>, fields: Fields) -> Self {
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields,
        }
    }

    /// The head of another attempt, with what is known of the request.
    pub(crate) fn again(&self, known: Option<&Known>) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.version = self.version;
        parts.headers = HeaderMap::with_capacity(self.fields.len() + 2);
        for (name, value) in &self.fields {
            parts.headers.append(name.clone(), value.clone());
        }
        if let Some(known) = known {
            parts.extensions = known.extensions();
        }
        parts
    }
}
