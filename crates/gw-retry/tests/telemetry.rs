//! Metrics and log lines.
