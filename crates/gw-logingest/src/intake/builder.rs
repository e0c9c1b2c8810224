use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use gw_core::mode::SharedMode;
use gw_core::{ConfigError, Mode};

use super::classify::Classifier;
use super::client::{ClientKey, Clients};
use super::config::{Config, IngestLimits, Live};
use super::counts::Ledger;
use super::guard::Guards;
use super::pressure::Pressure;
use super::service::LogIngest;
use super::watermarks::{Regime, Watermarks};
use crate::event::{EventLimits, Validator};
use crate::queue::Queue;
use crate::telemetry::{self, meter::QueueLabel};

/// What is done with an event that does not meet the schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnInvalid {
    /// It is refused, and the receipt says why.
    #[default]
    Reject,
    /// It becomes the message of an event of this service, for sources that write plain text. An event that is too large is
    /// still refused, and so is a JSON document that is broken as a whole.
    Wrap {
        /// The service that the event is booked under, 1 to 256 bytes.
        service: Arc<str>,
    },
}

/// Builds a [`LogIngest`].
pub struct LogIngestBuilder<Q> {
    queue: Q,
    limits: IngestLimits,
    on_invalid: OnInvalid,
    classifier: Classifier,
    clients: Vec<ClientKey>,
    pressure: Pressure,
    mode: Mode,
}

/// What all clones of an intake share.
#[derive(Debug)]
pub(super) struct Shared<Q> {
    pub(super) queue: Q,
    pub(super) config: Arc<Live>,
    pub(super) clients: Arc<Clients>,
    pub(super) guards: Arc<Guards>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) mode: Arc<SharedMode>,
    pub(super) last_regime: LastRegime,
}

/// The regime of the last request, and whether it held, so that a change is logged once.
#[derive(Debug, Default)]
pub(super) struct LastRegime(AtomicU8);

impl LastRegime {
    pub(super) fn note(&self, regime: Regime, mode: Mode) {
        let held_back = u8::from(regime.suppress_own)
            | u8::from(regime.shed_debug) << 1
            | u8::from(regime.audit_only) << 2;
        // What shadow mode would hold back is something else.
        let shadow = held_back != 0 && mode == Mode::Shadow;
        let bits = held_back | u8::from(shadow) << 3;
        // Only for the log; two requests at once may both log the change, or in either order.
        let changed =
            self.0.load(Ordering::Relaxed) != bits && self.0.swap(bits, Ordering::Relaxed) != bits;
        if changed {
            telemetry::regime_changed(regime, mode);
        }
    }
}

impl<Q: Queue> LogIngestBuilder<Q> {
    pub(super) fn new(queue: Q) -> Self {
        Self {
            queue,
            limits: IngestLimits::default(),
            on_invalid: OnInvalid::Reject,
            classifier: Classifier::new(),
            clients: vec![ClientKey::Consumer],
            pressure: Pressure::new(),
            mode: Mode::Enforce,
        }
    }

    /// What one event may measure.
    #[must_use]
    pub const fn event_limits(mut self, limits: EventLimits) -> Self {
        self.limits.event = limits;
        self
    }

    /// The most bytes of a body, 1 byte to 1 GiB. Default 8 MiB.
    #[must_use]
    pub const fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.limits.max_body_bytes = bytes;
        self
    }

    /// The most events in a body, 1 to 1 000 000. Default 10 000.
    #[must_use]
    pub const fn max_events(mut self, events: usize) -> Self {
        self.limits.max_events = events;
        self
    }

    /// What is done with an event that does not meet the schema. Default: refused.
    #[must_use]
    pub fn on_invalid(mut self, rule: OnInvalid) -> Self {
        self.on_invalid = rule;
        self
    }

    /// How events are classed. Tell it the intake's path.
    #[must_use]
    pub fn classifier(mut self, classifier: Classifier) -> Self {
        self.classifier = classifier;
        self
    }

    /// How clients are told apart: the first of these keys that a request has, then the address. Default: the
    /// authenticated consumer.
    #[must_use]
    pub fn clients(mut self, keys: impl IntoIterator<Item = ClientKey>) -> Self {
        self.clients = keys.into_iter().collect();
        self
    }

    /// From how full a queue on which events are held back.
    #[must_use]
    pub const fn watermarks(mut self, watermarks: Watermarks) -> Self {
        self.limits.watermarks = watermarks;
        self
    }

    /// The handle by which the consumer says how the sink fares.
    #[must_use]
    pub fn pressure(mut self, pressure: Pressure) -> Self {
        self.pressure = pressure;
        self
    }

    /// The longest wait for the next chunk of a body, above 0 and at most an hour. Default 10 s.
    #[must_use]
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.limits.idle_timeout = limit;
        self
    }

    /// The longest time for a whole body, against one that drips; above 0 and at most an hour. Default 60 s.
    #[must_use]
    pub const fn body_timeout(mut self, limit: Duration) -> Self {
        self.limits.body_timeout = limit;
        self
    }

    /// What the protective rules do at first: suppression, shedding, the mark above which only audit records pass, and the guard
    /// against amplification. Limits on sizes and the queue's own bounds hold in every mode. Default: enforce.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// The intake, with all its state.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is out of its bounds; it names the field and the rule.
    pub fn build(self) -> Result<LogIngest<Q>, ConfigError> {
        self.limits.check()?;
        if let OnInvalid::Wrap { service } = &self.on_invalid
            && !(1..=256).contains(&service.len())
        {
            return Err(ConfigError::new(
                "on_invalid.service",
                "must be 1 to 256 bytes",
            ));
        }
        let measured = QueueLabel::named(self.queue.name());
        Ok(LogIngest::new(Shared {
            queue: self.queue,
            config: Arc::new(Live::new(Config {
                limits: self.limits,
                validator: Validator::new(self.limits.event)?,
                on_invalid: self.on_invalid,
                classifier: self.classifier,
                pressure: self.pressure,
            })),
            clients: Arc::new(Clients::new(self.clients)?),
            guards: Guards::new(),
            ledger: Arc::new(Ledger::new(&measured)),
            mode: Arc::new(SharedMode::new(self.mode)),
            last_regime: LastRegime::default(),
        }))
    }
}

impl<Q> fmt::Debug for LogIngestBuilder<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogIngestBuilder")
            .field("limits", &self.limits)
            .field("on_invalid", &self.on_invalid)
            .field("clients", &self.clients)
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}
