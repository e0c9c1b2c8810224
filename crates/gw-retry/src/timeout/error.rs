use std::error::Error;
use std::fmt;
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::{Code, GrpcStatus, Rejection, RetryAfter};
use http::StatusCode;

use crate::telemetry;

/// A timer has expired: the answer if there was no head yet, else what is noted of one that was cut.
pub const GATEWAY_TIMEOUT: Code = Code::new(
    "GATEWAY_TIMEOUT",
    StatusCode::GATEWAY_TIMEOUT,
    "The service did not answer in time.",
    GrpcStatus::DeadlineExceeded,
);

/// What has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Timer {
    /// The deadline of the whole exchange.
    Deadline,
    /// The limit of one attempt, up to the head of the answer.
    Attempt,
    /// The limit of the wait for the head, for a request without a body.
    FirstByte,
    /// The limit of a gap between two frames of the answer.
    Idle,
}

impl Timer {
    /// The word for metrics and log lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deadline => "deadline",
            Self::Attempt => "attempt",
            Self::FirstByte => "first_byte",
            Self::Idle => "idle",
        }
    }

    /// What is noted as the cause of what it ends, in the words of gw-pipeline's upstreams.
    pub(super) const fn cause(self) -> &'static str {
        match self {
            Self::Deadline => "deadline_passed",
            Self::Attempt => "attempt_timeout",
            Self::FirstByte => "first_byte_timeout",
            Self::Idle => "idle_timeout",
        }
    }

    /// It would have ended something.
    #[cold]
    pub(super) fn shadowed(self) {
        telemetry::timer_shadowed(self);
    }

    /// The refusal of what it ends, counted.
    #[cold]
    pub(super) fn fired(self, failure: Failure) -> Rejection {
        telemetry::timer_fired(self);
        let soon = RetryAfter::jittered(Duration::ZERO);
        Rejection::new(&GATEWAY_TIMEOUT)
            .retry_after(soon)
            .caused_by(TimedOut(self))
            .failed(failure)
    }
}

/// A timer has expired: the source of a refusal, and what a cut body ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedOut(pub Timer);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer expired: {}", self.0.as_str())
    }
}

impl Error for TimedOut {}
