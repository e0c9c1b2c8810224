//! As many layers as there are stores. Usually there are none. Each is boxed.

use bytes::Bytes;
use gw_core::key::AvailableIn;
use gw_core::stage::{FactSet, Stage};
use gw_pipeline::inbound::RequestBody;
use gw_pipeline::server::Incoming;
use gw_ratelimit::redis::SharedRateLimitLayer;
use http::{Request, Response};
use tower::util::BoxCloneService;
use tower_layer::Layer;
use tower_service::Service;

/// What a request is where limits are asked.
pub(super) type Asking = Request<RequestBody<gw_observe::RequestBody<Incoming>>>;

#[derive(Debug, Clone)]
pub(crate) struct SharedLayers<K> {
    /// In the order in which they are asked.
    layers: Vec<SharedRateLimitLayer<(K, ())>>,
}

impl<K> Default for SharedLayers<K> {
    fn default() -> Self {
        Self { layers: Vec::new() }
    }
}

impl<K> SharedLayers<K> {
    pub(super) const fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }

    pub(super) fn push(&mut self, layer: SharedRateLimitLayer<(K, ())>) {
        self.layers.push(layer);
    }

    pub(super) fn into_layers_in<F: FactSet>(self, slot: &'static str) -> Self
    where
        K: AvailableIn<F>,
    {
        let layers = self.layers.into_iter();
        Self {
            layers: layers
                .map(|layer| Stage::<F>::into_layer_in(layer, slot))
                .collect(),
        }
    }
}

impl<S, K, B> Layer<S> for SharedLayers<K>
where
    S: Service<Asking, Response = Response<B>, Future: Send> + Clone + Send + 'static,
    S::Error: Send + 'static,
    B: From<Bytes> + Send + 'static,
{
    type Service = BoxCloneService<Asking, S::Response, S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        let boxed = BoxCloneService::new(inner);
        let layers = self.layers.iter().rev();
        layers.fold(boxed, |inner, layer| {
            BoxCloneService::new(layer.layer(inner))
        })
    }
}
