use std::time::Duration;

/// The timers of one exchange with an upstream, put into the request's extensions by the route stage.
///
/// The deadline of the whole exchange is apart: [`Deadline`](gw_core::context::Deadline). Each timer is cut to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// One try, from its start to the head of the answer. Starts before a connection is at hand.
    pub attempt: Duration,
    /// From the request being sent to the head of the answer.
    pub first_byte: Duration,
    /// The longest gap within the answer's body.
    pub idle: Duration,
}

impl Timeouts {
    /// 15 seconds to the head, all of them for the first byte, and 30 seconds for gaps.
    pub const fn new() -> Self {
        Self {
            attempt: Duration::from_secs(15),
            first_byte: Duration::from_secs(15),
            idle: Duration::from_secs(30),
        }
    }

    /// Sets [`attempt`](Self#structfield.attempt).
    #[must_use]
    pub const fn attempt(mut self, limit: Duration) -> Self {
        self.attempt = limit;
        self
    }

    /// Sets [`first_byte`](Self#structfield.first_byte).
    #[must_use]
    pub const fn first_byte(mut self, limit: Duration) -> Self {
        self.first_byte = limit;
        self
    }

    /// Sets [`idle`](Self#structfield.idle).
    #[must_use]
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }
}

impl Default for Timeouts {
    /// Those of [`Timeouts::new`].
    fn default() -> Self {
        Self::new()
    }
}

/// In the extensions of requests whose route lets the bodies of an upstream's 5xx answers through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassErrorBodies;
