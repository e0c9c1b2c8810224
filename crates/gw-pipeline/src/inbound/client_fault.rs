use std::sync::{Arc, OnceLock};

use gw_core::{Code, Rejection};

use crate::codes;

/// Tells whether a request's body failed by the client's fault, and how.
///
/// A stage that wraps request bodies puts it into the request's extensions, and sets it when the body fails. What
/// sends the body on by a connection may learn only that this failed, and asks here: a client's fault is answered with a 4xx, and neither
/// breaker nor retry hears of it.
#[derive(Debug, Clone, Default)]
pub struct ClientFault(Arc<OnceLock<Fault>>);

/// How a request's body failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It could not be read: broken framing, or the client left.
    Malformed,
    /// It is larger than the route allows.
    TooLarge {
        /// What the route allows.
        limit_bytes: u64,
    },
    /// It came too slowly.
    TooSlow,
}

impl Fault {
    /// The code that the client is answered with.
    pub const fn code(self) -> &'static Code {
        match self {
            Self::Malformed => &codes::MALFORMED_REQUEST,
            Self::TooLarge { .. } => &codes::BODY_TOO_LARGE,
            Self::TooSlow => &codes::CLIENT_TIMEOUT,
        }
    }

    /// What the client is answered with.
    pub fn refusal(self) -> Rejection {
        let refused = Rejection::new(self.code());
        match self {
            Self::TooLarge { limit_bytes } => refused.detail("limit_bytes", limit_bytes),
            Self::Malformed | Self::TooSlow => refused,
        }
    }
}

impl ClientFault {
    /// Notes the fault. The first one stays.
    pub fn set(&self, fault: Fault) {
        _ = self.0.set(fault);
    }

    /// The fault, if there was one.
    pub fn get(&self) -> Option<Fault> {
        self.0.get().copied()
    }
}
