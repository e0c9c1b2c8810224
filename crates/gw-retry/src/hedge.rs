//! Hedging: a second copy of a read that takes longer than nearly all do.
//!
//! The tail of an upstream's latency is mostly bad luck: a slow replica, a pause, a full queue. A second copy sent after the
//! time in which 99 of 100 are answered costs one request in a hundred and cuts the tail (Dean and Barroso, "The Tail at
//! Scale", 2013). When the upstream itself is slow the same rule would double the load, so there is a cap on extra load, the
//! retry budget counts hedges too, and nothing is hedged while the upstream asks for less or its breaker is not closed.
//!
//! Only reads without a body are hedged: GET, HEAD, OPTIONS and QUERY. Each copy is sent by an instance of its own, so what
//! lends out connections lends each copy one. The copy that loses is dropped before the winner's answer is returned.

pub mod future;
mod gate;
mod handle;
mod layer;
mod plan;
mod service;

pub use self::gate::HedgeGate;
pub use self::handle::{HedgeHandle, HedgeSnapshot};
pub use self::layer::{HedgeBuilder, HedgeLayer};
pub use self::service::Hedge;
