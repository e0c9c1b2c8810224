use std::error::Error;
use std::fmt;
#[cfg(feature = "threads")]
use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::record::Record;
use gw_core::{Code, GrpcStatus, RejectContext, Rejection, RetryAfter};
use http::StatusCode;

use crate::lanes::{Reason, Refusal};

/// No place is free in the lane.
pub const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    StatusCode::SERVICE_UNAVAILABLE,
    "The service is at capacity.",
    GrpcStatus::ResourceExhausted,
);

/// A client has as many requests in the lane as it may have.
///
/// 429 and not 503: it is this client's doing, and the service has capacity. A balancer in front of a service that answers
/// 503 takes it for broken, and a client could so take it away from all others.
pub const RATE_LIMIT_EXCEEDED: Code = Code::new(
    "RATE_LIMIT_EXCEEDED",
    StatusCode::TOO_MANY_REQUESTS,
    "Too many requests at once.",
    GrpcStatus::ResourceExhausted,
);

/// The lanes drain.
pub const SHUTTING_DOWN: Code = Code::new(
    "SHUTTING_DOWN",
    StatusCode::SERVICE_UNAVAILABLE,
    "The service is shutting down.",
    GrpcStatus::Unavailable,
);

/// The request held its place for longer than its lane allows, and was cut before there was an answer.
pub const GATEWAY_TIMEOUT: Code = Code::new(
    "GATEWAY_TIMEOUT",
    StatusCode::GATEWAY_TIMEOUT,
    "The service did not answer in time.",
    GrpcStatus::DeadlineExceeded,
);

/// The type of a problem document (draft-ietf-httpapi-ratelimit-headers-11, section 5) where the service has no room for more.
const TEMPORARY_REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// The type where it is the client that has no more than so much.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The answer to a refused request. Without a known rate of the lane clients come back after a second or two.
fn rejection(refusal: Refusal) -> Rejection {
    let (code, problem, failure) = match refusal.reason() {
        Reason::LaneFull
        | Reason::QueueFull
        | Reason::QueueTimeout
        | Reason::QueueDelay
        // Nothing was started, and a later try may find room: that is not a timeout.
        | Reason::Deadline
        | Reason::Pressure => {
            (&OVERLOADED, Some(TEMPORARY_REDUCED_CAPACITY), Failure::Refused)
        }
        Reason::PerKey => (&RATE_LIMIT_EXCEEDED, Some(QUOTA_EXCEEDED), Failure::Refused),
        Reason::Draining => (&SHUTTING_DOWN, None, Failure::Refused),
        // It has run.
        Reason::MaxHold => (&GATEWAY_TIMEOUT, None, Failure::Local),
    };
    let wait = refusal.wait().unwrap_or_default();
    let rejection = Rejection::new(code)
        .retry_after(RetryAfter::jittered(wait))
        .detail("reason", refusal.reason().as_str())
        .failed(failure);
    match problem {
        Some(problem) => rejection.problem_type(problem),
        None => rejection,
    }
}

/// A request's lane was stopped under it. It may have run: callers by gRPC try again what is UNAVAILABLE.
#[cfg(feature = "threads")]
const fn of_stopped() -> &'static Code {
    const STOPPED: Code = Code::new(
        SHUTTING_DOWN.name(),
        SHUTTING_DOWN.status(),
        SHUTTING_DOWN.message(),
        GrpcStatus::Internal,
    );
    &STOPPED
}

/// The answer to a request whose lane's thread was stopped under it.
#[cfg(feature = "threads")]
pub(crate) fn stopped() -> Rejection {
    let soon = RetryAfter::jittered(Duration::ZERO);
    Rejection::new(of_stopped()).retry_after(soon)
}

/// The same where the answer has begun.
#[cfg(feature = "threads")]
pub(crate) static STOPPED_MIDWAY: Rejection = Rejection::new(of_stopped());

/// Who is to be told that a request is refused or its answer cut, if anybody, and by which slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Observer<'a> {
    pub(crate) record: Option<&'a Record>,
    pub(crate) slot: &'static str,
}

impl Observer<'_> {
    pub(crate) fn refused(self, code: &'static Code) {
        if let Some(record) = self.record {
            record.refused(self.slot, code);
        }
    }
}

/// A refusal on its way to the renderer.
#[derive(Debug)]
pub struct Rejected {
    pub(crate) rejection: Rejection,
    pub(crate) context: RejectContext,
}

impl Rejected {
    /// For a request that is refused or cut; the observer is told, if there is one.
    #[cold]
    pub(crate) fn new(refusal: Refusal, observer: Observer<'_>, context: RejectContext) -> Self {
        let rejection = rejection(refusal);
        observer.refused(rejection.code());
        Self { rejection, context }
    }
}

/// A body was cut because its request held a place for longer than its lane allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldTooLong;

impl fmt::Display for HeldTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer took longer than its lane allows")
    }
}

/// Has a [`Rejection`] among its sources: who judges the upstream sees that it is not the upstream that failed.
impl Error for HeldTooLong {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static CUT: Rejection = Rejection::new(&GATEWAY_TIMEOUT);
        Some(&CUT)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::{Entry, LaneConfig, Lanes};

    /// Story: it was UNAVAILABLE as what was never started is, and its caller tried again what may have had an effect.
    #[cfg(feature = "threads")]
    #[test]
    fn a_grpc_caller_is_not_told_that_what_was_stopped_never_ran() {
        let stopped = stopped();
        assert_eq!(stopped.grpc(), GrpcStatus::Internal);
        assert_eq!(stopped.code(), &SHUTTING_DOWN);
        assert_eq!(stopped.code().status(), SHUTTING_DOWN.status());
    }

    #[test]
    fn clients_come_back_within_thirty_seconds() {
        let lanes = Lanes::new(NonZeroU32::MIN, [LaneConfig::new("core")]).unwrap();
        let core = lanes.find("core").unwrap();
        let _held = lanes.try_admit(core).unwrap();
        let start = Instant::now();
        let seconds = |after| {
            let Entry::Refused(refusal) = lanes.enter(core, start + after) else {
                panic!("the one place is taken");
            };
            rejection(refusal).retry_after_hint().unwrap().seconds()
        };
        for _ in 0..100 {
            assert!((1..=2).contains(&seconds(Duration::ZERO)));
        }
        // Nothing has been completed since.
        for _ in 0..100 {
            assert!((25..=30).contains(&seconds(Duration::from_secs(1))));
        }
    }
}
