//! The metric names of intake and delivery, and the log lines of the intake. What the queue measures and what queue and
//! consumer log stands beside them.
//!
//! Metrics are held by the thing they measure and registered at their first use, so that a recorder installed later
//! still counts. Without the feature `metrics` they do nothing, and call sites stay as they are.

mod intake;
pub(crate) mod meter;
mod sink;

use gw_core::key::MissingKey;

pub(crate) use self::intake::{IntakeMetrics, Outcome, Shadowed};
use self::meter::Count;
pub(crate) use self::sink::{Item, SinkMetrics};
use crate::intake::{IngestLimits, Mode, Regime};

/// The buckets that suit the histograms of this crate, by name: without any, exporters make summaries of them, which
/// cannot be added up over instances.
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub const HISTOGRAM_BUCKETS: &[(&str, &[f64])] = &[
    (
        crate::queue::telemetry::COMMIT_SECONDS,
        &[
            0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
        ],
    ),
    (
        crate::queue::telemetry::COMMIT_SIZE,
        &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0],
    ),
    (
        sink::ROUND_TRIP,
        &[
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
        ],
    ),
];

/// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub fn describe() {
    intake::describe();
    crate::queue::telemetry::describe();
    sink::describe();
}

pub(crate) fn mode_changed(mode: Mode) {
    #[cfg(feature = "tracing")]
    tracing::info!(?mode, "log intake: mode changed");
    let _ = mode;
}

pub(crate) fn limits_changed(limits: &IngestLimits) {
    #[cfg(feature = "tracing")]
    tracing::info!(?limits, "log intake: limits changed");
    let _ = limits;
}

pub(crate) fn regime_changed(regime: Regime, mode: Mode) {
    #[cfg(feature = "tracing")]
    match mode {
        Mode::Enforce => tracing::warn!(
            suppress_own = regime.suppress_own,
            shed_debug = regime.shed_debug,
            audit_only = regime.audit_only,
            "log intake: what is held back has changed"
        ),
        Mode::Shadow => tracing::info!(
            suppress_own = regime.suppress_own,
            shed_debug = regime.shed_debug,
            audit_only = regime.audit_only,
            "log intake: what would be held back has changed, in shadow mode"
        ),
        // That it is off is told by the change of mode, and holds nothing back.
        Mode::Off => {}
    }
    let _ = (regime, mode);
}

pub(crate) fn address_missing(missing: &MissingKey) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%missing, "log intake: clients without an address count as one; logged once");
    let _ = missing;
}

/// The place of a word in a closed set; the last one if it is not there.
fn place(words: &[&str], word: &str) -> usize {
    let found = words.iter().position(|&known| known == word);
    found.unwrap_or(words.len().saturating_sub(1))
}

fn add(counts: &[Count], place: usize, count: u64) {
    if let Some(counter) = counts.get(place) {
        counter.add(count);
    }
}
