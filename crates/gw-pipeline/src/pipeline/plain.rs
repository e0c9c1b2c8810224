use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gw_core::call::call_into;
use gw_core::stage::{FactSet, Stage};
use gw_core::{Body, BoxError};
use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// A layer from elsewhere as a stage: it needs no fact and gives none.
///
/// Its service has to take requests with any body, such as [`RequestBody`](crate::inbound::RequestBody), around services with any
/// error: it is a [`BoxError`] there. axum's `from_fn` takes axum's own body, and is for services that cannot fail: put it on the
/// routes inside, or write a [`Stage`] in its place.
///
/// Its answers get the pipeline's one body type back, by one box per answer whose body has not ended. A layer that
/// establishes a fact, such as an authenticator, implements [`Stage`] itself.
pub const fn plain<L>(layer: L) -> Plain<L> {
    Plain { layer }
}

/// See [`plain`].
#[derive(Debug, Clone, Copy)]
pub struct Plain<L> {
    layer: L,
}

impl<F: FactSet, L> Stage<F> for Plain<L> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn stands_for() -> Option<&'static str> {
        Some(std::any::type_name::<L>())
    }
}

impl<S, L: Layer<S>> Layer<S> for Plain<L> {
    type Service = PlainService<L::Service>;

    fn layer(&self, service: S) -> Self::Service {
        PlainService {
            inner: self.layer.layer(service),
        }
    }
}

/// The service of [`Plain`].
#[derive(Debug, Clone, Copy)]
pub struct PlainService<S> {
    inner: S,
}

impl<S, Req, B> Service<Req> for PlainService<S>
where
    S: Service<Req, Response = Response<B>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = PlainFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        call_into(&mut self.inner, request, |inner| PlainFuture { inner })
    }
}

pin_project! {
    /// The future of [`PlainService`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the future inside, and nothing else.
    #[derive(Debug)]
    pub struct PlainFuture<Fut> {
        #[pin]
        inner: Fut,
    }
}

impl<Fut, B, E> Future for PlainFuture<Fut>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.project().inner.poll(cx));
        Poll::Ready(response.map(|response| response.map(Body::new)))
    }
}
