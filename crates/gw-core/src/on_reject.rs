//! How a refusal becomes an answer.
//!
//! A layer is generic over an [`OnReject`] and leaves the form of its refusals to it:
//!
//! | renderer | answers | asks for | error of the service |
//! |---|---|---|---|
//! | [`Respond`] (default) | JSON envelope | `ResBody: From<Bytes>` | unchanged |
//! | [`RespondWith`] | JSON envelope | a function from bytes to the body | unchanged |
//! | [`Problem`] | RFC 9457 problem document | `ResBody: From<Bytes>` | unchanged |
//! | [`Fail`] | nothing: passes the refusal on as an error | nothing | [`LayerError`] |
//!
//! The first three answer gRPC callers with a trailers-only response, and put the [`Rejection`] into the
//! response's extensions.

mod context;
mod render;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;

pub use self::context::{Caller, RejectContext};
use self::render::{Format, render};
use crate::rejection::Rejection;

/// Turns a refusal, or the inner service's error, into what the layered service returns.
pub trait OnReject<Res, E> {
    /// The error of the layered service.
    type Error;

    /// The outcome for a refused request.
    fn reject(&self, rejection: Rejection, context: &RejectContext) -> Result<Res, Self::Error>;

    /// The error of the layered service for an error of the inner one. The type alone knows it, so that a future which waits
    /// for the inner service need not keep the renderer.
    fn inner(error: E) -> Self::Error
    where
        Self: Sized;
}

/// Where the documentation of codes is: the base of `documentation_url` in answers, ready to be followed by a page.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Documentation(Option<Arc<str>>);

impl Documentation {
    /// Pages below `base`. A slash goes in between, unless the base ends in one, or in a way that a page is to follow
    /// at once: `#`, `?` or `=`.
    fn below(base: Arc<str>) -> Self {
        let complete = base.ends_with(['/', '#', '?', '=']);
        Self(Some(if complete {
            base
        } else {
            format!("{base}/").into()
        }))
    }

    /// Where a page is. Its leading slash is the base's.
    fn url(&self, page: &str) -> Option<String> {
        let base = self.0.as_deref()?;
        Some(format!("{base}{}", page.trim_start_matches('/')))
    }
}

/// Answers with the JSON envelope.
///
/// ```json
/// {"error":{"code":"…","message":"…","details":{},"request_id":"…","trace_id":"…","documentation_url":"…"}}
/// ```
///
/// `details` is always there; the last three stand only where known: the trace where somebody observes.
#[derive(Debug, Clone, Default)]
pub struct Respond {
    documentation: Documentation,
}

impl Respond {
    /// Answers without documentation links.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers link to `base` followed by the code's page, with one slash in between. A base that ends in `#`, `?` or
    /// `=` is followed by the page at once.
    #[must_use]
    pub fn documentation_url(mut self, base: impl Into<Arc<str>>) -> Self {
        self.documentation = Documentation::below(base.into());
        self
    }

    /// The same answers with a body that is not `From<Bytes>`.
    pub fn with_body<B>(self, body: fn(Bytes) -> B) -> RespondWith<B> {
        RespondWith {
            documentation: self.documentation,
            body,
        }
    }
}

impl<B: From<Bytes>, E> OnReject<Response<B>, E> for Respond {
    type Error = E;

    fn reject(&self, rejection: Rejection, context: &RejectContext) -> Result<Response<B>, E> {
        Ok(render(
            Format::Envelope,
            rejection,
            context,
            &self.documentation,
            B::from,
        ))
    }

    fn inner(error: E) -> E {
        error
    }
}

/// Answers like [`Respond`], with a body made by a function: for tonic's body, boxed bodies and the like.
pub struct RespondWith<B> {
    documentation: Documentation,
    body: fn(Bytes) -> B,
}

impl<B> RespondWith<B> {
    /// Answers without documentation links, with bodies made by `body`.
    pub fn new(body: fn(Bytes) -> B) -> Self {
        Respond::new().with_body(body)
    }
}

// Both by hand: a derive would ask the same of `B`, and it is a function that is cloned or shown, not a body.
impl<B> fmt::Debug for RespondWith<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RespondWith")
            .field("documentation", &self.documentation)
            .finish_non_exhaustive()
    }
}

impl<B> Clone for RespondWith<B> {
    fn clone(&self) -> Self {
        Self {
            documentation: self.documentation.clone(),
            body: self.body,
        }
    }
}

impl<B, E> OnReject<Response<B>, E> for RespondWith<B> {
    type Error = E;

    fn reject(&self, rejection: Rejection, context: &RejectContext) -> Result<Response<B>, E> {
        Ok(render(
            Format::Envelope,
            rejection,
            context,
            &self.documentation,
            self.body,
        ))
    }

    fn inner(error: E) -> E {
        error
    }
}

/// Answers with a problem document (RFC 9457) of type `application/problem+json`.
///
/// `type` is the registered type if the refusal is of one, else the documentation link where a base is known, else
/// `about:blank`; `title` is the message, but with `about:blank` the status's phrase, and the message is `detail`; `code`, `details`,
/// `request_id` and `trace_id` are extension members, and so is what the registered type defines.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    documentation: Documentation,
}

impl Problem {
    /// Problems of type `about:blank`, unless they are of a registered type.
    pub fn new() -> Self {
        Self::default()
    }

    /// The type of a problem is `base` followed by the code's page, joined as [`Respond::documentation_url`] does.
    #[must_use]
    pub fn documentation_url(mut self, base: impl Into<Arc<str>>) -> Self {
        self.documentation = Documentation::below(base.into());
        self
    }
}

impl<B: From<Bytes>, E> OnReject<Response<B>, E> for Problem {
    type Error = E;

    fn reject(&self, rejection: Rejection, context: &RejectContext) -> Result<Response<B>, E> {
        Ok(render(
            Format::Problem,
            rejection,
            context,
            &self.documentation,
            B::from,
        ))
    }

    fn inner(error: E) -> E {
        error
    }
}

/// Passes refusals on as [`LayerError::Rejected`], for stacks that render them elsewhere.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fail;

impl<Res, E> OnReject<Res, E> for Fail {
    type Error = LayerError<E>;

    fn reject(&self, rejection: Rejection, _: &RejectContext) -> Result<Res, LayerError<E>> {
        Err(LayerError::Rejected(rejection))
    }

    fn inner(error: E) -> LayerError<E> {
        LayerError::Inner(error)
    }
}

/// The error of a layer that fails instead of answering: its own refusal, or the inner service's error.
///
/// # Examples
///
/// Around a service that cannot fail it is a refusal:
///
/// ```
/// use std::convert::Infallible;
/// use gw_core::{LayerError, Rejection};
///
/// fn refusal(error: LayerError<Infallible>) -> Rejection {
///     let LayerError::Rejected(rejection) = error;
///     rejection
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerError<E> {
    /// The layer refused the request; the inner service has not seen it.
    Rejected(Rejection),
    /// The inner service failed.
    Inner(E),
}

impl<E: Into<Rejection>> From<LayerError<E>> for Rejection {
    fn from(error: LayerError<E>) -> Self {
        match error {
            LayerError::Rejected(rejection) => rejection,
            LayerError::Inner(error) => error.into(),
        }
    }
}

impl<E> fmt::Display for LayerError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejected(_) => "refused by the layer",
            Self::Inner(_) => "the inner service failed",
        })
    }
}

impl<E: Error + 'static> Error for LayerError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Inner(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests;
