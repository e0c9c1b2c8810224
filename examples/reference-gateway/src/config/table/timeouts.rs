//! `timeouts` of a route.

use std::time::Duration;

use serde::Deserialize;

use crate::config::value::{optional, text};

// Section d of the gateway survey proposes these timers; the contract says only that they exist.
/// Head received to last byte sent, upload included.
const REQUEST: Duration = Duration::from_secs(30);
/// Request sent to head received.
const FIRST_BYTE: Duration = Duration::from_secs(15);
/// Between two pieces of a body.
const IDLE: Duration = Duration::from_secs(30);

/// The timers of a route. One that is not written is never longer than the one around it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// The whole exchange: head received to last byte, upload included.
    #[serde(deserialize_with = "text")]
    pub request: Duration,
    /// One attempt at the upstream. `None`: what is left of `request`.
    #[serde(deserialize_with = "optional")]
    pub attempt: Option<Duration>,
    /// Until the upstream's head, as it is written: see [`Self::first_byte`].
    #[serde(deserialize_with = "optional")]
    pub first_byte: Option<Duration>,
    /// Between two pieces of the body, as it is written: see [`Self::idle`].
    #[serde(deserialize_with = "optional")]
    pub idle: Option<Duration>,
}

impl Timeouts {
    /// The timer around an attempt.
    pub fn longest_attempt(&self) -> Duration {
        self.attempt.unwrap_or(self.request)
    }

    /// The timer until the upstream's head.
    pub fn first_byte(&self) -> Duration {
        self.first_byte
            .unwrap_or_else(|| FIRST_BYTE.min(self.longest_attempt()))
    }

    /// The timer between two pieces of the body.
    pub fn idle(&self) -> Duration {
        self.idle.unwrap_or_else(|| IDLE.min(self.request))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: REQUEST,
            attempt: None,
            first_byte: None,
            idle: None,
        }
    }
}
