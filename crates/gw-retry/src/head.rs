//! The head of a request, kept to be sent again.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request};

use crate::context::{CopyExtensions, Known};

/// What is needed to send a request's head once more.
#[derive(Debug)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    /// In a row and not in a map: nearly all requests are sent once, and a map is dear to clone.
    fields: Vec<(HeaderName, HeaderValue)>,
    pub(crate) known: Known,
}

impl Head {
    #[inline]
    pub(crate) fn of<B>(request: &Request<B>, copy: Option<&CopyExtensions>) -> Self {
        let headers = request.headers();
        let mut fields = Vec::with_capacity(headers.len());
        fields.extend(
            headers
                .iter()
                .map(|(name, value)| (name.clone(), value.clone())),
        );
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            fields,
            known: Known::of(request.extensions(), copy),
        }
    }

    /// The head of another attempt.
    pub(crate) fn again(&self) -> request::Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.version = self.version;
        parts.headers = HeaderMap::with_capacity(self.fields.len() + 2);
        for (name, value) in &self.fields {
            parts.headers.append(name.clone(), value.clone());
        }
        parts.extensions = self.known.extensions();
        parts
    }
}
