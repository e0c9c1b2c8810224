//! The record of one request, shared by the stages that fill it and the observer that reads it.
//!
//! A request that is dropped has no response, so what stages put into response extensions would never reach the log.
//! The observer therefore puts a [`Record`] into the *request*, keeps a clone, and reads it when the exchange ends in
//! whatever way. Without an observer there is no record, and filling it costs one look-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use crate::context::{ClientAddr, Identity, Lane, RequestId, RouteMatch, UpstreamName};
use crate::rejection::Code;

/// A handle to what is known of one exchange. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Exchange>>);

/// What is known of a request and its answer when they end. Fields that no stage filled are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// When the observer saw the request's head.
    pub began: Option<Instant>,
    /// The request's id.
    pub request_id: Option<RequestId>,
    /// Who called.
    pub client: Option<ClientAddr>,
    /// What the request matched.
    pub route: Option<RouteMatch>,
    /// The lane it ran in.
    pub lane: Option<Lane>,
    /// Who the caller is.
    pub identity: Option<Identity>,
    /// Who served it.
    pub upstream: Option<UpstreamName>,
    /// How often the upstream was tried; 0 if it was not.
    pub attempts: u32,
    /// The time spent waiting for the upstream: from the first byte sent to the last one received.
    pub upstream_time: Option<Duration>,
    /// Since when an attempt has been under way whose wait is not in `upstream_time` yet.
    ///
    /// Where a request runs on a thread of its own, it may outlive its observer by a moment: when the client leaves, this is
    /// all that is known of the wait.
    pub upstream_since: Option<Instant>,
    /// The least that any rate-limit policy left to the caller.
    pub rate_limit_remaining: Option<u64>,
    /// How many bytes of the request's body have been read.
    pub request_size: u64,
    /// The time spent waiting for the request's body.
    pub upload_wait: Duration,
    /// Why the gateway refused or failed the request, or cut its answer, if it did.
    pub code: Option<&'static Code>,
    /// The stage that did so, by the name of its slot in lower snake case, such as `pre_auth_limit`.
    pub refused_by: Option<&'static str>,
    /// What it was about the upstream, in one word such as `first_byte_timeout`, if that is why. For logs: a client is told
    /// the code alone.
    pub cause: Option<&'static str>,
}

impl Record {
    /// The record of a request whose head came at `now`.
    pub fn begun(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Exchange {
            began: Some(now),
            ..Exchange::default()
        })))
    }

    /// The record in a request's extensions, if an observer put one there.
    #[inline]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Fills in what a stage found out. `update` runs under a lock, and must be short.
    pub fn update(&self, update: impl FnOnce(&mut Exchange)) {
        // A panic while filling a field leaves the others whole, so a poisoned lock is still good.
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that the stage in `slot` refused or failed the request, or cut its answer, and why.
    pub fn refused(&self, slot: &'static str, code: &'static Code) {
        self.update(|exchange| {
            exchange.refused_by = Some(slot);
            exchange.code = Some(code);
        });
    }

    /// What is known so far.
    pub fn exchange(&self) -> Exchange {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_share_what_is_known() {
        let mut extensions = Extensions::new();
        assert!(Record::of(&extensions).is_none());
        let kept = Record::default();
        extensions.insert(kept.clone());
        Record::of(&extensions)
            .unwrap()
            .update(|exchange| exchange.attempts += 1);
        drop(extensions);
        assert_eq!(kept.exchange().attempts, 1);
    }

    #[test]
    fn a_refusal_has_a_stage_and_a_code() {
        const FULL: Code = Code::new(
            "OVERLOADED",
            http::StatusCode::SERVICE_UNAVAILABLE,
            "A test.",
            crate::GrpcStatus::Unavailable,
        );
        let record = Record::default();
        record.refused("admit", &FULL);
        let exchange = record.exchange();
        assert_eq!(exchange.refused_by, Some("admit"));
        assert_eq!(exchange.code, Some(&FULL));
    }
}
