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
//!   without, but for a moment where another instance gives something back; [`lease`] says why.
//! - [`OnFailure`] says who decides while Redis does not answer: this instance, everyone, or nobody. A Redis that is
//!   slow costs each request at most the timeout, and after a few such requests nothing: then only one at a time asks
//!   whether it is back.
//!
//! - Rates and sliding windows are decided on together, as in memory. Windows begin at multiples of their length since 1970,
//!   so they are the same for all instances; cells of them are not leased. A policy stays a rate, or a window of its length,
//!   for as long as the limiter lives: [`RateLimitHandle::set_quota`](crate::RateLimitHandle::set_quota) changes the rate
//!   and the limit. Built anew with another length, it begins afresh.
//! - Late charges and refunds ([`Charged`](crate::Charged), [`ChargeBodyLayer`](crate::ChargeBodyLayer),
//!   [`Policy::charge_response`](crate::Policy::charge_response)) are told Redis in the background, 64 requests in one call.
//!   Up to 4,096 requests wait; who comes then is turned away. What was sent and not answered is not sent again, as it could
//!   be charged twice. Either is counted, see [`StoreSnapshot::late_lost`]. While Redis does not answer, [`OnFailure`] goes
//!   for these as well: with the local fallback, this instance has charged itself all along, and gives back what it did.
//!
//! Tiers are as without Redis. The strikes of a [`Penalty`](crate::Penalty) are noted by each instance for itself.
//!
//! Redis must keep what it is given: with an eviction policy other than `noeviction`, debts are forgiven when its memory
//! is full; with that one, a full server is one that does not answer. A failover loses the debts that were not replicated
//! yet. In a cluster, the node that holds the limiter's slot is found by its redirections. While the slot moves to another node,
//! each key is asked for where it is; but all keys of one request must exist in one place. Where some have moved and others have
//! not, or one is new, [`OnFailure`] decides on a request under several policies, and Redis is asked about all others as ever.
//!
//! With the feature `redis-tls`, `rediss://` is the same over TLS: by rustls with aws-lc, TLS 1.2 or later, and the server's
//! certificate must be for the host in the URL, or in a cluster's redirections, and signed by whom the system trusts (or
//! `SSL_CERT_FILE` names), or by [`root_certificates`](RedisStore#method.root_certificates). Certificates are read when the
//! limiter is built.
//!
//! # Examples
//!
//! ```
//! use gw_ratelimit::key::ClientIp;
//! use gw_ratelimit::redis::{Leases, RedisStore};
//! use gw_ratelimit::{Policy, Quota, RateLimitLayer};
//!
//! # fn example(secret: &[u8]) -> Result<(), gw_ratelimit::ConfigError> {
//! let store = RedisStore::new("redis://127.0.0.1", "api", secret).leases(Leases::up_to(20));
//! let limits = RateLimitLayer::builder()
//!     .policy(Policy::new("per_ip", Quota::per_second(100).burst(200)).key(ClientIp::new()))
//!     .build_shared(&store)?;
//! # Ok(())
//! # }
//! ```
//!
//! # When an instance starts
//!
//! An instance that starts calls [`SharedLimiter::connect`], in the runtime that is to hold the connection. All requests use
//! that one, whatever runtime they run in.
//!
//! # When an instance ends
//!
//! An instance that ends calls [`SharedLimiter::close`]. Without it, nothing is given back when the last clone is dropped:
//! leased cells run off by themselves, and what Redis was not told of yet is lost.

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
mod line;
mod link;
mod measure;
mod measured;
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
mod warnings;
mod wire;

pub use self::future::ResponseFuture;
pub use self::layer::SharedRateLimitLayer;
pub use self::limiter::{SharedCharge, SharedLimiter, StoreSnapshot};
pub use self::service::SharedRateLimit;
pub use self::settings::{Leases, OnFailure, RedisStore};
#[cfg(feature = "metrics")]
pub use self::telemetry::HISTOGRAM_BUCKETS;
#[cfg(feature = "metrics")]
pub(crate) use self::telemetry::describe;
