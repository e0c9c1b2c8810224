//! Finding a request's route, and the time that there is for it.

use std::task::{Context, Poll};

use gw_core::stage::{FactSet, Stage};
use gw_pipeline::inbound::RouteResolveLayer;
use http::Request;
use tower_layer::{Layer, Stack};
use tower_service::Service;

use super::upstreams::time;

/// Finds the route, and keeps to the time that a gRPC client gives.
///
/// Here, since lanes ask whose time it is: what a client does not wait for must not lower their limits.
#[derive(Debug, Clone)]
pub(super) struct ResolveStage(pub(super) RouteResolveLayer);

impl<F: FactSet> Stage<F> for ResolveStage {
    type Facts = F::WithRoute;
    type Layer = Stack<ClientsTimeLayer, RouteResolveLayer>;

    fn into_layer(self) -> Self::Layer {
        Stack::new(ClientsTimeLayer, Stage::<F>::into_layer(self.0))
    }
}

/// Brings the deadline that a route has set forward to when the client stops waiting.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientsTimeLayer;

impl<S> Layer<S> for ClientsTimeLayer {
    type Service = ClientsTime<S>;

    fn layer(&self, inner: S) -> ClientsTime<S> {
        ClientsTime { inner }
    }
}

/// See [`ClientsTimeLayer`].
#[derive(Debug, Clone)]
pub(super) struct ClientsTime<S> {
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for ClientsTime<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> S::Future {
        time::heed_client(&mut request);
        self.inner.call(request)
    }
}
