//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use std::num::NonZeroU32;

use gw_core::Mode;
use gw_core::key::MissingKey;

pub(crate) use self::metering::LaneMetrics;
#[cfg(feature = "metrics")]
pub use self::metering::describe;
use crate::lanes::Reason;
use crate::pressure::{Load, Signal};

#[cfg(feature = "metrics")]
mod metering {
    use std::fmt;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use gw_core::Mode;
    use gw_core::context::Lane;
    use metrics::{Counter, Gauge, Unit};

    use crate::lanes::Reason;

    const IN_FLIGHT: &str = "gateway_lane_in_flight";
    const LIMIT: &str = "gateway_lane_limit";
    const QUEUED: &str = "gateway_lane_queued";
    const REJECTIONS: &str = "gateway_lane_rejections_total";
    const SHADOW_REJECTIONS: &str = "gateway_shadow_lane_rejections_total";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            IN_FLIGHT,
            Unit::Count,
            "Requests that hold a place in the lane."
        );
        metrics::describe_gauge!(
            LIMIT,
            Unit::Count,
            "Places that the lane does not exceed: its cap, or the limit found for it."
        );
        metrics::describe_gauge!(
            QUEUED,
            Unit::Count,
            "Requests that wait for a place in the lane."
        );
        metrics::describe_counter!(
            REJECTIONS,
            Unit::Count,
            "Requests that the lane refused or cut, by reason (lane_full, queue_full, queue_timeout, queue_delay, deadline, per_key, pressure, draining, max_hold)."
        );
        metrics::describe_counter!(
            SHADOW_REJECTIONS,
            Unit::Count,
            "Requests that a lane in shadow mode let pass and would have refused or cut, by reason (lane_full, deadline, per_key, pressure, max_hold)."
        );
    }

    /// The handles of one lane. They are registered when they are first used, so that a recorder installed after the
    /// layer was built still counts.
    pub(crate) struct LaneMetrics {
        lane: Lane,
        limit: AtomicU32,
        gauges: OnceLock<Gauges>,
        rejections: Rejections,
        shadow_rejections: Rejections,
    }

    type Rejections = [OnceLock<Counter>; Reason::ALL.len()];

    struct Gauges {
        in_flight: Gauge,
        limit: Gauge,
        queued: Gauge,
    }

    impl LaneMetrics {
        pub(crate) fn new(lane: Lane, limit: u32) -> Self {
            Self {
                lane,
                limit: AtomicU32::new(limit),
                gauges: OnceLock::new(),
                rejections: Default::default(),
                shadow_rejections: Default::default(),
            }
        }

        /// Has the gauges there, before anything has happened. The limit is told again: one that was set while they were being
        /// registered was told to nobody.
        pub(crate) fn register(&self) {
            let limit = &self.gauges().limit;
            limit.set(self.limit.load(Ordering::Relaxed));
        }

        pub(crate) fn entered(&self) {
            self.gauges().in_flight.increment(1.0);
        }

        pub(crate) fn left(&self) {
            self.gauges().in_flight.decrement(1.0);
        }

        pub(crate) fn queued(&self) {
            self.gauges().queued.increment(1.0);
        }

        pub(crate) fn dequeued(&self) {
            self.gauges().queued.decrement(1.0);
        }

        /// Does not register the gauges: a total may be set before there is a recorder.
        pub(crate) fn limit(&self, limit: u32) {
            self.limit.store(limit, Ordering::Relaxed);
            if let Some(gauges) = self.gauges.get() {
                gauges.limit.set(limit);
            }
        }

        pub(crate) fn refused(&self, reason: Reason, mode: Mode) {
            self.gauges();
            let (name, counters) = match mode {
                Mode::Enforce => (REJECTIONS, &self.rejections),
                Mode::Shadow | Mode::Off => (SHADOW_REJECTIONS, &self.shadow_rejections),
            };
            let same = |(other, _): &(Reason, _)| *other == reason;
            if let Some((_, counter)) = Reason::ALL.into_iter().zip(counters).find(same) {
                let register =
                    || metrics::counter!(name, "lane" => self.label(), "reason" => reason.as_str());
                counter.get_or_init(register).increment(1);
            }
        }

        fn gauges(&self) -> &Gauges {
            self.gauges.get_or_init(|| {
                let gauges = Gauges {
                    in_flight: metrics::gauge!(IN_FLIGHT, "lane" => self.label()),
                    limit: metrics::gauge!(LIMIT, "lane" => self.label()),
                    queued: metrics::gauge!(QUEUED, "lane" => self.label()),
                };
                gauges.limit.set(self.limit.load(Ordering::Relaxed));
                gauges
            })
        }

        fn label(&self) -> String {
            self.lane.as_str().to_owned()
        }
    }

    impl fmt::Debug for LaneMetrics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let registered = self.gauges.get().is_some();
            f.debug_struct("LaneMetrics")
                .field("registered", &registered)
                .finish_non_exhaustive()
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use gw_core::Mode;
    use gw_core::context::Lane;

    use crate::lanes::Reason;

    #[derive(Debug)]
    pub(crate) struct LaneMetrics;

    impl LaneMetrics {
        #[allow(
            clippy::needless_pass_by_value,
            reason = "as with the feature `metrics`"
        )]
        pub(crate) fn new(_: Lane, _: u32) -> Self {
            Self
        }

        pub(crate) fn register(&self) {}

        pub(crate) fn entered(&self) {}

        pub(crate) fn left(&self) {}

        pub(crate) fn queued(&self) {}

        pub(crate) fn dequeued(&self) {}

        pub(crate) fn limit(&self, _: u32) {}

        pub(crate) fn refused(&self, _: Reason, _: Mode) {}
    }
}

/// Called at the first refusal after a while without any.
pub(crate) fn refusing(lane: &str, reason: Reason, mode: Mode) {
    #[cfg(feature = "tracing")]
    match mode {
        Mode::Enforce => tracing::warn!(
            lane,
            reason = reason.as_str(),
            "bulkhead: a lane begins to refuse requests"
        ),
        Mode::Shadow | Mode::Off => tracing::info!(
            lane,
            reason = reason.as_str(),
            "bulkhead: a lane in shadow mode begins to let requests pass that it would refuse"
        ),
    }
    let _ = (lane, reason, mode);
}

/// Called at the first request of a lane that has nothing to tell its client by.
pub(crate) fn key_missing(lane: &str, missing: &MissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        lane,
        %missing,
        "bulkhead: requests without a key are counted as one client"
    );
    let _ = (lane, missing);
}

pub(crate) fn pressure_changed(signal: Signal, load: Load) {
    #[cfg(feature = "tracing")]
    tracing::warn!(?signal, ?load, "bulkhead: the load of the machine changed");
    let _ = (signal, load);
}

pub(crate) fn mode_changed(mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(?mode, "bulkhead: mode changed");
    let _ = mode;
}

pub(crate) fn resized(total: NonZeroU32) {
    #[cfg(feature = "tracing")]
    tracing::info!(total, "bulkhead: total changed");
    let _ = total;
}

pub(crate) fn draining() {
    #[cfg(feature = "tracing")]
    tracing::info!("bulkhead: draining, new requests are refused");
}

/// Called by each thread of a lane that could not be made nicer.
#[cfg(all(feature = "threads", target_os = "linux"))]
pub(crate) fn nice_refused(lane: &str, refused: rustix::io::Errno) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        lane,
        %refused,
        "bulkhead: the system refuses a thread of a lane its niceness"
    );
    let _ = (lane, refused);
}

/// `future` in the span of the caller, which would otherwise end where the thread changes.
#[cfg(all(feature = "threads", feature = "tracing"))]
pub(crate) fn in_current_span<F: Future>(future: F) -> tracing::instrument::Instrumented<F> {
    tracing::Instrument::in_current_span(future)
}

#[cfg(all(feature = "threads", not(feature = "tracing")))]
pub(crate) const fn in_current_span<F: Future>(future: F) -> F {
    future
}
