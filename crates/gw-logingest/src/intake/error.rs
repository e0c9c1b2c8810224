//! The refusals of the intake.

use std::time::Duration;

use gw_core::{BoxError, Code, GrpcStatus, Rejection, RetryAfter};
use http::{HeaderValue, StatusCode, header};

use super::split::{Malformed, SplitFault, SplitLimits};
use crate::event::Violation;
use crate::queue::AppendError;

/// Not a JSON document of one of the forms, or one that ended too early. Detail: `reason`.
pub const MALFORMED_REQUEST: Code = Code::new(
    "MALFORMED_REQUEST",
    StatusCode::BAD_REQUEST,
    "The request is malformed.",
    GrpcStatus::InvalidArgument,
);

/// Another method than POST.
pub const METHOD_NOT_ALLOWED: Code = Code::new(
    "METHOD_NOT_ALLOWED",
    StatusCode::METHOD_NOT_ALLOWED,
    "The method is not allowed here.",
    GrpcStatus::Unimplemented,
);

/// The body did not arrive in time. Detail: `timeout` (seconds).
pub const CLIENT_TIMEOUT: Code = Code::new(
    "CLIENT_TIMEOUT",
    StatusCode::REQUEST_TIMEOUT,
    "The request did not arrive in time.",
    GrpcStatus::Cancelled,
);

/// A limit on the size of a body is exceeded. Details: `limit` names it (`body_bytes`, `events`, `batch_bytes`),
/// `maximum` is its value.
pub const BODY_TOO_LARGE: Code = Code::new(
    "BODY_TOO_LARGE",
    StatusCode::PAYLOAD_TOO_LARGE,
    "The request is larger than allowed.",
    GrpcStatus::ResourceExhausted,
);

/// Neither `application/json` nor `application/x-ndjson`, or compressed. Detail: `field`.
pub const UNSUPPORTED_MEDIA_TYPE: Code = Code::new(
    "UNSUPPORTED_MEDIA_TYPE",
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "The media type or coding of the body is not supported.",
    GrpcStatus::InvalidArgument,
);

/// No event could be taken: all are invalid, or some are and the client asked for all or nothing. Details: `events`,
/// `rejected`, and of the first invalid one `index`, `reason` and `pointer`.
pub const VALIDATION_FAILED: Code = Code::new(
    "VALIDATION_FAILED",
    StatusCode::UNPROCESSABLE_ENTITY,
    "The events do not meet the schema.",
    GrpcStatus::InvalidArgument,
);

/// The client holds its share of the queue.
pub const RATE_LIMIT_EXCEEDED: Code = Code::new(
    "RATE_LIMIT_EXCEEDED",
    StatusCode::TOO_MANY_REQUESTS,
    "Too many events of this client are waiting.",
    GrpcStatus::ResourceExhausted,
);

/// The queue takes no more for now. Detail: `reason` (`queue_full`, `audit_only`, `storage`).
pub const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    StatusCode::SERVICE_UNAVAILABLE,
    "The log intake cannot take more for now.",
    GrpcStatus::ResourceExhausted,
);

/// The queue was closed.
pub const SHUTTING_DOWN: Code = Code::new(
    "SHUTTING_DOWN",
    StatusCode::SERVICE_UNAVAILABLE,
    "The log intake is shutting down.",
    GrpcStatus::Unavailable,
);

/// When to come back after the intake was closed: another instance should be there by then.
const AFTER_SHUTDOWN: Duration = Duration::from_secs(5);

/// With the fifth that the jitter adds at the most, nobody is told to wait for more than five minutes. Those who are told the
/// longest wait come back spread all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(250);

pub(super) fn method() -> Rejection {
    Rejection::new(&METHOD_NOT_ALLOWED).field(header::ALLOW, HeaderValue::from_static("POST"))
}

pub(super) fn malformed(reason: &'static str) -> Rejection {
    Rejection::new(&MALFORMED_REQUEST).detail("reason", reason)
}

pub(super) fn media_type() -> Rejection {
    const ACCEPTED: HeaderValue =
        HeaderValue::from_static("application/json, application/x-ndjson");
    Rejection::new(&UNSUPPORTED_MEDIA_TYPE)
        .detail("field", "content-type")
        .field(header::ACCEPT, ACCEPTED)
}

pub(super) fn content_coding() -> Rejection {
    Rejection::new(&UNSUPPORTED_MEDIA_TYPE)
        .detail("field", "content-encoding")
        .field(
            header::ACCEPT_ENCODING,
            HeaderValue::from_static("identity"),
        )
}

pub(super) fn too_large(limit: &'static str, maximum: u64) -> Rejection {
    Rejection::new(&BODY_TOO_LARGE)
        .detail("limit", limit)
        .detail("maximum", maximum)
}

pub(super) fn timeout(limit: Duration) -> Rejection {
    Rejection::new(&CLIENT_TIMEOUT).detail("timeout", RetryAfter::at_least(limit).seconds())
}

pub(super) fn fault(fault: SplitFault, limits: &SplitLimits) -> Rejection {
    match fault {
        SplitFault::Malformed(what) => malformed(what.as_str()),
        SplitFault::BodyTooLarge => too_large("body_bytes", limits.body_bytes),
        SplitFault::TooManyEvents => too_large("events", limits.events as u64),
        SplitFault::BatchTooLarge { limit } => too_large("batch_bytes", limit as u64),
    }
}

/// The body of the request ended by an error: a layer outside cut it off, and the error says what the client is to be told of
/// it, or the client is gone.
pub(super) fn unreadable(failure: BoxError) -> Rejection {
    match Rejection::find(&*failure) {
        Some(refusal) => refusal.clone(),
        None => malformed(Malformed::Incomplete.as_str()).caused_by(failure),
    }
}

pub(super) fn invalid(events: u64, rejected: u64, first: Option<(usize, &Violation)>) -> Rejection {
    let rejection = Rejection::new(&VALIDATION_FAILED)
        .detail("events", events)
        .detail("rejected", rejected);
    let Some((index, violation)) = first else {
        return rejection;
    };
    rejection
        .detail("index", index as u64)
        .detail("reason", violation.code().as_str())
        .detail("pointer", violation.pointer().clone())
}

pub(super) fn audit_only(wait: Duration) -> Rejection {
    later(&OVERLOADED, wait).detail("reason", "audit_only")
}

pub(super) fn append(error: AppendError) -> Rejection {
    match error {
        AppendError::Full { retry_after } => {
            later(&OVERLOADED, retry_after).detail("reason", "queue_full")
        }
        AppendError::OverShare { retry_after } => later(&RATE_LIMIT_EXCEEDED, retry_after),
        AppendError::TooLarge { limit } => too_large("batch_bytes", limit as u64),
        AppendError::Failing { retry_after } => {
            later(&OVERLOADED, retry_after).detail("reason", "storage")
        }
        AppendError::Closed => later(&SHUTTING_DOWN, AFTER_SHUTDOWN),
    }
}

fn later(code: &'static Code, wait: Duration) -> Rejection {
    let wait = wait.min(LONGEST_WAIT);
    Rejection::new(code).retry_after(RetryAfter::jittered(wait))
}
