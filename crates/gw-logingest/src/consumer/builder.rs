use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use gw_core::ConfigError;

use super::Consumer;
use super::backoff::Backoff;
use super::pace::LONGEST;
use super::size::Size;
use super::status::Shared;
use crate::dead_letter::DeadLetters;
use crate::intake::Pressure;
use crate::queue::Queue;
use crate::sink::Sink;

/// The shortest wait that may be configured; with jitter, a wait may be shorter.
const SHORTEST: Duration = Duration::from_millis(1);

/// Settings of a [`Consumer`].
#[must_use]
pub struct ConsumerBuilder<Q, S, D> {
    queue: Q,
    sink: S,
    dead_letters: D,
    settings: Settings,
}

#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) max_bytes: usize,
    pub(super) max_events: usize,
    pub(super) linger: Duration,
    pub(super) max_concurrency: usize,
    pub(super) backoff: Backoff,
    pub(super) pause: Duration,
    pub(super) grace: Duration,
    pub(super) pressure: Pressure,
    pub(super) seed: Option<u64>,
}

impl<Q, S> ConsumerBuilder<Q, S, ()> {
    pub(super) fn new(queue: Q, sink: S) -> Self {
        Self {
            queue,
            sink,
            dead_letters: (),
            settings: Settings {
                max_bytes: 5 * 1024 * 1024,
                max_events: 1000,
                linger: Duration::from_secs(1),
                max_concurrency: 32,
                backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
                pause: Duration::from_secs(60),
                grace: Duration::from_secs(5),
                pressure: Pressure::new(),
                seed: None,
            },
        }
    }

    /// Where events go that the sink will never take. Required: without it such an event could only be lost, or stand in
    /// the way for ever.
    pub fn dead_letters<D>(self, dead_letters: D) -> ConsumerBuilder<Q, S, D> {
        ConsumerBuilder {
            queue: self.queue,
            sink: self.sink,
            dead_letters,
            settings: self.settings,
        }
    }
}

impl<Q, S, D> ConsumerBuilder<Q, S, D> {
    /// The most bytes of a request, roughly; 8 KiB to 1 GiB. 5 MiB by default. The consumer learns if the sink takes less, and looks
    /// from time to time whether it takes more by now.
    ///
    /// In memory is as much as all requests that may run at once, and one more; what is kept of each event besides is bounded by
    /// [`max_events`](Self::max_events).
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_bytes = bytes;
        self
    }

    /// The most events of a request, at least one. 1000 by default. In memory are no more than those of all requests that may run at
    /// once, of one more, and of the batch that was begun with.
    pub const fn max_events(mut self, events: usize) -> Self {
        self.settings.max_events = events;
        self
    }

    /// How long an event waits for others to fill a request, at most an hour. One second by default.
    pub const fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = time;
        self
    }

    /// The most requests at once, at least one; it starts with one and finds its way. 32 by default.
    pub const fn max_concurrency(mut self, requests: usize) -> Self {
        self.settings.max_concurrency = requests;
        self
    }

    /// The longest waits after failures, at least 1 ms and at most an hour. Up to 200 ms for the first, up to 30 s at the most by default.
    pub const fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        self.settings.backoff = Backoff::new(base, cap);
        self
    }

    /// The longest wait when the sink needs another configuration; the shortest is half of it. So long a client is left alone,
    /// too, whose dead letters take all that they may. At least 1 ms and at most an hour; one minute by default.
    pub const fn pause(mut self, time: Duration) -> Self {
        self.settings.pause = time;
        self
    }

    /// How long requests under way may take to end on shutdown. Five seconds by default.
    pub const fn grace(mut self, time: Duration) -> Self {
        self.settings.grace = time;
        self
    }

    /// Tells the intake through this handle how the sink fares.
    pub fn pressure(mut self, pressure: Pressure) -> Self {
        self.settings.pressure = pressure;
        self
    }

    /// Makes the waits repeatable, for tests.
    pub const fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = Some(seed);
        self
    }
}

impl<Q: Queue, S: Sink, D: DeadLetters> ConsumerBuilder<Q, S, D> {
    /// Checks the settings.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a setting is out of its bounds; it names the field and the rule.
    pub fn build(self) -> Result<Consumer<Q, S, D>, ConfigError> {
        let settings = self.settings;
        // So much, as often as requests may run and once more, is what may be held in memory.
        if !(Size::SMALL..=Size::LARGEST).contains(&settings.max_bytes) {
            return Err(ConfigError::new("max_bytes", "must be 8 KiB to 1 GiB"));
        }
        if settings.max_events == 0 {
            return Err(ConfigError::new("max_events", "must be greater than zero"));
        }
        if settings.max_concurrency == 0 {
            return Err(ConfigError::new(
                "max_concurrency",
                "must be greater than zero",
            ));
        }
        if settings.linger > LONGEST {
            return Err(ConfigError::new("linger", "must be at most an hour"));
        }
        // With next to no wait, a sink that refuses at once would be asked in a tight loop.
        let waits = [
            (
                "backoff",
                settings.backoff.ceiling(0),
                settings.backoff.ceiling(u32::MAX),
            ),
            ("pause", settings.pause, settings.pause),
        ];
        for (field, first, longest) in waits {
            if first < SHORTEST || longest > LONGEST {
                return Err(ConfigError::new(
                    field,
                    "must be at least 1 ms and at most an hour",
                ));
            }
        }
        Ok(Consumer {
            queue: self.queue,
            sink: Arc::new(self.sink),
            dead_letters: Arc::new(self.dead_letters),
            settings,
            shared: Arc::new(Shared::default()),
        })
    }
}

impl<Q, S, D> fmt::Debug for ConsumerBuilder<Q, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerBuilder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
