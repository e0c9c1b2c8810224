use std::hash::{Hash, Hasher};

use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

use crate::breaker::Breaker;
use crate::config::BreakerConfig;
use crate::hub::Changes;
use crate::registry::SharedRegistry;
use crate::state::Snapshot;

/// What an operator may read and change of one breaker while requests run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BreakerHandle {
    breaker: Breaker,
}

impl BreakerHandle {
    pub(crate) const fn new(breaker: Breaker) -> Self {
        Self { breaker }
    }

    /// The breaker itself.
    pub const fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    /// What it knows at about this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.breaker.snapshot(Instant::now())
    }

    /// The changes of its state from now on.
    pub fn subscribe(&self) -> Changes {
        self.breaker.subscribe()
    }

    /// Sets the gauge of the state. To be called when metrics are read, so that a breaker is seen before its first call: from
    /// then on calls see to it. It does nothing without the feature `metrics`.
    pub fn record_gauges(&self) {
        self.breaker.core().hub.show();
    }

    /// Refuses everything until [`BreakerHandle::reset`].
    pub fn force_open(&self) {
        self.breaker.force_open(Instant::now());
    }

    /// Lets everything pass until [`BreakerHandle::reset`], whatever comes of it. Outcomes are counted.
    pub fn force_closed(&self) {
        self.breaker.force_closed(Instant::now());
    }

    /// Lets everything pass until [`BreakerHandle::reset`], and counts nothing: the same as [`Mode::Off`].
    pub fn disable(&self) {
        self.breaker.disable(Instant::now());
    }

    /// Closed from now on, as if nothing had happened. It ends what was forced.
    pub fn reset(&self) {
        self.breaker.reset(Instant::now());
    }

    /// Whether the breaker is enforced.
    pub fn mode(&self) -> Mode {
        self.breaker.mode()
    }

    /// Changes whether it is enforced, from now on. It is the kill switch.
    pub fn set_mode(&self, mode: Mode) {
        self.breaker.set_mode(mode, Instant::now());
    }

    /// By which configuration it decides.
    pub fn config(&self) -> BreakerConfig {
        self.breaker.config()
    }

    /// Decides by `config` from now on: see [`Breaker::reconfigure`].
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule; then nothing changes.
    pub fn reconfigure(&self, config: &BreakerConfig) -> Result<(), ConfigError> {
        self.breaker.reconfigure(config, Instant::now())
    }
}

/// What an operator may read and change of all breakers of a keyed layer while requests run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct BreakersHandle {
    registry: SharedRegistry,
}

impl BreakersHandle {
    pub(crate) const fn new(registry: SharedRegistry) -> Self {
        Self { registry }
    }

    /// All breakers there are now; the last one is that of requests without a key.
    pub fn all(&self) -> Vec<BreakerHandle> {
        let all = self.registry.all().into_iter();
        all.map(BreakerHandle::new).collect()
    }

    /// What all of them know at about this moment.
    pub fn snapshot(&self) -> Vec<Snapshot> {
        let now = Instant::now();
        let all = self.registry.all();
        all.iter().map(|breaker| breaker.snapshot(now)).collect()
    }

    /// The breaker of an upstream, if requests to it have been seen, and breakers are by upstream.
    pub fn upstream(&self, name: &str) -> Option<BreakerHandle> {
        self.find(name)
    }

    /// The breaker of a key, if requests with it have been seen.
    ///
    /// It has to hash as what breakers are told apart by: for addresses what [`ClientIp::of`](crate::key::ClientIp::of) gives, bytes
    /// for the value of a header field, a `str` for consumers, users and upstreams, a `RouteMatch` for routes, a tuple of those for
    /// a tuple of keys.
    pub fn find<Q: Hash + ?Sized>(&self, key: &Q) -> Option<BreakerHandle> {
        let mut hasher = self.registry.hasher();
        key.hash(&mut hasher);
        self.registry.find(hasher.finish()).map(BreakerHandle::new)
    }

    /// Whether breakers are enforced that are yet to come.
    pub fn mode(&self) -> Mode {
        self.registry.mode()
    }

    /// Changes whether they are enforced, from now on, for all of them and those to come.
    pub fn set_mode(&self, mode: Mode) {
        self.registry.set_mode(mode, Instant::now());
    }

    /// Decides by `config` from now on, for all of them and those to come.
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule; then nothing changes.
    pub fn reconfigure(&self, config: &BreakerConfig) -> Result<(), ConfigError> {
        self.registry.reconfigure(config, Instant::now())
    }
}
