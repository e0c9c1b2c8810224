//! The codes that this crate refuses requests with.
//!
//! To a gRPC caller what is the client's fault is no status that breakers take for a failure: a gateway further out may count
//! what this one answers.

use gw_core::{Code, GrpcStatus};
use http::StatusCode;

/// The request breaks the rules of HTTP, or says one thing in two ways.
pub const MALFORMED_REQUEST: Code = Code::new(
    "MALFORMED_REQUEST",
    StatusCode::BAD_REQUEST,
    "The request is malformed.",
    GrpcStatus::InvalidArgument,
);

/// The client's address is not allowed.
pub const ADDRESS_DENIED: Code = Code::new(
    "ADDRESS_DENIED",
    StatusCode::FORBIDDEN,
    "Requests from this address are not allowed.",
    GrpcStatus::PermissionDenied,
);

/// The request carries no credentials.
pub const AUTH_REQUIRED: Code = Code::new(
    "AUTH_REQUIRED",
    StatusCode::UNAUTHORIZED,
    "The request needs credentials.",
    GrpcStatus::Unauthenticated,
);

/// The request's credentials are nobody's.
pub const AUTH_INVALID: Code = Code::new(
    "AUTH_INVALID",
    StatusCode::UNAUTHORIZED,
    "The credentials are not valid.",
    GrpcStatus::Unauthenticated,
);

/// The caller is known, and lacks a scope that the route asks for.
pub const FORBIDDEN: Code = Code::new(
    "FORBIDDEN",
    StatusCode::FORBIDDEN,
    "The credentials do not allow this.",
    GrpcStatus::PermissionDenied,
);

/// No route matches.
pub const ROUTE_NOT_FOUND: Code = Code::new(
    "ROUTE_NOT_FOUND",
    StatusCode::NOT_FOUND,
    "There is nothing at this path.",
    GrpcStatus::Unimplemented,
);

/// The path exists, for other methods.
pub const METHOD_NOT_ALLOWED: Code = Code::new(
    "METHOD_NOT_ALLOWED",
    StatusCode::METHOD_NOT_ALLOWED,
    "The method is not allowed for this path.",
    GrpcStatus::Unimplemented,
);

/// The request expects something that is not known here.
pub const EXPECTATION_FAILED: Code = Code::new(
    "EXPECTATION_FAILED",
    StatusCode::EXPECTATION_FAILED,
    "The request expects what is not known here.",
    GrpcStatus::InvalidArgument,
);

/// The client sent its body too slowly.
pub const CLIENT_TIMEOUT: Code = Code::new(
    "CLIENT_TIMEOUT",
    StatusCode::REQUEST_TIMEOUT,
    "The request did not arrive in time.",
    GrpcStatus::Cancelled,
);

/// The body is larger than the route allows.
pub const BODY_TOO_LARGE: Code = Code::new(
    "BODY_TOO_LARGE",
    StatusCode::PAYLOAD_TOO_LARGE,
    "The request body is too large.",
    GrpcStatus::ResourceExhausted,
);

/// The target is longer than allowed.
pub const URI_TOO_LONG: Code = Code::new(
    "URI_TOO_LONG",
    StatusCode::URI_TOO_LONG,
    "The request target is too long.",
    GrpcStatus::InvalidArgument,
);

/// The header fields are too many or too large.
pub const HEADERS_TOO_LARGE: Code = Code::new(
    "HEADERS_TOO_LARGE",
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "The request header fields are too large.",
    GrpcStatus::InvalidArgument,
);

/// The gateway itself is at fault.
pub const INTERNAL: Code = Code::new(
    "INTERNAL",
    StatusCode::INTERNAL_SERVER_ERROR,
    "An internal error occurred.",
    GrpcStatus::Internal,
);

/// The upstream could not be reached, or its answer cannot be passed on.
pub const BAD_GATEWAY: Code = Code::new(
    "BAD_GATEWAY",
    StatusCode::BAD_GATEWAY,
    "The upstream service gave no usable answer.",
    GrpcStatus::Unavailable,
);

/// The upstream cannot serve at the moment.
pub const UPSTREAM_UNAVAILABLE: Code = Code::new(
    "UPSTREAM_UNAVAILABLE",
    StatusCode::SERVICE_UNAVAILABLE,
    "The upstream service is unavailable.",
    GrpcStatus::Unavailable,
);

/// All connections to the upstream are in use, and so is the queue for them.
pub const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    StatusCode::SERVICE_UNAVAILABLE,
    "The service is at capacity.",
    GrpcStatus::ResourceExhausted,
);

/// The gateway is about to stop.
pub const SHUTTING_DOWN: Code = Code::new(
    "SHUTTING_DOWN",
    StatusCode::SERVICE_UNAVAILABLE,
    "The service is shutting down.",
    GrpcStatus::Unavailable,
);

/// The answer did not come in time.
pub const GATEWAY_TIMEOUT: Code = Code::new(
    "GATEWAY_TIMEOUT",
    StatusCode::GATEWAY_TIMEOUT,
    "The upstream service did not answer in time.",
    GrpcStatus::DeadlineExceeded,
);

/// The request has passed this gateway before.
pub const LOOP_DETECTED: Code = Code::new(
    "LOOP_DETECTED",
    StatusCode::LOOP_DETECTED,
    "The request passed this gateway twice.",
    GrpcStatus::Aborted,
);
