use std::time::Duration;

/// The timers of one exchange with an upstream, put into the request's extensions by the route stage.
///
/// The deadline of the whole exchange is apart: [`Deadline`](gw_core::context::Deadline). Each timer is cut to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// One try, from its start to the head of the answer. Starts before a connection is at hand.
    pub attempt: Duration,
    /// From the request being sent to the head of the answer.
    pub first_byte: Duration,
    /// The longest gap within the answer's body.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(15),
            first_byte: Duration::from_secs(15),
            idle: Duration::from_secs(30),
        }
    }
}

/// In the extensions of requests whose route lets the bodies of an upstream's 5xx answers through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassErrorBodies;
