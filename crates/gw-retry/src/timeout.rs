//! Timers: a deadline for the exchange, and limits for an attempt.
//!
//! [`DeadlineLayer`] stands outside everything and ends the exchange: with 504 before the head, with a cut body after it.
//! [`AttemptTimeoutLayer`] stands inside the retry layer and ends an attempt: its expiry is a failure of the upstream's that
//! a breaker and the retry layer see, never a silent drop.
//!
//! Whatever is ready together with a timer wins over it. An answer never tells which timer it was; log and metric do, and so
//! does the [`TimedOut`] that is the refusal's source. Of a body that was cut the `cause` in the request's `Record` tells.

mod attempt;
mod body;
mod deadline;
mod error;
mod field;
pub mod future;
mod handle;
mod limit;
mod note;

pub use self::attempt::{AttemptTimeout, AttemptTimeoutLayer, AttemptTimeouts};
pub use self::body::TimedBody;
pub use self::deadline::{DeadlineLayer, InTime};
pub use self::error::{GATEWAY_TIMEOUT, TimedOut, Timer};
pub use self::field::TimeFields;
pub use self::handle::{
    AttemptTimeoutHandle, AttemptTimeoutSnapshot, DeadlineHandle, DeadlineSnapshot,
};
