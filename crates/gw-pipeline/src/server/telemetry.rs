//! Every metric name of the server.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

#[cfg(feature = "metrics")]
pub use self::metering::describe;
pub(super) use self::metering::set_connections;

#[cfg(feature = "metrics")]
mod metering {
    use metrics::Unit;

    const CONNECTIONS: &str = "gateway_active_connections";

    /// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
    pub fn describe() {
        metrics::describe_gauge!(
            CONNECTIONS,
            Unit::Count,
            "Open connections of clients, by listener; upgraded ones included."
        );
    }

    pub(in crate::server) fn set_connections(listener: &str, open: usize) {
        let gauge = metrics::gauge!(CONNECTIONS, "listener" => listener.to_owned());
        // Precise up to 2^53.
        gauge.set(open as f64);
    }
}

#[cfg(not(feature = "metrics"))]
mod metering {
    pub(in crate::server) const fn set_connections(_: &str, _: usize) {}
}
