use std::error::Error;
use std::fmt;

use gw_core::{BoxError, Code, Rejection};

/// A request that failed inside the pipeline: what the client is told, and the cause for the operator.
///
/// Only the [`Rejection`] ever reaches an answer. The cause is this error's `source`, for logs.
#[derive(Debug)]
pub struct Failure {
    rejection: Rejection,
    cause: Option<BoxError>,
}

impl Failure {
    /// A failure that explains itself.
    pub const fn new(rejection: Rejection) -> Self {
        Self {
            rejection,
            cause: None,
        }
    }

    /// A failure that comes from `cause`.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What the client is told.
    pub const fn rejection(&self) -> &Rejection {
        &self.rejection
    }

    /// What the client is told about `error`: the first [`Failure`] or [`Rejection`] among it and its sources.
    pub(crate) fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Rejection> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|error| {
            let failure = error.downcast_ref::<Self>().map(Self::rejection);
            failure.or_else(|| error.downcast_ref::<Rejection>())
        })
    }
}

impl From<&'static Code> for Failure {
    fn from(code: &'static Code) -> Self {
        Self::new(Rejection::new(code))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request failed: {}", self.rejection.code())
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}
