//! Every metric name and every log line of the crate.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

#[cfg(feature = "metrics")]
mod metering;
#[cfg(not(feature = "metrics"))]
#[path = "telemetry/no_metering.rs"]
mod metering;

use std::io;

use gw_core::context::TraceContext;
use gw_core::key::MissingKey;

#[cfg(feature = "metrics")]
pub use self::metering::{HISTOGRAM_BUCKETS, describe};
pub(crate) use self::metering::{LineMetrics, RequestMetrics, RouteIndex};

/// The span of a request: what is logged within it carries the trace id.
#[cfg(feature = "tracing")]
#[derive(Debug)]
pub(crate) struct RequestSpan(tracing::Span);

#[cfg(feature = "tracing")]
impl RequestSpan {
    pub(crate) fn new(trace: &TraceContext) -> Self {
        Self(tracing::info_span!("request", trace_id = %trace.trace_id, span_id = %trace.span_id))
    }

    pub(crate) fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        self.0.in_scope(run)
    }
}

#[cfg(not(feature = "tracing"))]
#[derive(Debug)]
pub(crate) struct RequestSpan;

#[cfg(not(feature = "tracing"))]
impl RequestSpan {
    pub(crate) const fn new(_: &TraceContext) -> Self {
        Self
    }

    #[allow(clippy::unused_self, reason = "as with the feature `tracing`")]
    pub(crate) fn in_scope<T>(&self, run: impl FnOnce() -> T) -> T {
        run()
    }
}

/// Called for the first request of which the server does not say who sent it, where that decides whether it is trusted.
pub(crate) fn peer_missing(missing: &MissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(
        %missing,
        "trace context: nobody's is continued, as the server does not say who calls; logged once"
    );
    _ = missing;
}

/// Called when the log's thread has ended by a panic.
pub(crate) fn writer_panicked() {
    #[cfg(feature = "tracing")]
    tracing::error!(
        "access log: the thread that writes has panicked, lines are lost until the log is started anew"
    );
}

/// Called when writing begins to fail, and when it works again.
pub(crate) fn writing_failed(error: Option<io::Error>) {
    #[cfg(feature = "tracing")]
    match &error {
        Some(error) => tracing::error!(%error, "access log: writing fails, lines are lost"),
        None => tracing::info!("access log: writing works again"),
    }
    drop(error);
}

/// Called when the file has been opened anew.
pub(crate) fn reopened() {
    #[cfg(feature = "tracing")]
    tracing::info!("access log: the file has been opened anew");
}

/// Called when the file was to be opened anew, and could not be.
pub(crate) fn reopening_failed(error: &io::Error) {
    #[cfg(feature = "tracing")]
    tracing::error!(%error, "access log: the file cannot be opened anew, the old one is written to");
    _ = error;
}
