//! The refusals of this crate.

use std::time::Duration;

use gw_core::{Code, GrpcStatus, Rejection, RetryAfter};
use http::StatusCode;

use crate::decision::Decision;

/// A policy's quota is used up. Details: `limit` (requests at once), `window` (seconds in which they come back), and
/// `retry_after` (seconds) unless the request costs more than the limit and can never pass.
///
/// The policy's name is not among the details, since these hold no text from configuration; the `RateLimit` field
/// names it.
pub const RATE_LIMIT_EXCEEDED: Code = Code::new(
    "RATE_LIMIT_EXCEEDED",
    StatusCode::TOO_MANY_REQUESTS,
    "Too many requests.",
    GrpcStatus::ResourceExhausted,
);

/// The store that the limits are shared in does not answer, and nobody else is to decide; see
/// [`OnFailure::Closed`](crate::redis::OnFailure::Closed).
#[cfg(feature = "redis")]
pub const LIMITS_UNAVAILABLE: Code = Code::new(
    "LIMITS_UNAVAILABLE",
    StatusCode::SERVICE_UNAVAILABLE,
    "Limits cannot be checked at the moment.",
    GrpcStatus::Unavailable,
);

/// The request lacks what a policy with [`OnMissingKey::Deny`](crate::OnMissingKey::Deny) counts by.
pub const MALFORMED_REQUEST: Code = Code::new(
    "MALFORMED_REQUEST",
    StatusCode::BAD_REQUEST,
    "The request lacks something that it must carry to be admitted.",
    GrpcStatus::InvalidArgument,
);

/// The refusal for a decision that refuses.
pub(crate) fn exceeded(decision: &Decision) -> Rejection {
    let rejection = Rejection::new(&RATE_LIMIT_EXCEEDED);
    let Some(binding) = decision.binding() else {
        return rejection;
    };
    let rejection = rejection
        .detail("limit", binding.burst())
        .detail("window", seconds(binding.burst_window()));
    let Some(wait) = binding.retry_after() else {
        return rejection;
    };
    // Jitter only adds: the answer's `RateLimit` field names the exact wait, and this must not be earlier.
    let after = RetryAfter::jittered(wait, &mut fastrand::Rng::new());
    rejection
        .detail("retry_after", after.seconds())
        .retry_after(after)
}

#[cfg(feature = "redis")]
pub(crate) fn unavailable() -> Rejection {
    let after = RetryAfter::jittered(Duration::from_secs(1), &mut fastrand::Rng::new());
    Rejection::new(&LIMITS_UNAVAILABLE).retry_after(after)
}

pub(crate) const fn missing_key() -> Rejection {
    Rejection::new(&MALFORMED_REQUEST)
}

/// Whole seconds, rounded up.
pub(crate) fn seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
