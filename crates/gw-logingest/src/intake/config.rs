use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use gw_core::ConfigError;

use super::builder::OnInvalid;
use super::classify::Classifier;
use super::pressure::Pressure;
use super::reading::Patience;
use super::split::SplitLimits;
use super::watermarks::Watermarks;
use crate::event::{EventLimits, Validator};

/// What an intake bounds. It can be changed while the intake runs: [`IngestHandle::set_limits`](super::IngestHandle::set_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IngestLimits {
    /// What one event may measure.
    pub event: EventLimits,
    /// The most bytes of a body, 1 byte to 1 GiB. Default 8 MiB.
    pub max_body_bytes: u64,
    /// The most events in a body, 1 to 1 000 000. Default 10 000.
    pub max_events: usize,
    /// The longest wait for the next chunk of a body, above 0 and at most an hour. Default 10 s.
    pub idle_timeout: Duration,
    /// The longest time for a whole body, against one that drips; above 0 and at most an hour. Default 60 s.
    pub body_timeout: Duration,
    /// From how full a queue on which events are held back.
    pub watermarks: Watermarks,
}

/// The checked settings that each request reads.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) limits: IngestLimits,
    pub(super) validator: Validator,
    pub(super) on_invalid: OnInvalid,
    pub(super) classifier: Classifier,
    pub(super) pressure: Pressure,
}

/// The settings of an intake as they are now. A request goes by those that it began with.
#[derive(Debug)]
pub(super) struct Live(RwLock<Arc<Config>>);

impl Default for IngestLimits {
    fn default() -> Self {
        Self {
            event: EventLimits::default(),
            max_body_bytes: 8 * 1024 * 1024,
            max_events: 10_000,
            idle_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            watermarks: Watermarks::default(),
        }
    }
}

impl IngestLimits {
    const MAX_BODY: u64 = 1 << 30;
    const MAX_EVENTS: usize = 1_000_000;
    const MAX_TIMEOUT: Duration = Duration::from_secs(3600);
    /// The bytes that normalising adds to an event: times, names, flags.
    const EVENT_OVERHEAD: usize = 256;

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        self.watermarks.check()?;
        self.event.check()?;
        if !(1..=Self::MAX_BODY).contains(&self.max_body_bytes) {
            return Err(ConfigError::new(
                "max_body_bytes",
                "must be 1 byte to 1 GiB",
            ));
        }
        if !(1..=Self::MAX_EVENTS).contains(&self.max_events) {
            return Err(ConfigError::new("max_events", "must be 1 to 1000000"));
        }
        let timeouts = [
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
        ];
        for (field, limit) in timeouts {
            if limit.is_zero() || limit > Self::MAX_TIMEOUT {
                return Err(ConfigError::new(
                    field,
                    "must be above 0 and at most an hour",
                ));
            }
        }
        Ok(())
    }

    pub(super) const fn split(&self) -> SplitLimits {
        SplitLimits {
            body_bytes: self.max_body_bytes,
            events: self.max_events,
            event_bytes: self.event.bytes,
        }
    }

    pub(super) const fn patience(&self) -> Patience {
        Patience {
            idle: self.idle_timeout,
            whole: self.body_timeout,
        }
    }

    /// The most bytes of normalised events that one request may hold.
    pub(super) const fn batch_bytes(&self) -> usize {
        // At most 1 GiB.
        let body = self.max_body_bytes as usize;
        let overhead = self.max_events.saturating_mul(Self::EVENT_OVERHEAD);
        body.saturating_mul(2).saturating_add(overhead)
    }
}

impl Config {
    /// The same with other limits.
    fn with(&self, limits: IngestLimits) -> Result<Self, ConfigError> {
        limits.check()?;
        let validator = Validator::new(limits.event)?;
        Ok(Self {
            limits,
            validator,
            ..self.clone()
        })
    }
}

impl Live {
    pub(super) fn new(config: Config) -> Self {
        Self(RwLock::new(Arc::new(config)))
    }

    pub(super) fn get(&self) -> Arc<Config> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the limits, if they can be used.
    pub(super) fn set(&self, limits: IngestLimits) -> Result<(), ConfigError> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(current.with(limits)?);
        Ok(())
    }
}
