//! What the measuring programs share: processes whose CPU time is accounted, small servers, load, statistics.
//!
//! Every part of a measurement is a process of its own, since CPU time is accounted per process. The programs start
//! themselves again for the small servers (see [`roles`]).

pub mod answer;
pub mod callgrind;
pub mod closed_loop;
pub mod connection;
pub mod cpu;
pub mod footprint;
pub mod gateway;
pub mod group_commit;
pub mod hang;
pub mod load;
pub mod ports;
pub mod process;
pub mod program;
pub mod roles;
pub mod statistics;
pub mod supervise;
pub mod table;

/// Whatever went wrong, for a person to read: a measurement that cannot be made has no other answer.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
