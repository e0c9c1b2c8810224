//! Every metric name of the server.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

#[cfg(feature = "metrics")]
pub use self::metering::describe;
pub(super) use self::metering::record;

#[cfg(feature = "metrics")]
mod metering {
    use metrics::Unit;

    use crate::server::Snapshot;

    const CONNECTIONS: &str = "gateway_active_connections";
    const CLOSED: &str = "gateway_closed_connections_total";
    const ACCEPT_ERRORS: &str = "gateway_accept_errors_total";
    const STALLED_STREAMS: &str = "gateway_stalled_streams_total";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            CONNECTIONS,
            Unit::Count,
            "Open connections of clients, by listener; upgraded ones included."
        );
        metrics::describe_counter!(
            CLOSED,
            Unit::Count,
            "Connections of clients that were closed, those included that were refused at once, by listener and reason."
        );
        metrics::describe_counter!(
            ACCEPT_ERRORS,
            Unit::Count,
            "Failures to accept a connection, by listener."
        );
        metrics::describe_counter!(
            STALLED_STREAMS,
            Unit::Count,
            "HTTP/2 streams that were reset because their client did not take its answer, by listener."
        );
    }

    /// The counts are the server's own: a connection that ends looks no metric up.
    pub(in crate::server) fn record(listener: &str, now: &Snapshot) {
        let label = || listener.to_owned();
        // Precise up to 2^53.
        metrics::gauge!(CONNECTIONS, "listener" => label()).set(now.active as f64);
        for (reason, count) in now.closed.iter() {
            metrics::counter!(CLOSED, "listener" => label(), "reason" => reason.as_str())
                .absolute(count);
        }
        metrics::counter!(ACCEPT_ERRORS, "listener" => label()).absolute(now.accept_errors);
        metrics::counter!(STALLED_STREAMS, "listener" => label()).absolute(now.stalled_streams);
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    use crate::server::Snapshot;

    pub(in crate::server) const fn record(_: &str, _: &Snapshot) {}
}
