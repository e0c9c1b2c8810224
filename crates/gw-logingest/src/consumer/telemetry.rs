//! The log lines of the consumer. Its metrics are with the others of delivery.

use super::status::ConsumerState;
use crate::dead_letter::KeepError;
use crate::sink::{Delivery, Fault, Reason};

/// The class of an answer, as the metrics name it.
pub(super) const fn class(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery::Items(_) => "2xx",
        Delivery::TooLarge => "413",
        Delivery::Refused(reason) | Delivery::Blocked(reason) => match reason.status() {
            Some(400..=499) => "4xx",
            // A redirect, say, or an answer that is none of a sink's.
            Some(_) | None => "other",
        },
        Delivery::Retry { fault, .. } => match fault {
            Fault::Throttled => "429",
            Fault::Unavailable => "5xx",
            Fault::Timeout => "timeout",
            Fault::Connection => "error",
            Fault::Garbled => "other",
        },
    }
}

pub(super) fn state_changed(state: ConsumerState, reason: Option<&Reason>) {
    #[cfg(feature = "tracing")]
    match (state, reason) {
        (ConsumerState::Delivering | ConsumerState::Stopped, _) => {
            tracing::info!(state = state.as_str(), "log delivery: state changed");
        }
        (_, Some(reason)) => {
            tracing::warn!(state = state.as_str(), %reason, "log delivery: state changed");
        }
        (_, None) => tracing::warn!(state = state.as_str(), "log delivery: state changed"),
    }
    let _ = (state, reason);
}

pub(super) fn letters_stuck(error: &KeepError) {
    #[cfg(feature = "tracing")]
    tracing::error!(
        error = error as &dyn std::error::Error,
        "log delivery: dead letters cannot be kept"
    );
    let _ = error;
}

/// There are clients whose dead letters take all that they may, or there are none any more.
pub(super) fn clients_held(any: bool) {
    #[cfg(feature = "tracing")]
    if any {
        tracing::warn!(
            "log delivery: dead letters of a client fill its share, or the sink takes nothing of what is left of its batches; these stay in the queue"
        );
    } else {
        tracing::info!("log delivery: no client is held any more");
    }
    let _ = any;
}

pub(super) fn limit_learned(max_bytes: usize) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        max_bytes,
        "log delivery: the sink takes smaller requests only"
    );
    let _ = max_bytes;
}

pub(super) fn sink_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!("log delivery: the sink panicked; its events are tried again");
}
