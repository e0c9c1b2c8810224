//! Limits that all instances of a service share, in Redis.
//!
//! One script in Redis decides on a request over all its policies: all are charged or none. It goes by Redis' own
//! clock, so instances need not agree on the time; should that clock be set forward, as much debt is forgiven. Set back,
//! it makes no debt larger than it was when the key was last charged; the same goes for a replica with another clock. Each
//! key lives as long as its debt; all keys of a limiter have one hash tag, so a cluster keeps them in one place. Clients'
//! keys are hashed with a secret that the instances share.
//!
//! - [`SharedLimiter`] decides without HTTP, [`SharedRateLimitLayer`] with it. Both are built as their local
//!   counterparts are, by `build_shared` at the end.
//! - With [`Leases`] an instance takes cells in advance and spends them without the network. It never admits more than
//!   without; [`lease`] says why.
//! - [`OnFailure`] says who decides while Redis does not answer: this instance, everyone, or nobody. A Redis that is
//!   slow costs each request at most the timeout, and after a few such requests nothing: then only one at a time asks
//!   whether it is back.
//!
//! Tiers are as without Redis. The strikes of a [`Penalty`](crate::Penalty) are noted by each instance for itself. Sliding
//! windows and late charges are refused by `build_shared`.
//!
//! Redis must keep what it is given: with an eviction policy other than `noeviction`, debts are forgiven when its memory
//! is full; with that one, a full server is one that does not answer. A failover loses the debts that were not replicated
//! yet. In a cluster, the node that holds the limiter's slot is found by its redirections. There is no TLS to Redis.

mod account;
mod admission;
mod breaker;
mod courier;
mod future;
mod held;
mod item;
mod key;
mod layer;
pub mod lease;
mod limiter;
mod link;
mod permit;
mod receipt;
mod script;
mod service;
mod settings;
mod shared;
mod table;
mod telemetry;
mod tending;
mod tls;

pub use self::future::ResponseFuture;
pub use self::layer::SharedRateLimitLayer;
pub use self::limiter::{SharedCharge, SharedLimiter, StoreSnapshot};
pub use self::service::SharedRateLimit;
pub use self::settings::{Leases, OnFailure, RedisStore};
#[cfg(feature = "metrics")]
pub(crate) use self::telemetry::describe;
