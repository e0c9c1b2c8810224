use gw_core::{Code, GrpcStatus};
use http::StatusCode;

/// What is noted of a request whose service panicked. This crate answers nothing itself; the name is the one that a
/// gateway's answer has.
pub const INTERNAL: Code = Code::new(
    "INTERNAL",
    StatusCode::INTERNAL_SERVER_ERROR,
    "An internal error occurred.",
    GrpcStatus::Internal,
);
