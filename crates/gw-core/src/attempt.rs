//! What a failed attempt says: of the upstream's health, and of sending the request once more.

use std::convert::Infallible;

use http::{HeaderName, HeaderValue};

use crate::body::BoxError;
use crate::classify::Outcome;
use crate::on_reject::LayerError;
use crate::rejection::Rejection;

/// How an attempt failed that brought no answer.
///
/// Two questions hang on it: whether the upstream is to blame, which is a breaker's, and whether the request can have had
/// an effect, which is a retry's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Failure {
    /// By no doing of the upstream's: a refusal of the gateway's own, or the client's fault. The same request would meet
    /// it again, and part of it may have been sent.
    #[default]
    Local,
    /// As [`Failure::Local`], and whoever refused it says that nothing of it was sent: a breaker is open, a pool is full.
    Refused,
    /// The upstream could not be reached: not a byte of the request was sent.
    NotSent,
    /// The upstream says that it has done nothing with the request (RFC 9113 section 8.7).
    Unprocessed,
    /// The request was sent, or part of it, and what became of it is not known.
    Unknown,
}

impl Failure {
    /// What it says about the upstream's health.
    ///
    /// An upstream that leaves requests out asks for less: it is throttling.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Local | Self::Refused => Outcome::Ignored,
            Self::NotSent | Self::Unknown => Outcome::Failure,
            Self::Unprocessed => Outcome::Throttled(None),
        }
    }

    /// Whether the request has certainly had no effect, so that sending it again is safe whatever its method.
    ///
    /// [`Failure::Local`] and [`Failure::Refused`] do not count: nobody but the gateway has refused it.
    pub const fn left_no_trace(self) -> bool {
        matches!(self, Self::NotSent | Self::Unprocessed)
    }
}

/// An error of a service that sends requests on.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how an attempt failed",
    note = "wrap the service's error in a type of your own that implements `gw_core::attempt::AttemptError`, and map it with `map_err`"
)]
pub trait AttemptError {
    /// How the attempt failed.
    fn failure(&self) -> Failure;

    /// Adds a field to the answer that the error becomes. One that becomes none forgets it.
    #[must_use]
    fn with_field(self, name: HeaderName, value: HeaderValue) -> Self
    where
        Self: Sized,
    {
        let _ = (name, value);
        self
    }

    /// Whether the answer that the error becomes has a field with this value: one that a layer further in has added.
    fn has_field(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let _ = (name, value);
        false
    }

    /// Adds what the answer that the error becomes has in its extensions. One that becomes none forgets it.
    #[must_use]
    fn with_extension<T>(self, value: T) -> Self
    where
        Self: Sized,
        T: Clone + Send + Sync + 'static,
    {
        let _ = value;
        self
    }
}

impl AttemptError for Rejection {
    fn failure(&self) -> Failure {
        Self::failure(self)
    }

    fn with_field(self, name: HeaderName, value: HeaderValue) -> Self {
        self.field(name, value)
    }

    fn has_field(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        let mut fields = self.fields().iter();
        fields.any(|(known, said)| known == name && said == value)
    }

    fn with_extension<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        self.extension(value)
    }
}

/// A refusal speaks for itself, and an error of the inner service for itself.
impl<E: AttemptError> AttemptError for LayerError<E> {
    fn failure(&self) -> Failure {
        match self {
            Self::Rejected(rejection) => rejection.failure(),
            Self::Inner(error) => error.failure(),
        }
    }

    fn with_field(self, name: HeaderName, value: HeaderValue) -> Self {
        match self {
            Self::Rejected(rejection) => Self::Rejected(rejection.with_field(name, value)),
            Self::Inner(error) => Self::Inner(error.with_field(name, value)),
        }
    }

    fn has_field(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        match self {
            Self::Rejected(rejection) => rejection.has_field(name, value),
            Self::Inner(error) => error.has_field(name, value),
        }
    }

    fn with_extension<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        match self {
            Self::Rejected(rejection) => Self::Rejected(rejection.with_extension(value)),
            Self::Inner(error) => Self::Inner(error.with_extension(value)),
        }
    }
}

/// The error of a typed pipeline's stages: the refusal among it and its sources speaks for it. Of any other error nobody knows
/// what became of the request. Only a refusal that is itself in the box takes something along.
impl AttemptError for BoxError {
    fn failure(&self) -> Failure {
        Rejection::find(&**self).map_or(Failure::Unknown, Rejection::failure)
    }

    fn with_field(self, name: HeaderName, value: HeaderValue) -> Self {
        with(self, |refusal| refusal.field(name, value))
    }

    fn has_field(&self, name: &HeaderName, value: &HeaderValue) -> bool {
        Rejection::find(&**self).is_some_and(|refusal| refusal.has_field(name, value))
    }

    fn with_extension<T: Clone + Send + Sync + 'static>(self, value: T) -> Self {
        with(self, |refusal| refusal.extension(value))
    }
}

fn with(error: BoxError, add: impl FnOnce(Rejection) -> Rejection) -> BoxError {
    match error.downcast() {
        Ok(refusal) => add(*refusal).into(),
        Err(other) => other,
    }
}

impl AttemptError for Infallible {
    fn failure(&self) -> Failure {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::rejection::{Code, GrpcStatus};

    #[test]
    fn an_error_of_a_layer_is_the_refusal_or_the_inner_one() {
        const CODE: Code = Code::new(
            "X",
            StatusCode::GATEWAY_TIMEOUT,
            "",
            GrpcStatus::Unavailable,
        );
        let refusal = || Rejection::new(&CODE).failed(Failure::Unknown);
        let rejected: LayerError<Rejection> = LayerError::Rejected(refusal());
        assert_eq!(rejected.failure(), Failure::Unknown);
        assert_eq!(LayerError::Inner(refusal()).failure(), Failure::Unknown);
        for error in [
            LayerError::Rejected(refusal()),
            LayerError::Inner(refusal()),
        ] {
            let field = (http::header::ALLOW, HeaderValue::from_static("GET"));
            assert!(!error.has_field(&field.0, &field.1));
            let error = error.with_field(field.0.clone(), field.1.clone());
            assert!(error.has_field(&field.0, &field.1));
            assert!(!error.has_field(&field.0, &HeaderValue::from_static("PUT")));
            let (LayerError::Rejected(told) | LayerError::Inner(told)) = error.with_extension(7_u8);
            assert_eq!(told.fields(), [field]);
            assert_eq!(told.extensions().unwrap().get(), Some(&7_u8));
        }
        assert_eq!(
            LayerError::Inner(Rejection::new(&CODE)).failure(),
            Failure::Local
        );
    }

    #[test]
    fn a_boxed_error_is_the_refusal_among_it() {
        const CODE: Code = Code::new("X", StatusCode::BAD_GATEWAY, "", GrpcStatus::Unavailable);
        let refusal = || Rejection::new(&CODE).failed(Failure::NotSent);
        let boxed = BoxError::from(refusal());
        let wrapped = BoxError::from(LayerError::<Rejection>::Rejected(refusal()));
        let field = (http::header::ALLOW, HeaderValue::from_static("GET"));
        assert_eq!(boxed.failure(), Failure::NotSent);
        assert_eq!(wrapped.failure(), Failure::NotSent);
        assert_eq!(BoxError::from("reset").failure(), Failure::Unknown);
        assert!(!boxed.has_field(&field.0, &field.1));
        let boxed = boxed.with_field(field.0.clone(), field.1.clone());
        let boxed = boxed.with_extension(7_u8);
        assert!(boxed.has_field(&field.0, &field.1));
        let told = Rejection::find(&*boxed).unwrap().extensions().unwrap();
        assert_eq!(told.get(), Some(&7_u8));
    }

    #[test]
    fn blame_and_trace() {
        use Failure::{Local, NotSent, Refused, Unknown, Unprocessed};
        let of = |failure: Failure| (failure.outcome(), failure.left_no_trace());
        assert_eq!(of(Local), (Outcome::Ignored, false));
        assert_eq!(of(Refused), (Outcome::Ignored, false));
        assert_eq!(of(NotSent), (Outcome::Failure, true));
        assert_eq!(of(Unprocessed), (Outcome::Throttled(None), true));
        assert_eq!(of(Unknown), (Outcome::Failure, false));
    }
}
