use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use gw_core::context::UpstreamName;
use gw_core::key::{AvailableIn, KeyExtractor};
use gw_core::stage::{FactSet, Stage};
use gw_core::{ConfigError, Mode, Respond};
use http::request::Parts;
use tokio::time::Instant;
use tower_layer::Layer;

use crate::ContentClassifier;
use crate::breaker::Breaker;
use crate::config::{BreakerConfig, JudgeAt, LatencyFrom};
use crate::error::SLOT;
use crate::future::Judge;
use crate::handle::{BreakerHandle, BreakersHandle};
use crate::registry::Registry;
use crate::rules::Rules;
use crate::select::{ByUpstream, Keyed, Select, Single};
use crate::service::{BreakerService, Manner};

/// Applies a [`BreakerService`]. All services made by it and its clones share the same breakers.
///
/// `K` says which breaker a request belongs to: [`Single`] or [`Keyed`]; `C` judges answers and errors; `R` renders
/// refusals.
#[derive(Debug, Clone)]
pub struct BreakerLayer<K = Single, C = ContentClassifier, R = Respond> {
    select: K,
    manner: Manner<C, R>,
}

/// Builds a [`BreakerLayer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct BreakerBuilder<M = OneForAll> {
    upstream: Arc<str>,
    config: BreakerConfig,
    mode: Mode,
    keys: M,
}

/// A builder whose layer has one breaker.
#[derive(Debug, Clone, Copy)]
pub struct OneForAll(());

/// A builder whose layer has a breaker for each key.
#[derive(Debug)]
pub struct OneForEach<E> {
    extractor: E,
    name: fn(&Parts) -> Option<UpstreamName>,
    capacity: NonZeroU32,
    idle: Duration,
}

impl BreakerLayer {
    /// A breaker for all requests of the layer. `upstream` is what metrics and logs call it, and for a keyed layer the
    /// name of the breaker that requests without a key share.
    pub fn builder(upstream: impl Into<Arc<str>>) -> BreakerBuilder {
        BreakerBuilder {
            upstream: upstream.into(),
            config: BreakerConfig::new(),
            mode: Mode::Enforce,
            keys: OneForAll(()),
        }
    }

    /// With a breaker that exists already, such as one that others ask as well.
    pub fn of(breaker: Breaker) -> Self {
        Self::by(Single(breaker))
    }
}

impl<K, C, R> BreakerLayer<K, C, R> {
    /// Where answers are judged; [`JudgeAt::End`] unless it is said otherwise.
    #[must_use]
    pub const fn judge_at(mut self, judge_at: JudgeAt) -> Self {
        self.manner.judge.judge_at = judge_at;
        self
    }

    /// From when on calls take time; [`LatencyFrom::Call`] unless it is said otherwise. In front of an upstream of gw-pipeline, set
    /// [`LatencyFrom::Sent`].
    #[must_use]
    pub const fn latency_from(mut self, latency_from: LatencyFrom) -> Self {
        self.manner.latency_from = latency_from;
        self
    }

    /// Judges answers and errors with `classifier`; [`ContentClassifier`] unless it is said otherwise. In front of an upstream to which
    /// all calls are gRPC, [`GrpcClassifier`](crate::GrpcClassifier) also sees a page in place of an answer as a failure.
    pub fn classify<T>(self, classifier: T) -> BreakerLayer<K, T, R> {
        BreakerLayer {
            select: self.select,
            manner: Manner {
                judge: Judge {
                    classifier,
                    judge_at: self.manner.judge.judge_at,
                },
                latency_from: self.manner.latency_from,
                slot: self.manner.slot,
                on_reject: self.manner.on_reject,
            },
        }
    }

    /// Renders refusals with `renderer`, which is given the inner service's body type.
    pub fn on_reject<T>(self, renderer: T) -> BreakerLayer<K, C, T> {
        BreakerLayer {
            select: self.select,
            manner: Manner {
                judge: self.manner.judge,
                latency_from: self.manner.latency_from,
                slot: self.manner.slot,
                on_reject: renderer,
            },
        }
    }
}

impl<K> BreakerLayer<K> {
    fn by(select: K) -> Self {
        let judge = Judge {
            classifier: ContentClassifier,
            judge_at: JudgeAt::End,
        };
        Self {
            select,
            manner: Manner {
                judge,
                latency_from: LatencyFrom::Call,
                slot: SLOT,
                on_reject: Respond::new(),
            },
        }
    }
}

impl<C, R> BreakerLayer<Single, C, R> {
    /// What an operator may read and change while requests run.
    pub fn handle(&self) -> BreakerHandle {
        BreakerHandle::new(self.select.0.clone())
    }
}

impl<E, C, R> BreakerLayer<Keyed<E>, C, R> {
    /// What an operator may read and change while requests run.
    pub fn handle(&self) -> BreakersHandle {
        BreakersHandle::new(Arc::clone(&self.select.registry))
    }
}

impl<M> BreakerBuilder<M> {
    /// When breakers open and how they close again.
    pub const fn config(mut self, config: BreakerConfig) -> Self {
        self.config = config;
        self
    }

    /// What breakers do at first. In shadow mode, what they would have refused is not counted for their decisions. Off they forget
    /// what they knew.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    fn breaker(&self) -> Result<Breaker, ConfigError> {
        let breaker = Breaker::new(Arc::clone(&self.upstream), &self.config)?;
        if self.mode != Mode::Enforce {
            breaker.set_mode(self.mode, Instant::now());
        }
        Ok(breaker)
    }
}

impl BreakerBuilder {
    /// A breaker for each upstream, told by the [`UpstreamName`] in the request's extensions.
    pub fn per_upstream(self) -> BreakerBuilder<OneForEach<ByUpstream>> {
        self.keyed(ByUpstream, ByUpstream::name)
    }

    /// A breaker for each key. They have the layer's name in metrics, all of them, and no gauge: keys may be anything. Requests without a
    /// key share one; the first of them is warned of, with how to provide the key.
    pub fn per_key<E: KeyExtractor>(self, extractor: E) -> BreakerBuilder<OneForEach<E>> {
        self.keyed(extractor, |_| None)
    }

    fn keyed<E>(
        self,
        extractor: E,
        name: fn(&Parts) -> Option<UpstreamName>,
    ) -> BreakerBuilder<OneForEach<E>> {
        BreakerBuilder {
            upstream: self.upstream,
            config: self.config,
            mode: self.mode,
            keys: OneForEach {
                extractor,
                name,
                capacity: CAPACITY,
                idle: IDLE,
            },
        }
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule, see [`BreakerConfig`].
    pub fn build(self) -> Result<BreakerLayer, ConfigError> {
        self.breaker().map(BreakerLayer::of)
    }
}

const CAPACITY: NonZeroU32 = match NonZeroU32::new(1024) {
    Some(capacity) => capacity,
    None => NonZeroU32::MIN,
};
const IDLE: Duration = Duration::from_secs(600);
const SHORTEST_IDLE: Duration = Duration::from_secs(1);

impl<E> BreakerBuilder<OneForEach<E>> {
    /// How many breakers there may be; 1024 unless it is said otherwise. Without room one is forgotten that is closed, has no
    /// failed or slow call in its counts and none under way, and was not open within the time after which that is forgotten;
    /// else one that is closed, has no call under way, and that nobody has asked for as long as it would be open at the longest,
    /// and as it remembers that it was open. If there is none among those looked at, the newcomer shares the breaker of requests
    /// without a key; once all were looked at in vain, newcomers do so without a look for 0.1 ms for each place, 100 ms at most.
    /// So there should be room for all keys that fail within that time, and for all that have calls under
    /// way. Who holds a handle of a breaker keeps it as a call under way does.
    pub const fn capacity(mut self, capacity: NonZeroU32) -> Self {
        self.keys.capacity = capacity;
        self
    }

    /// After how long without a request a breaker may be forgotten even where there is room, if it is closed, or its open
    /// time is over: 1 s at least, 10 minutes unless it is said otherwise. A few are looked at whenever a new key comes. Calls
    /// under way do not keep it then, and count for nobody. If it is shorter than the longest open time, failures are
    /// forgotten after it.
    pub const fn idle(mut self, idle: Duration) -> Self {
        self.keys.idle = idle;
        self
    }

    /// The layer.
    ///
    /// # Errors
    ///
    /// If the configuration breaks a rule, see [`BreakerConfig`] and [`idle`](Self::idle).
    pub fn build(self) -> Result<BreakerLayer<Keyed<E>>, ConfigError> {
        // With none at all each new key would have those forgotten that are asked for at the same moment.
        if self.keys.idle < SHORTEST_IDLE {
            return Err(ConfigError::new("idle", "must be 1 s at least"));
        }
        let shared = self.breaker()?;
        let rules = Rules::new(&self.config)?;
        let OneForEach {
            extractor,
            name,
            capacity,
            idle,
        } = self.keys;
        let registry = Registry::new(shared, rules, self.mode, capacity, idle);
        let select = Keyed {
            registry: Arc::new(registry),
            extractor: Arc::new(extractor),
            name,
        };
        Ok(BreakerLayer::by(select))
    }
}

impl<S, K: Select, C: Clone, R: Clone> Layer<S> for BreakerLayer<K, C, R> {
    type Service = BreakerService<S, K, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let mut select = self.select.clone();
        select.refresh();
        BreakerService::new(inner, select, self.manner.clone())
    }
}

/// Needs nothing.
impl<F: FactSet, C, R> Stage<F> for BreakerLayer<Single, C, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        self.manner.slot = slot;
        self
    }
}

/// Needs what its key is made from.
impl<F: FactSet, E: AvailableIn<F>, C, R> Stage<F> for BreakerLayer<Keyed<E>, C, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        self.manner.slot = slot;
        self
    }
}
