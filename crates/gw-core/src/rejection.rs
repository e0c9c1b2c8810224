//! Refusals as data: what was refused, why, and when to come back.
//!
//! What a client is told of a [`Rejection`] is built from a static [`Code`] and typed details only. An error may ride
//! along as the cause, for the operator's log; no renderer reads it, so an internal message cannot reach a client by
//! way of a refusal.

mod detail;
mod head;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use http::{Extensions, HeaderName, HeaderValue, StatusCode};

pub use self::detail::{Detail, FieldPath};
use crate::attempt::Failure;
use crate::body::BoxError;
use crate::retry_after::RetryAfter;

/// A stable reason for refusing a request, defined as a `const` by the crate that refuses.
///
/// Two codes are the same if their names are.
#[derive(Debug, Clone, Copy)]
pub struct Code {
    name: &'static str,
    status: StatusCode,
    message: &'static str,
    grpc: GrpcStatus,
    documentation: Option<&'static str>,
}

impl Code {
    /// A code with its HTTP status, its message for people and the status a gRPC caller gets.
    ///
    /// `name` is upper snake case and never changes once released: clients match on it.
    pub const fn new(
        name: &'static str,
        status: StatusCode,
        message: &'static str,
        grpc: GrpcStatus,
    ) -> Self {
        Self {
            name,
            status,
            message,
            grpc,
            documentation: None,
        }
    }

    /// Names the documentation page of this code, relative to the base that the renderer is given.
    ///
    /// Without it the page is the code's name in lower case with hyphens.
    pub const fn documented_at(mut self, path: &'static str) -> Self {
        self.documentation = Some(path);
        self
    }

    /// The stable name, such as `RATE_LIMIT_EXCEEDED`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The HTTP status of the answer.
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// One static sentence for people.
    pub const fn message(&self) -> &'static str {
        self.message
    }

    /// The status in a gRPC answer. See [`Rejection::grpc`], which knows more.
    pub const fn grpc(&self) -> GrpcStatus {
        self.grpc
    }

    /// The documentation path given to [`Code::documented_at`].
    pub const fn documentation(&self) -> Option<&'static str> {
        self.documentation
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Code {}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The status codes of gRPC that say no, numbered as the gRPC specification numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GrpcStatus {
    /// The caller went away, or gave the call up.
    Cancelled = 1,
    /// Nobody can tell what went wrong.
    Unknown = 2,
    /// The request is not valid whatever the state of the system.
    InvalidArgument = 3,
    /// Time ran out.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// What was to be made is there already.
    AlreadyExists = 6,
    /// The caller is known and not allowed.
    PermissionDenied = 7,
    /// A limit is exhausted.
    ResourceExhausted = 8,
    /// The system must get into another state before a retry can succeed.
    FailedPrecondition = 9,
    /// Refused in a way that a retry on a higher level may mend.
    Aborted = 10,
    /// Past the end of what there is at present.
    OutOfRange = 11,
    /// No such method.
    Unimplemented = 12,
    /// Something broke that should not.
    Internal = 13,
    /// Try again later.
    Unavailable = 14,
    /// Data is lost for good, or corrupt.
    DataLoss = 15,
    /// The caller is not known.
    Unauthenticated = 16,
}

/// A refused request: a code, when to come back, and typed details.
///
/// It is put into the extensions of the answer that renders it, so that outer layers count and log it without
/// reading a body. It is an [`Error`] as well, for stacks that pass refusals as errors. Two are equal if a client
/// cannot tell them apart: neither the cause counts, nor how an attempt failed, nor what is for the answer's extensions.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_core::{Code, GrpcStatus, Rejection, RetryAfter};
///
/// const FULL: Code = Code::new(
///     "OVERLOADED",
///     http::StatusCode::SERVICE_UNAVAILABLE,
///     "The service is at capacity.",
///     GrpcStatus::ResourceExhausted,
/// );
/// let refused = Rejection::new(&FULL)
///     .retry_after(RetryAfter::at_least(Duration::from_millis(1200)))
///     .detail("lane", "logs");
/// assert_eq!(refused.retry_after_hint().unwrap().seconds(), 2);
/// ```
#[derive(Debug, Clone)]
pub struct Rejection {
    code: &'static Code,
    retry_after: Option<RetryAfter>,
    details: Vec<(&'static str, Detail)>,
    fields: Vec<(HeaderName, HeaderValue)>,
    // Boxed: few refusals have one.
    problem: Option<Box<Registered>>,
    extensions: Option<Extensions>,
    cause: Option<Arc<dyn Error + Send + Sync>>,
    failure: Failure,
}

/// What a problem document says of a refusal that is of a registered type.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Registered {
    kind: &'static str,
    names: Option<(&'static str, Vec<Arc<str>>)>,
}

impl Rejection {
    /// The most details one refusal carries; further ones are left out.
    pub const MAX_DETAILS: usize = 16;
    /// The most header fields one refusal adds to its answer; further ones are left out.
    pub const MAX_FIELDS: usize = 16;
    /// The most names in the list of a registered problem; further ones are left out.
    pub const MAX_NAMES: usize = 16;

    /// A refusal for `code`, without details. Does not allocate.
    pub const fn new(code: &'static Code) -> Self {
        Self {
            code,
            retry_after: None,
            details: Vec::new(),
            fields: Vec::new(),
            problem: None,
            extensions: None,
            cause: None,
            failure: Failure::Local,
        }
    }

    /// Says when to come back; becomes the `Retry-After` field of the answer.
    #[must_use]
    pub const fn retry_after(mut self, after: RetryAfter) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Adds a detail, or gives the one of this key another value: each key is in the answer once. Beyond
    /// [`Rejection::MAX_DETAILS`] keys it is left out.
    #[must_use]
    pub fn detail(mut self, key: &'static str, value: impl Into<Detail>) -> Self {
        let value = value.into();
        if let Some((_, old)) = self.details.iter_mut().find(|(known, _)| *known == key) {
            *old = value;
        } else if self.details.len() < Self::MAX_DETAILS {
            self.details.push((key, value));
        }
        self
    }

    /// Adds a header field that the status asks for: `Allow` with 405, `WWW-Authenticate` with 401. One of a name that
    /// is there already becomes another line of it. Beyond [`Rejection::MAX_FIELDS`] it is left out.
    ///
    /// The value must come from configuration or be static, never from an error.
    #[must_use]
    pub fn field(mut self, name: HeaderName, value: HeaderValue) -> Self {
        if self.fields.len() < Self::MAX_FIELDS {
            self.fields.push((name, value));
        }
        self
    }

    /// Says that this is a problem of a registered type (RFC 9457): `uri` is the `type` of the problem document, in place
    /// of the code's documentation.
    #[must_use]
    pub fn problem_type(mut self, uri: &'static str) -> Self {
        self.problem = Some(Box::new(Registered {
            kind: uri,
            names: None,
        }));
        self
    }

    /// Adds the member that the registered type defines: a list of names, such as those of the limits exceeded. Only
    /// problem documents carry it, and only if there is a [`Rejection::problem_type`]; a second list replaces the first.
    /// Beyond [`Rejection::MAX_NAMES`] names are left out.
    ///
    /// The names must come from configuration, never from a request or an error.
    #[must_use]
    pub fn problem_names(
        mut self,
        member: &'static str,
        names: impl IntoIterator<Item = Arc<str>>,
    ) -> Self {
        if let Some(problem) = &mut self.problem {
            let names = names.into_iter().take(Self::MAX_NAMES).collect();
            problem.names = Some((member, names));
        }
        self
    }

    /// Adds what the answer has in its extensions, for layers further out. A client is told nothing of it. A second value of a type
    /// replaces the first.
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extensions.get_or_insert_default().insert(value);
        self
    }

    /// Notes what led to the refusal, for logs. It is this error's `source` and never part of an answer.
    #[must_use]
    pub fn caused_by(mut self, cause: impl Into<BoxError>) -> Self {
        self.cause = Some(Arc::from(cause.into()));
        self
    }

    /// Says how the attempt failed that this refusal reports. Without it: [`Failure::Local`], a refusal of the gateway's own.
    /// A layer that refuses before the service inside has seen the request says [`Failure::Refused`].
    #[must_use]
    pub const fn failed(mut self, failure: Failure) -> Self {
        self.failure = failure;
        self
    }

    /// The refusal that `error` stands for: the first one among it and its sources.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |&error| error.source()).find_map(|e| e.downcast_ref())
    }

    /// Why the request was refused.
    pub const fn code(&self) -> &'static Code {
        self.code
    }

    /// When to come back, if that is known.
    pub const fn retry_after_hint(&self) -> Option<RetryAfter> {
        self.retry_after
    }

    /// How the attempt failed that this refusal reports.
    pub const fn failure(&self) -> Failure {
        self.failure
    }

    /// What a gRPC caller is told. Nearly always it is the code's status.
    ///
    /// Callers try again what is UNAVAILABLE. So it is for calls that have had no effect ([`Failure::left_no_trace`]), whatever their
    /// code says, and never for one of which that is not known ([`Failure::Unknown`]): INTERNAL says it in its place.
    pub const fn grpc(&self) -> GrpcStatus {
        match (self.failure, self.code.grpc()) {
            (Failure::NotSent | Failure::Unprocessed, _) => GrpcStatus::Unavailable,
            (Failure::Unknown, GrpcStatus::Unavailable) => GrpcStatus::Internal,
            (_, status) => status,
        }
    }

    /// The details in the order in which their keys were added.
    pub fn details(&self) -> &[(&'static str, Detail)] {
        &self.details
    }

    /// The registered type of the problem, if it is of one.
    pub fn registered_type(&self) -> Option<&'static str> {
        self.problem.as_ref().map(|problem| problem.kind)
    }

    /// The member that the registered type defines, and the names in it.
    pub fn registered_names(&self) -> Option<(&'static str, &[Arc<str>])> {
        let (member, names) = self.problem.as_ref()?.names.as_ref()?;
        Some((member, names))
    }

    /// What the answer has in its extensions because of this refusal. A renderer of your own puts it there.
    pub const fn extensions(&self) -> Option<&Extensions> {
        self.extensions.as_ref()
    }

    /// The header fields that the answer carries because of this refusal.
    pub fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        &self.fields
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "request refused: {}", self.code.name)
    }
}

impl Error for Rejection {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause
            .as_deref()
            .map(|cause| cause as &(dyn Error + 'static))
    }
}

impl PartialEq for Rejection {
    fn eq(&self, other: &Self) -> bool {
        self.code == other.code
            && self.grpc() == other.grpc()
            && self.retry_after == other.retry_after
            && self.details == other.details
            && self.fields == other.fields
            && self.problem == other.problem
    }
}

impl Eq for Rejection {}

impl From<&'static Code> for Rejection {
    fn from(code: &'static Code) -> Self {
        Self::new(code)
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    const CODE: Code = Code::new(
        "TEST",
        StatusCode::BAD_REQUEST,
        "A test.",
        GrpcStatus::InvalidArgument,
    );

    #[test]
    fn details_are_bounded_and_each_key_is_there_once() {
        const KEYS: [&str; 20] = [
            "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q",
            "r", "s", "t",
        ];
        let add = |rejection: Rejection| KEYS.iter().fold(rejection, |r, key| r.detail(key, 1i64));
        let full = add(Rejection::new(&CODE));
        assert_eq!(full.details().len(), Rejection::MAX_DETAILS);
        // Story: a key that was added twice stood twice in the JSON object, and each parser chose one at its taste.
        let again = add(full).detail("a", "other");
        assert_eq!(again.details().len(), Rejection::MAX_DETAILS);
        assert_eq!(again.details()[0], ("a", Detail::Word("other")));
    }

    #[test]
    fn fields_are_bounded_and_may_have_several_lines() {
        let challenge = |r: Rejection, n: u16| r.field(header::WWW_AUTHENTICATE, n.into());
        let two = (0..2).fold(Rejection::new(&CODE), challenge);
        assert_eq!(two.fields().len(), 2);
        let full = (0..100).fold(two, challenge);
        assert_eq!(full.fields().len(), Rejection::MAX_FIELDS);
    }

    #[test]
    fn names_are_bounded_and_need_a_type() {
        let names = || (0..100).map(|n| Arc::from(n.to_string()));
        let without = Rejection::new(&CODE).problem_names("names", names());
        assert_eq!(without, Rejection::new(&CODE));
        let with = Rejection::new(&CODE)
            .problem_type("urn:example:type")
            .problem_names("names", names());
        assert_eq!(with.registered_type(), Some("urn:example:type"));
        let (member, names) = with.registered_names().unwrap();
        assert_eq!((member, names.len()), ("names", Rejection::MAX_NAMES));
    }

    #[test]
    fn every_error_of_grpc_has_its_number() {
        let in_order = [
            GrpcStatus::Cancelled,
            GrpcStatus::Unknown,
            GrpcStatus::InvalidArgument,
            GrpcStatus::DeadlineExceeded,
            GrpcStatus::NotFound,
            GrpcStatus::AlreadyExists,
            GrpcStatus::PermissionDenied,
            GrpcStatus::ResourceExhausted,
            GrpcStatus::FailedPrecondition,
            GrpcStatus::Aborted,
            GrpcStatus::OutOfRange,
            GrpcStatus::Unimplemented,
            GrpcStatus::Internal,
            GrpcStatus::Unavailable,
            GrpcStatus::DataLoss,
            GrpcStatus::Unauthenticated,
        ];
        assert!((1..=16).eq(in_order.map(|status| status as u16)));
    }

    #[test]
    fn display_names_the_code_only() {
        assert_eq!(
            Rejection::new(&CODE).detail("n", 1i64).to_string(),
            "request refused: TEST"
        );
    }
}
