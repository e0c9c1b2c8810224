//! Every metric name of the server.

#![allow(
    clippy::disallowed_macros,
    reason = "the one place where metrics are named"
)]

use metrics::Unit;

const CONNECTIONS: &str = "gateway_active_connections";

/// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub fn describe() {
    metrics::describe_gauge!(
        CONNECTIONS,
        Unit::Count,
        "Open connections of clients, by listener; upgraded ones included."
    );
}

pub(super) fn connections(listener: &str, open: usize) {
    let gauge = metrics::gauge!(CONNECTIONS, "listener" => listener.to_owned());
    // Precise up to 2^53.
    gauge.set(open as f64);
}
