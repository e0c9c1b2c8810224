//! The kill switch of every protection.

use serde::Deserialize;

/// What a protection does with its decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    #[default]
    Enforce,
    /// Decides and counts, lets pass.
    Shadow,
    Off,
}
