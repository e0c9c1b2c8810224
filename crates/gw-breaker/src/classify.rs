use std::error::Error;
use std::time::{Duration, SystemTime};

use gw_core::attempt::AttemptError;
use gw_core::classify::{Classify, ContentClassifier, GrpcClassifier, HttpClassifier, Outcome};
use gw_core::on_reject::Caller;
use gw_core::{BoxError, Rejection, RetryAfter};
use http::{HeaderMap, Response, header};

/// Judges the errors of a service.
///
/// The classifiers of gw-core judge errors that say how the attempt failed (see [`AttemptError`]): the service behind
/// gw-pipeline's `Forward`, say, and services that cannot fail. For errors of any other type see [`errors_by`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not judge the error `{E}`",
    note = "judge it by a function of your own: `layer.classify(gw_breaker::errors_by(classifier, |error| ...))`"
)]
pub trait ClassifyError<E> {
    /// What `error` says about the upstream.
    fn error(&self, error: &E) -> Outcome;
}

impl<E: AttemptError> ClassifyError<E> for HttpClassifier {
    fn error(&self, error: &E) -> Outcome {
        error.failure().outcome()
    }
}

impl<E: AttemptError> ClassifyError<E> for GrpcClassifier {
    fn error(&self, error: &E) -> Outcome {
        error.failure().outcome()
    }
}

impl<E: AttemptError> ClassifyError<E> for ContentClassifier {
    fn error(&self, error: &E) -> Outcome {
        error.failure().outcome()
    }
}

/// Judges answers as `classifier` does, and errors by `judge`.
///
/// # Examples
///
/// ```
/// use gw_breaker::{BreakerLayer, ContentClassifier, Outcome, errors_by};
///
/// // Each error is the upstream's.
/// let classifier = errors_by(ContentClassifier, |_: &std::io::Error| Outcome::Failure);
/// let layer = BreakerLayer::builder("orders").build()?.classify(classifier);
/// # Ok::<(), gw_breaker::ConfigError>(())
/// ```
pub const fn errors_by<C, F>(classifier: C, judge: F) -> ErrorsBy<C, F> {
    ErrorsBy { classifier, judge }
}

/// See [`errors_by`].
#[derive(Clone, Copy)]
pub struct ErrorsBy<C, F> {
    classifier: C,
    judge: F,
}

impl<C: Classify, F> Classify for ErrorsBy<C, F> {
    fn head<B>(&self, caller: Caller, response: &Response<B>) -> Option<Outcome> {
        self.classifier.head(caller, response)
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome {
        self.classifier.end(trailers)
    }
}

impl<C, E, F: Fn(&E) -> Outcome> ClassifyError<E> for ErrorsBy<C, F> {
    fn error(&self, error: &E) -> Outcome {
        (self.judge)(error)
    }
}

impl<C: std::fmt::Debug, F> std::fmt::Debug for ErrorsBy<C, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ErrorsBy")
            .field("classifier", &self.classifier)
            .finish_non_exhaustive()
    }
}

/// The verdict at the head. An answer that a stage inside gave in the upstream's place says how the attempt failed.
#[inline]
pub(crate) fn at_head<C: Classify, B>(
    classifier: &C,
    caller: Caller,
    response: &Response<B>,
) -> Option<Outcome> {
    match response.extensions().get::<Rejection>() {
        Some(rejection) => Some(rejection.failure().outcome()),
        None => classifier.head(caller, response),
    }
}

/// How long the upstream asks to be left alone, by the head of its answer.
#[cold]
pub(crate) fn asked_for(headers: &HeaderMap) -> Option<Duration> {
    let wait = headers.get(header::RETRY_AFTER);
    wait.and_then(|wait| RetryAfter::parse(wait, SystemTime::now()))
        .or_else(|| pushback(headers))
}

/// The same by gRPC (its proposal A6), in the head or in trailers. A negative number asks not to come back for the call's sake,
/// and says nothing of others.
#[cold]
pub(crate) fn pushback(fields: &HeaderMap) -> Option<Duration> {
    let value = fields.get("grpc-retry-pushback-ms")?;
    Some(Duration::from_millis(value.to_str().ok()?.parse().ok()?))
}

/// What an error in a body says. It is the upstream's, unless a stage inside says that it is not.
#[cold]
pub(crate) fn of_body(error: &BoxError) -> Outcome {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    while let Some(error) = cause {
        if let Some(rejection) = error.downcast_ref::<Rejection>() {
            return rejection.failure().outcome();
        }
        cause = error.source();
    }
    Outcome::Failure
}
