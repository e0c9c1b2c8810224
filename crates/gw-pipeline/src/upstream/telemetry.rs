//! Every metric name of this module. How long upstreams take is in the record of a request, and measured by whoever reads
//! that.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

#[cfg(feature = "metrics")]
pub use self::metering::describe;
pub(super) use self::metering::{Counted, Meters};

#[cfg(feature = "metrics")]
mod metering {
    use std::array;
    use std::fmt;
    use std::pin::Pin;
    use std::sync::{Arc, OnceLock};
    use std::task::{Context, Poll, ready};

    use gw_core::context::UpstreamName;
    use http::Response;
    use metrics::{Counter, Gauge, Unit};
    use pin_project_lite::pin_project;

    use crate::upstream::error::{Error, ErrorKind};
    use crate::upstream::handle::UpstreamSnapshot;
    use crate::upstream::pool::Pool;

    const CONNECTIONS: &str = "gateway_upstream_connections";
    const PENDING: &str = "gateway_upstream_pending_requests";
    const REQUESTS: &str = "gateway_upstream_requests_total";
    const CUTS: &str = "gateway_upstream_answers_cut_total";
    const TUNNELS: &str = "gateway_upgraded_streams";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            CONNECTIONS,
            Unit::Count,
            "Connections to the upstream, by state (active, idle); active ones include those being made and tunnels."
        );
        metrics::describe_gauge!(
            PENDING,
            Unit::Count,
            "Requests that wait for their turn at the upstream."
        );
        metrics::describe_counter!(
            REQUESTS,
            Unit::Count,
            "Requests to the upstream, by outcome (answered, cancelled, or why there was no answer) and attempt (1, 2, 3+)."
        );
        metrics::describe_counter!(
            CUTS,
            Unit::Count,
            "Answers of the upstream that the gateway cut after the head, by reason (idle_timeout, deadline_passed, ...)."
        );
        metrics::describe_gauge!(
            TUNNELS,
            Unit::Count,
            "Tunnels through the upstream, and requests that ask for one."
        );
    }

    const ATTEMPTS: [&str; 3] = ["1", "2", "3+"];

    /// The labels of outcomes: those of failures, and two more.
    const ANSWERED: usize = ErrorKind::ALL.len();
    const CANCELLED: usize = ANSWERED + 1;
    const OUTCOMES: usize = CANCELLED + 1;

    /// The handles of one upstream. They are registered when they are first used, so that a recorder installed after
    /// the upstream was built still counts.
    pub(in crate::upstream) struct Meters {
        upstream: UpstreamName,
        requests: Box<[[OnceLock<Counter>; ATTEMPTS.len()]; OUTCOMES]>,
        gauges: OnceLock<Gauges>,
    }

    struct Gauges {
        active: Gauge,
        idle: Gauge,
        pending: Gauge,
        tunnels: Gauge,
    }

    impl Meters {
        pub(in crate::upstream) fn new(upstream: &UpstreamName) -> Self {
            Self {
                upstream: upstream.clone(),
                requests: Box::new(array::from_fn(|_| Default::default())),
                gauges: OnceLock::new(),
            }
        }

        /// Sets the gauges to what a snapshot tells.
        pub(in crate::upstream) fn set(&self, now: &UpstreamSnapshot) {
            let gauges = self.gauges.get_or_init(|| {
                let state = |state: &'static str| metrics::gauge!(CONNECTIONS, "upstream" => self.label(), "state" => state);
                Gauges {
                    active: state("active"),
                    idle: state("idle"),
                    pending: metrics::gauge!(PENDING, "upstream" => self.label()),
                    tunnels: metrics::gauge!(TUNNELS, "upstream" => self.label()),
                }
            });
            let active = now.open_connections.saturating_sub(now.idle_connections);
            for (gauge, count) in [
                (&gauges.active, active),
                (&gauges.idle, now.idle_connections),
                (&gauges.pending, now.queued),
                (&gauges.tunnels, now.tunnels),
            ] {
                // Precise up to 2^53.
                gauge.set(count as f64);
            }
        }

        fn count(&self, outcome: usize, attempt: usize) {
            let counter = self.requests.get(outcome).and_then(|it| it.get(attempt));
            // Both are indices of their lists.
            let (Some(counter), Some(attempt)) = (counter, ATTEMPTS.get(attempt)) else {
                return;
            };
            let register = || {
                let outcome = match ErrorKind::ALL.get(outcome) {
                    Some(kind) => kind.as_str(),
                    None if outcome == ANSWERED => "answered",
                    None => "cancelled",
                };
                metrics::counter!(REQUESTS, "upstream" => self.label(), "outcome" => outcome, "attempt" => *attempt)
            };
            counter.get_or_init(register).increment(1);
        }

        /// An answer is cut: rare enough to look the counter up.
        pub(in crate::upstream) fn cut(&self, kind: ErrorKind) {
            metrics::counter!(CUTS, "upstream" => self.label(), "reason" => kind.as_str())
                .increment(1);
        }

        fn label(&self) -> String {
            self.upstream.as_str().to_owned()
        }
    }

    impl fmt::Debug for Meters {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Meters").finish_non_exhaustive()
        }
    }

    /// One exchange, to be counted when its head is there, when it has failed, or when it is dropped before that.
    #[derive(Debug)]
    pub(in crate::upstream) struct Counted {
        pool: Arc<Pool>,
        attempt: usize,
        outcome: usize,
    }

    impl Counted {
        /// `attempts` is the number of those before.
        pub(in crate::upstream) fn new(pool: &Arc<Pool>, attempts: u32) -> Self {
            let attempts = usize::try_from(attempts).unwrap_or(usize::MAX);
            Self {
                pool: Arc::clone(pool),
                attempt: attempts.min(ATTEMPTS.len() - 1),
                outcome: CANCELLED,
            }
        }

        pub(in crate::upstream) const fn watch<F>(self, exchange: F) -> Watched<F> {
            Watched {
                exchange,
                counted: self,
            }
        }
    }

    pin_project! {
        /// An exchange that is counted. By hand: an async function would have room for the exchange twice.
        pub(in crate::upstream) struct Watched<F> {
            #[pin]
            exchange: F,
            counted: Counted,
        }
    }

    impl<F, B> Future for Watched<F>
    where
        F: Future<Output = Result<Response<B>, Error>>,
    {
        type Output = F::Output;

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
            let this = self.project();
            let result = ready!(this.exchange.poll(cx));
            this.counted.outcome = match &result {
                Ok(_) => ANSWERED,
                Err(error) => error.kind() as usize,
            };
            Poll::Ready(result)
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.pool.meters.count(self.outcome, self.attempt);
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use std::sync::Arc;

    use gw_core::context::UpstreamName;

    use crate::upstream::error::ErrorKind;
    use crate::upstream::handle::UpstreamSnapshot;
    use crate::upstream::pool::Pool;

    #[derive(Debug)]
    pub(in crate::upstream) struct Meters;

    impl Meters {
        pub(in crate::upstream) const fn new(_: &UpstreamName) -> Self {
            Self
        }

        #[allow(clippy::unused_self, reason = "as with the feature `metrics`")]
        pub(in crate::upstream) const fn set(&self, _: &UpstreamSnapshot) {}

        #[allow(clippy::unused_self, reason = "as with the feature `metrics`")]
        pub(in crate::upstream) const fn cut(&self, _: ErrorKind) {}
    }

    #[derive(Debug)]
    pub(in crate::upstream) struct Counted;

    impl Counted {
        pub(in crate::upstream) fn new(pool: &Arc<Pool>, _: u32) -> Self {
            // As with the feature, they are what counts.
            let Meters = pool.meters;
            Self
        }

        #[allow(clippy::unused_self, reason = "as with the feature `metrics`")]
        pub(in crate::upstream) fn watch<F: Future>(self, exchange: F) -> F {
            exchange
        }
    }
}
