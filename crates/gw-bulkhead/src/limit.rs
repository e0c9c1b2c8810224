//! How many requests may be in flight: a fixed number, or one that follows what the answers' latency says.
//!
//! An [`Algorithm`] is the pure decision: a [`Window`] of samples in, the [`Next`] limit out. It knows no clock, no lock
//! and no HTTP. [`Lanes`](crate::Lanes) give each lane one of its own, since requests of different kinds ruin one
//! another's idea of what is normal, and collect its samples.

mod aimd;
mod algorithm;
mod baseline;
mod config;
mod episode;
mod gradient2;
mod probe;

pub use self::aimd::Aimd;
pub use self::algorithm::{Algorithm, Next, Outcome, Report, Window};
pub use self::config::{Adaptive, Limit};
pub use self::gradient2::Gradient2;
