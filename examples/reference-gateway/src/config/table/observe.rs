//! `[observe]`

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::value::{HttpUrl, Ratio, text, whole};

/// What the gateway tells about itself.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observe {
    pub access_log: AccessLog,
    pub trace: Tracing,
}

/// `access_log`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    pub path: LogTarget,
    pub schema: LogSchema,
    /// Share of normal requests that get a line. Errors and slow requests all do.
    pub normal: Ratio,
    /// Share of health checks that get a line.
    pub health: Ratio,
    #[serde(deserialize_with = "text")]
    pub slow_over: Duration,
    /// Lines a second for each class; the rest is counted.
    #[serde(deserialize_with = "whole::<_, _, 1, { u32::MAX }>")]
    pub budget_per_second: u32,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            path: LogTarget::default(),
            schema: LogSchema::default(),
            normal: Ratio::clamped(0.10),
            health: Ratio::clamped(0.01),
            slow_over: Duration::from_secs(1),
            budget_per_second: 2000,
        }
    }
}

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LogTarget {
    #[default]
    Stdout,
    File(PathBuf),
}

impl LogTarget {
    pub(super) fn anchor(&mut self, base: &Path) {
        if let Self::File(path) = self {
            *path = base.join(&path);
        }
    }
}

impl<'de> Deserialize<'de> for LogTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let path: PathBuf = text(deserializer)?;
        Ok(if path.as_os_str() == "stdout" {
            Self::Stdout
        } else {
            Self::File(path)
        })
    }
}

/// Names of the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogSchema {
    #[default]
    Native,
    Otel,
    Ecs,
}

/// `trace`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// Share of traces that start here and are recorded.
    pub sample: Ratio,
    /// Whether a client's trace context is continued.
    pub trust_incoming: bool,
    /// Where spans are exported to; nowhere by default.
    pub otlp: Option<HttpUrl>,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            sample: Ratio::clamped(0.01),
            trust_incoming: false,
            otlp: None,
        }
    }
}
