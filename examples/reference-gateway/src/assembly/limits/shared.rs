//! As many layers as there are stores: none, as a rule, and then nothing is boxed.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::key::AvailableIn;
use gw_core::stage::{FactSet, Stage};
use gw_pipeline::inbound::RequestBody;
use gw_ratelimit::redis::SharedRateLimitLayer;
use http::{Request, Response};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower::util::BoxCloneService;
use tower_layer::Layer;
use tower_service::Service;

/// What a request is where limits are asked.
type Asking = Request<RequestBody<gw_observe::RequestBody<Incoming>>>;

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
    type Service = Shared<S, S::Response, S::Error>;

    fn layer(&self, inner: S) -> Self::Service {
        if self.layers.is_empty() {
            return Shared::Unasked(inner);
        }
        let boxed = BoxCloneService::new(inner);
        let layers = self.layers.iter().rev();
        Shared::Asked(layers.fold(boxed, |inner, layer| {
            BoxCloneService::new(layer.layer(inner))
        }))
    }
}

/// The service of [`SharedLayers`].
pub(crate) enum Shared<S, T, E> {
    Unasked(S),
    Asked(BoxCloneService<Asking, T, E>),
}

// By hand: a derive would ask for `T: Clone`.
impl<S: Clone, T, E> Clone for Shared<S, T, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Unasked(inner) => Self::Unasked(inner.clone()),
            Self::Asked(layers) => Self::Asked(layers.clone()),
        }
    }
}

impl<S, T, E> fmt::Debug for Shared<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked(_) => "Unasked",
            Self::Asked(_) => "Asked",
        })
    }
}

impl<S: Service<Asking>> Service<Asking> for Shared<S, S::Response, S::Error> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = SharedFuture<S::Future, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self {
            Self::Unasked(inner) => inner.poll_ready(cx),
            Self::Asked(layers) => layers.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Asking) -> Self::Future {
        match self {
            Self::Unasked(inner) => SharedFuture::Unasked {
                future: inner.call(request),
            },
            Self::Asked(layers) => SharedFuture::Asked {
                future: layers.call(request),
            },
        }
    }
}

pin_project! {
    /// The future of [`Shared`]. Dropping it drops the one inside, and nothing else.
    #[project = SharedProj]
    pub(crate) enum SharedFuture<F, T> {
        Unasked { #[pin] future: F },
        Asked { #[pin] future: Pin<Box<dyn Future<Output = T> + Send>> },
    }
}

impl<F, T> Future for SharedFuture<F, T>
where
    F: Future<Output = T>,
{
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            SharedProj::Unasked { future } => future.poll(cx),
            SharedProj::Asked { future } => future.poll(cx),
        }
    }
}
