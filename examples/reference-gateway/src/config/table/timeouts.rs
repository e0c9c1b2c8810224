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
#[serde(from = "TimeoutsTable")]
pub struct Timeouts {
    /// The whole exchange: head received to last byte, upload included.
    pub request: Duration,
    /// One attempt at the upstream. `None`: what is left of `request`.
    pub attempt: Option<Duration>,
    /// Until the upstream's head.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub idle: Duration,
}

impl Timeouts {
    /// The timer around an attempt.
    pub fn longest_attempt(&self) -> Duration {
        self.attempt.unwrap_or(self.request)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        TimeoutsTable::default().into()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TimeoutsTable {
    #[serde(deserialize_with = "text")]
    request: Duration,
    #[serde(deserialize_with = "optional")]
    attempt: Option<Duration>,
    #[serde(deserialize_with = "optional")]
    first_byte: Option<Duration>,
    #[serde(deserialize_with = "optional")]
    idle: Option<Duration>,
}

impl Default for TimeoutsTable {
    fn default() -> Self {
        Self {
            request: REQUEST,
            attempt: None,
            first_byte: None,
            idle: None,
        }
    }
}

impl From<TimeoutsTable> for Timeouts {
    fn from(table: TimeoutsTable) -> Self {
        let TimeoutsTable {
            request,
            attempt,
            first_byte,
            idle,
        } = table;
        Self {
            request,
            attempt,
            first_byte: first_byte.unwrap_or(FIRST_BYTE.min(attempt.unwrap_or(request))),
            idle: idle.unwrap_or(IDLE.min(request)),
        }
    }
}
