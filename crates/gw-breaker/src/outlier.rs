//! Outlier ejection: an endpoint that does worse than the others of its set is left out for a while.
//!
//! A breaker asks whether an upstream works at all. Here the question is which of its endpoints does not. A balancer asks an
//! [`EndpointSet`] before it picks, and reports what came of each request; see [`EndpointHealth`].
//!
//! ```
//! use std::time::Duration;
//!
//! use gw_breaker::Outcome;
//! use gw_breaker::outlier::{EndpointHealth as _, OutlierConfig, Outliers};
//! use tokio::time::Instant;
//!
//! # fn main() -> Result<(), gw_breaker::ConfigError> {
//! let config = OutlierConfig::new().consecutive(5).base(Duration::from_secs(30));
//! let outliers = Outliers::new("orders", &config)?;
//! let set = outliers.endpoints(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"])?;
//!
//! let now = Instant::now();
//! for _ in 0..5 {
//!     set.report(1, Outcome::Failure, Duration::from_millis(3), now);
//! }
//! assert!(!set.is_usable(1, now) && set.is_usable(0, now));
//! // After 30 to 33 seconds it is back.
//! assert!(set.is_usable(1, now + Duration::from_secs(33)));
//! # Ok(())
//! # }
//! ```
//!
//! # What ejects an endpoint
//!
//! - **Failures in a row**, at once.
//! - **More failures than the others**: in two intervals in a row, its share of failures is above the median of the set by
//!   what matters (`failure_gap`), by what is unusual in this set (`deviations`), and by more than chance explains.
//! - **Slower than the others**: in two intervals in a row, the geometric mean of its latencies is above the median of the set
//!   by what matters (`latency_factor`) and by what is unusual in this set.
//!
//! The last two need three endpoints with `min_requests` in an interval. An interval with fewer neither clears nor charges an
//! endpoint. Successes have a latency; failures have none, since they may be fast. A request that is given up when the endpoint
//! has been waited for longer than was usual when that was last known took at least so long, and counts as that slow; one that is
//! given up earlier says nothing. Throttled requests are counted apart, and other ignored ones not at all.
//!
//! # How it comes back
//!
//! When its time is over, which gets longer each time and shorter with each good interval. Until its first success its first
//! failure ejects it again, and until its first good interval in which it can be compared a single bad one does. What was sent
//! before it came back is not counted. To send little at first is up to the balancer.
//!
//! # Threads
//!
//! There is no task and no timer. Asking is one or two loads, and a report is one atomic addition to what only this endpoint
//! uses. The first report after the end of an interval compares the endpoints; nobody waits for it. Neither allocates, unless
//! an endpoint changes its state.
//!
//! # Metrics
//!
//! With the feature `metrics`, and with a `describe` of their own:
//!
//! | metric | labels | meaning |
//! |---|---|---|
//! | `gateway_upstream_healthy` | `upstream` | endpoints that are in use |
//! | `gateway_upstream_unhealthy` | `upstream` | endpoints that are out: ejected, unhealthy or forced out |
//! | `gateway_upstream_ejected` | `upstream` | those of them that are ejected |
//! | `gateway_ejections_total` | `upstream`, `reason` | ejections: `consecutive`, `failure_rate` or `latency` |
//! | `gateway_shadow_ejections_total` | `upstream`, `reason` | the same in shadow mode: decided, and not done |
//!
//! The gauges are there from the first comparison or ejection on, and show what held when something last changed, unless
//! [`Outliers::record_gauges`] is called when metrics are read. Where the mode does not enforce, nobody is out but by force.

mod config;
mod judge;
mod log2;
mod member;
mod record;
mod roster;
mod set;
mod snapshot;
mod telemetry;

pub use gw_core::endpoint::EndpointHealth;

pub use self::config::OutlierConfig;
pub use self::set::{EndpointSet, Outliers};
pub use self::snapshot::{EndpointSnapshot, EndpointState, OutlierSnapshot, Reason};
#[cfg(feature = "metrics")]
pub use self::telemetry::describe;

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
