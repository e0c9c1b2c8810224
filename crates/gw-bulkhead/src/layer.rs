use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use gw_core::stage::{FactSet, Stage};
use gw_core::{ConfigError, Mode, Respond};
use http::request::Parts;
use tower_layer::Layer;

use crate::config;
use crate::executor::Inline;
use crate::handle::BulkheadHandle;
use crate::lane::LaneConfig;
use crate::lanes::{LaneId, Lanes};
use crate::limit::Limit;
use crate::service::Bulkhead;
#[cfg(feature = "threads")]
use crate::threads::Threads;

/// Applies a [`Bulkhead`]. All services made by it and its clones share the same lanes.
///
/// `X` is where requests run: [`Inline`] or `Threads`; `R` renders refusals.
#[derive(Debug, Clone)]
pub struct BulkheadLayer<X = Inline, R = Respond> {
    shared: Arc<Shared>,
    executor: X,
    on_reject: R,
}

/// What all services of a layer share.
#[derive(Clone)]
pub struct Shared {
    pub(crate) lanes: Lanes,
    pub(crate) default: LaneId,
    pub(crate) classify: Option<Classify>,
    /// The slot of a pipeline that the layer is in.
    pub(crate) slot: &'static str,
}

type Classify = Arc<dyn Fn(&Parts, &Lanes) -> Option<LaneId> + Send + Sync>;

/// The slot that observers are told of, where no pipeline has said in which one the layer is.
const SLOT: &str = "admit";

/// Builds a [`BulkheadLayer`].
#[must_use = "a builder does nothing until it is built"]
pub struct BulkheadBuilder<X = Inline> {
    limit: Limit,
    lanes: Vec<LaneConfig>,
    default: Option<Box<str>>,
    classify: Option<Classify>,
    mode: Mode,
    executor: PhantomData<fn() -> X>,
}

impl BulkheadLayer {
    /// Lanes that share the places of `limit`: a number, or a [`Limit`].
    pub fn builder(limit: impl Into<Limit>) -> BulkheadBuilder {
        BulkheadBuilder {
            limit: limit.into(),
            lanes: Vec::new(),
            default: None,
            classify: None,
            mode: Mode::default(),
            executor: PhantomData,
        }
    }
}

impl<X, R> BulkheadLayer<X, R> {
    /// Renders refusals with `renderer`, which is given the inner service's body type.
    pub fn on_reject<T>(self, renderer: T) -> BulkheadLayer<X, T> {
        BulkheadLayer {
            shared: self.shared,
            executor: self.executor,
            on_reject: renderer,
        }
    }

    /// What an operator may read and change while requests run.
    pub fn handle(&self) -> BulkheadHandle {
        BulkheadHandle::new(self.shared.lanes.clone())
    }
}

impl<X> BulkheadBuilder<X> {
    /// Adds a lane.
    pub fn lane(mut self, lane: LaneConfig) -> Self {
        self.lanes.push(lane);
        self
    }

    /// The lane of requests that name none, or one that does not exist. The first one unless it is said otherwise.
    pub fn default_lane(mut self, name: impl Into<Box<str>>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Reads a request's lane from its head instead of from the [`Lane`](gw_core::context::Lane) in its extensions. It is one that
    /// the lanes have found: those of others mean nothing here.
    ///
    /// # Examples
    ///
    /// By a table that a configuration has:
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use gw_bulkhead::{BulkheadLayer, LaneConfig};
    ///
    /// let table = HashMap::from([(String::from("/logs"), String::from("logs"))]);
    /// let layer = BulkheadLayer::builder(512)
    ///     .lane(LaneConfig::new("core"))
    ///     .lane(LaneConfig::new("logs").cap(0.15))
    ///     .classify(move |head, lanes| lanes.find(table.get(head.uri.path())?))
    ///     .build()?;
    /// # Ok::<(), gw_bulkhead::ConfigError>(())
    /// ```
    pub fn classify<F>(mut self, lane_of: F) -> Self
    where
        F: Fn(&Parts, &Lanes) -> Option<LaneId> + Send + Sync + 'static,
    {
        self.classify = Some(Arc::new(lane_of));
        self
    }

    /// What the bulkhead does at first. In shadow mode nobody waits and nothing is cut. Off it passes requests on where they came
    /// from, uncounted: not on a lane's own threads either.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Lets lanes have threads of their own.
    #[cfg(feature = "threads")]
    pub fn with_threads(self) -> BulkheadBuilder<Threads> {
        BulkheadBuilder {
            limit: self.limit,
            lanes: self.lanes,
            default: self.default,
            classify: self.classify,
            mode: self.mode,
            executor: PhantomData,
        }
    }

    fn shared(self) -> Result<Shared, ConfigError> {
        let lanes = Lanes::new(self.limit, self.lanes)?;
        let default = match &self.default {
            None => LaneId::FIRST,
            Some(name) => lanes.find(name).ok_or(ConfigError::new(
                "default_lane",
                "must be the name of a lane",
            ))?,
        };
        lanes.set_mode(self.mode);
        Ok(Shared {
            lanes,
            default,
            classify: self.classify,
            slot: SLOT,
        })
    }
}

impl BulkheadBuilder<Inline> {
    /// The layer.
    ///
    /// # Errors
    ///
    /// If the lanes cannot be built, see [`Lanes::new`], the default lane does not exist, or a lane wants threads.
    pub fn build(self) -> Result<BulkheadLayer<Inline>, ConfigError> {
        if let Some(lane) = self.lanes.iter().find(|lane| lane.threads > 0) {
            return Err(config::of_lane(
                lane,
                "threads",
                "needs a bulkhead built `with_threads`",
            ));
        }
        let shared = Arc::new(self.shared()?);
        Ok(BulkheadLayer {
            shared,
            executor: Inline,
            on_reject: Respond::new(),
        })
    }
}

#[cfg(feature = "threads")]
impl BulkheadBuilder<Threads> {
    /// The layer. Its lanes' threads are running then.
    ///
    /// # Errors
    ///
    /// If the lanes cannot be built, see [`Lanes::new`], the default lane does not exist, or the system refuses a
    /// thread.
    pub fn build(self) -> Result<BulkheadLayer<Threads>, ConfigError> {
        let shared = Arc::new(self.shared()?);
        let executor = Threads::start(&shared.lanes)?;
        Ok(BulkheadLayer {
            shared,
            executor,
            on_reject: Respond::new(),
        })
    }
}

impl<S, X: Clone, R: Clone> Layer<S> for BulkheadLayer<X, R> {
    type Service = Bulkhead<S, X, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = Arc::clone(&self.shared);
        Bulkhead::new(inner, shared, self.executor.clone(), self.on_reject.clone())
    }
}

/// Needs nothing: without a lane that an earlier stage chose, requests run in the default lane.
impl<F: FactSet, X, R> Stage<F> for BulkheadLayer<X, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        // The lanes are the same ones still.
        Arc::make_mut(&mut self.shared).slot = slot;
        self
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}

impl<X> fmt::Debug for BulkheadBuilder<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadBuilder")
            .field("limit", &self.limit)
            .field("lanes", &self.lanes)
            .finish_non_exhaustive()
    }
}
