use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use gw_core::Code;

use crate::codes;

/// Tells whether a request's body failed by the client's fault, and how.
///
/// A stage that wraps request bodies puts it into the request's extensions, and sets it when the body fails. What
/// sends the body on sees only an error then, and asks here: a client's fault is answered with a 4xx, and neither
/// breaker nor retry hears of it.
#[derive(Debug, Clone, Default)]
pub struct ClientFault(Arc<AtomicU8>);

/// How a request's body failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// It could not be read: broken framing, or the client left.
    Malformed = 1,
    /// It is larger than the route allows.
    TooLarge = 2,
    /// It came too slowly.
    TooSlow = 3,
}

impl Fault {
    /// The code that the client is answered with.
    pub const fn code(self) -> &'static Code {
        match self {
            Self::Malformed => &codes::MALFORMED_REQUEST,
            Self::TooLarge => &codes::BODY_TOO_LARGE,
            Self::TooSlow => &codes::CLIENT_TIMEOUT,
        }
    }
}

impl ClientFault {
    /// Notes the fault. The first one stays.
    pub fn set(&self, fault: Fault) {
        // Relaxed: the flag is read by the task that polled the body, or after that task handed its result over.
        _ = self
            .0
            .compare_exchange(0, fault as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The fault, if there was one.
    pub fn get(&self) -> Option<Fault> {
        match self.0.load(Ordering::Relaxed) {
            1 => Some(Fault::Malformed),
            2 => Some(Fault::TooLarge),
            3 => Some(Fault::TooSlow),
            _ => None,
        }
    }
}
