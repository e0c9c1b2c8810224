use gw_core::attempt::Failure;
use gw_core::record::Record;
use gw_core::{Code, GrpcStatus, RejectContext, Rejection, RetryAfter};
use http::{Request, StatusCode};

use crate::admission::Refused;

/// The circuit breaker of the upstream is open, or lets only a few pass.
pub const CIRCUIT_OPEN: Code = Code::new(
    "CIRCUIT_OPEN",
    StatusCode::SERVICE_UNAVAILABLE,
    "The service is not available at the moment.",
    GrpcStatus::Unavailable,
);

/// The slot that observers are told of, where no pipeline has said in which one the layer is: breakers stand in front of an upstream.
pub(crate) const SLOT: &str = "forward";

/// A refusal on its way to the renderer.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub(crate) rejection: Rejection,
    pub(crate) context: RejectContext,
}

impl Rejected {
    /// The answer to a refused request; the observer is told the slot, if there is one. Clients are asked to come back when the
    /// breaker is no longer open, but not all at once.
    #[cold]
    pub(crate) fn new<B>(refused: Refused, slot: &'static str, request: &Request<B>) -> Self {
        if let Some(record) = Record::of(request.extensions()) {
            record.refused(slot, &CIRCUIT_OPEN);
        }
        let wait = RetryAfter::jittered(refused.retry_after);
        let rejection = Rejection::new(&CIRCUIT_OPEN)
            .retry_after(wait)
            .detail("state", refused.state.as_str())
            .failed(Failure::Refused);
        Self {
            rejection,
            context: RejectContext::of(request),
        }
    }
}
