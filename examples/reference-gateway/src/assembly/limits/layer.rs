use std::sync::Arc;

use bytes::Bytes;
use gw_core::key::AvailableIn;
use gw_core::stage::{FactSet, Stage};
use gw_ratelimit::RateLimitLayer;
use gw_ratelimit::redis::SharedRateLimitLayer;
use http::Response;
use tower_layer::Layer;
use tower_service::Service;

use super::controls::{LimitControls, StoreControls};
use super::service::Limits;
use super::shared::{Asking, SharedLayers};
use crate::config::table::SharedStore;

/// All limits of one stage. Those that need no network are asked first: what they refuse costs nothing elsewhere, while
/// what a later one refuses has been charged to them.
#[derive(Debug, Clone)]
pub(crate) struct LimitsLayer<K> {
    local: RateLimitLayer<(K, ())>,
    shared: SharedLayers<K>,
    controls: LimitControls,
}

impl<K> LimitsLayer<K> {
    pub(super) fn new(stage: &'static str, local: RateLimitLayer<(K, ())>) -> Self {
        let controls = LimitControls {
            stage,
            local: local.handle(),
            stores: Vec::new(),
        };
        Self {
            local,
            shared: SharedLayers::default(),
            controls,
        }
    }

    pub(super) fn share(
        &mut self,
        label: Arc<str>,
        store: &SharedStore,
        layer: SharedRateLimitLayer<(K, ())>,
    ) {
        self.controls.stores.push(StoreControls {
            label,
            limiter: layer.limiter().clone(),
            leased: store.leased,
            on_error: store.on_error,
        });
        self.shared.push(layer);
    }

    pub(crate) fn controls(&self) -> LimitControls {
        self.controls.clone()
    }
}

impl<F: FactSet, K: AvailableIn<F>> Stage<F> for LimitsLayer<K> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(self, slot: &'static str) -> Self {
        Self {
            local: Stage::<F>::into_layer_in(self.local, slot),
            shared: self.shared.into_layers_in::<F>(slot),
            controls: self.controls,
        }
    }
}

impl<S, K, B> Layer<S> for LimitsLayer<K>
where
    S: Service<Asking, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    S::Error: Send + 'static,
    B: From<Bytes> + Send + 'static,
{
    type Service = Limits<S, S::Response, S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        if !self.shared.is_empty() {
            return Limits::Shared(self.local.layer(self.shared.layer(inner)));
        }
        // What there is stays: policies can be changed, but not added.
        match self.controls.local.snapshot().is_empty() {
            true => Limits::Unasked(inner),
            false => Limits::Local(self.local.layer(inner)),
        }
    }
}
