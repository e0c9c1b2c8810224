//! The head of a request, kept to be sent again.

use gw_core::context::{Deadline, TraceContext};
use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version, request,
};

use crate::context::{CopyExtensions, Known};

/// What is needed to send a request's head once more.
#[derive(Debug)]
pub(crate) struct Head {
    method: Method,
    uri: Uri,
    version: Version,
    /// In a row and not in a map: nearly all requests are sent once, and a map is dear to clone.
    fields: Vec<(HeaderName, HeaderValue)>,
    /// None if nothing is known, as where there is no gateway around.
    known: Option<Known>,
}

impl Head {
    /// Without what is in the extensions, see [`Head::learn`].
    #[inline]
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
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
            known: None,
        }
    }

    /// Takes what goes along out of the request's extensions. Where the head is to stay: what is known is most of its size.
    #[inline]
    pub(crate) fn learn(&mut self, extensions: &Extensions, copy: Option<&CopyExtensions>) {
        if !extensions.is_empty() {
            self.known = Some(Known::of(extensions, copy));
        }
    }

    pub(crate) fn deadline(&self) -> Option<Deadline> {
        self.known.as_ref().and_then(Known::deadline)
    }

    pub(crate) fn trace(&self) -> Option<&TraceContext> {
        self.known.as_ref().and_then(Known::trace)
    }

    /// What a layer has noted of its refusal does not come true.
    pub(crate) fn forget_refusal(&self) {
        if let Some(known) = &self.known {
            known.forget_refusal();
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
        if let Some(known) = &self.known {
            parts.extensions = known.extensions();
        }
        parts
    }
}
