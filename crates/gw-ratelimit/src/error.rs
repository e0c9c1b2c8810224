//! The refusals of this crate.

use std::time::Duration;

use gw_core::attempt::Failure;
use gw_core::key::MissingKey;
use gw_core::{Code, GrpcStatus, Rejection, RetryAfter};
use http::StatusCode;

use crate::decision::{Decision, Standing};
use crate::limiter::Limiter;

/// A policy's quota is used up. Details: `limit` (requests at once), `window` (seconds in which they come back), and
/// `retry_after` (seconds) unless the request costs more than the limit and can never pass. They speak of the policy that
/// refused: the field `Retry-After` is later where a layer further out leaves nothing for longer, and it counts.
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

/// The request lacks what a policy with [`OnMissingKey::Deny`](crate::OnMissingKey::Deny) counts by. The cause of the
/// refusal, its `source`, is the [`MissingKey`], which no answer tells.
pub const MALFORMED_REQUEST: Code = Code::new(
    "MALFORMED_REQUEST",
    StatusCode::BAD_REQUEST,
    "The request lacks something that it must carry to be admitted.",
    GrpcStatus::InvalidArgument,
);

/// The type of a refusal in a problem document (draft-ietf-httpapi-ratelimit-headers-11, section 5): the client has used
/// up a quota.
pub const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// The type where the quota in force is less than what the limiter was built with: an operator has lowered it. The status
/// is 429 all the same, as with the other types, and not the 503 of the draft's example: the code and its status do not
/// change with what an operator does meanwhile.
pub const TEMPORARY_REDUCED_CAPACITY: &str =
    "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";

/// The type where the client was refused so often that a [penalty](crate::Penalty) made its requests dearer.
pub const ABNORMAL_USAGE_DETECTED: &str =
    "https://iana.org/assignments/http-problem-types#abnormal-usage-detected";

/// The member of a problem document that names the policies that refused.
const VIOLATED_POLICIES: &str = "violated-policies";

/// The refusal for a decision that refuses.
pub(crate) fn exceeded(decision: &Decision, limiter: &Limiter) -> Rejection {
    let rejection = Rejection::new(&RATE_LIMIT_EXCEEDED).failed(Failure::Refused);
    let Some(binding) = decision.binding() else {
        return rejection;
    };
    let violated = decision.standings().iter().filter(|s| s.refuses());
    let names = violated.filter_map(|standing| limiter.shared_name(standing.policy()));
    let rejection = rejection
        .problem_type(problem_type(binding, limiter))
        .problem_names(VIOLATED_POLICIES, names)
        .detail("limit", binding.burst())
        .detail("window", seconds(binding.burst_window()));
    let Some(wait) = binding.retry_after() else {
        return rejection;
    };
    // Jitter only adds: the answer's `RateLimit` field names the exact wait, and this must not be earlier.
    let after = RetryAfter::jittered(wait);
    rejection
        .detail("retry_after", after.seconds())
        .retry_after(after)
}

fn problem_type(binding: &Standing, limiter: &Limiter) -> &'static str {
    if binding.is_penalized() {
        ABNORMAL_USAGE_DETECTED
    } else if limiter.is_reduced(binding.policy(), binding.tier()) {
        TEMPORARY_REDUCED_CAPACITY
    } else {
        QUOTA_EXCEEDED
    }
}

#[cfg(feature = "redis")]
pub(crate) fn unavailable() -> Rejection {
    let after = RetryAfter::jittered(Duration::from_secs(1));
    Rejection::new(&LIMITS_UNAVAILABLE)
        .retry_after(after)
        .failed(Failure::Refused)
}

pub(crate) fn missing_key(missing: MissingKey) -> Rejection {
    Rejection::new(&MALFORMED_REQUEST)
        .caused_by(missing)
        .failed(Failure::Refused)
}

/// Whole seconds, rounded up.
pub(crate) fn seconds(duration: Duration) -> u32 {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX)
}
