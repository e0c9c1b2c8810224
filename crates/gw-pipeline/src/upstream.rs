//! Sending requests on.
//!
//! [`Forward`] is the service that ends a pipeline. It keeps the rules of HTTP for intermediaries and hands each
//! request, with a permit of its own, to one [`Upstream`], which owns the connections to its endpoints.
//!
//! Layers that keep state for an upstream, such as a breaker or retries, stand in front of its connections, in the
//! [slots](stack) of its builder; their order is a type, as that of the pipeline is. The attempt's timer is the upstream's
//! own and stands behind them, so that a breaker sees it expire. A queue that is full is not the upstream's fault, and
//! [`ErrorKind::failure`] says so to whoever judges.
//!
//! # Bounds
//!
//! An upstream has a hard cap on requests in flight and on sockets, idle ones included, over all of its clones and
//! whatever runtimes they are used on. Requests beyond it wait in order of arrival, so many and so long; the rest is
//! refused with `OVERLOADED`. Idle connections stay with the runtime that made them, so a lane with threads of its own
//! never waits for another lane's; if one runtime needs a socket and the cap is reached, the longest idle connection
//! of any runtime is closed for it. Over HTTP/2 a runtime has one connection to each endpoint, and further ones while all
//! streams of those are taken; `max_connections` should not be less than the runtimes times the endpoints.
//!
//! Of an answer over HTTP/2 that nobody reads 128 KiB wait in memory, 32 MiB for 256 of them; many times that if they come in pieces of
//! a few bytes, each of which has a place in a list. That much of an answer comes within a round trip. No exchange takes the room of
//! others on the same connection.
//!
//! # Timers
//!
//! The attempt's timer covers everything up to the head of the answer, and is cut to the deadline of the exchange.
//! Within it run those for the queue, the connection, an upstream that stops reading the request, and the first byte
//! after the request is sent. The answer's body has one for its gaps, which each piece of a request that is still on its
//! way breaks as well. Whatever is ready together with a timer wins over it.
//!
//! A timer that expires while it is the client that is waited for, because the rest of its request has not come or because
//! it has taken more of the time to read the answer than the upstream to send it, says nothing about the upstream: the
//! refusal is `CLIENT_TIMEOUT`, and the error of a body that was cut has it among its sources.
//!
//! Interim answers (1xx) are left out. Over HTTP/1 they and the head of the answer may have 128 KiB; over HTTP/2 the attempt's
//! timer is their only bound.
//!
//! # Failures
//!
//! Every failure is a [`Rejection`](gw_core::Rejection) with an [`Error`] as its source. A fault of the client's own,
//! told by [`ClientFault`](crate::inbound::ClientFault) or by the server's reader, is answered as such; another failure
//! of the request's body is the gateway's own. Trying again is for the layers in front, and
//! [`Rejection::failure`](gw_core::Rejection::failure) tells them whether the upstream may have seen anything of it. Only what an
//! HTTP/1 connection that was used before has lost is sent twice here, if it is safe: see [`Upstream::send`].
//!
//! An HTTP/2 connection that is silent through a whole attempt is not used for others, and one in use that answers no
//! ping is closed. A request that is still on its way when its answer has ended keeps slot and connection for five
//! seconds at the most.
//!
//! # Metrics
//!
//! With the feature `metrics`, all with the label `upstream`; the gauges are set by
//! [`Upstream::record_gauges`]:
//!
//! | name | labels | |
//! |---|---|---|
//! | `gateway_upstream_requests_total` | `outcome`, `attempt` | requests, by what became of them |
//! | `gateway_upstream_answers_cut_total` | `reason` | answers that were cut after their head, by the timer or by whose fault it was |
//! | `gateway_upstream_connections` | `state` | `active` or `idle` |
//! | `gateway_upstream_pending_requests` | | in the queue |
//! | `gateway_upgraded_streams` | | tunnels |

mod after;
mod body;
mod config;
mod connector;
mod copied;
mod discard;
mod error;
mod exchange;
mod forward;
mod forwarded;
mod framing;
pub mod future;
mod handle;
mod hop_by_hop;
mod http1;
mod http2;
mod lease;
mod limits;
mod permit;
mod place;
mod pool;
mod pool_config;
mod received;
mod report;
mod resend;
mod resolver;
mod slots;
mod socket;
pub mod stack;
mod stated;
mod target;
mod tasks;
mod telemetry;
mod timer;
mod transport;
mod tunnel;
mod upgrade;
mod upload;
mod usage;
mod via;

pub use gw_core::Failure;
pub use gw_core::classify::Outcome;
pub use gw_core::endpoint::EndpointHealth;

pub use self::body::UpstreamBody;
pub use self::config::{HostHeader, Protocol, UpstreamBuilder};
pub use self::copied::copy_extensions;
pub use self::error::{Error, ErrorKind};
pub use self::forward::Forward;
pub use self::forwarded::is_said_by_proxies;
pub use self::handle::{Upstream, UpstreamSnapshot};
pub use self::permit::UpstreamPermit;
pub use self::pool_config::PoolConfig;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use self::telemetry::describe;
pub use self::transport::Transport;
