//! What the clients measure: for each second of the schedule, how its requests ended and how long they took.
//!
//! A request is counted in the second for which it was *scheduled*, and its time runs from that instant, not from when
//! the generator got round to sending it. A generator or a gateway that stalls can therefore not hide the stall: the
//! requests that should have been sent meanwhile are charged for the whole wait (no coordinated omission).

mod meter;
mod series;

pub(crate) use self::meter::{Live, Meter};
pub(crate) use self::series::{Outcome, Second, Series, Summary};

/// The two things that clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) enum Route {
    /// Log in.
    Auth,
    /// Upload a batch of log events.
    Logs,
}

impl Route {
    /// The route's name in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Logs => "logs",
        }
    }
}
