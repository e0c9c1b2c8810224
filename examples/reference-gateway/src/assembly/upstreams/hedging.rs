//! `hedge`: a second copy for the requests of the routes that ask for it.

use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::attempt::AttemptError;
use gw_core::call::call_into;
use gw_core::context::RouteMatch;
use gw_retry::hedge::{Hedge, HedgeHandle, HedgeLayer};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// The hedges of the routes that lead to one upstream, by the ordinals of the routes. What takes long on one route is
/// usual on another, so each has its own.
#[derive(Debug, Clone)]
pub(super) struct HedgingLayer(Arc<[(usize, HedgeLayer)]>);

impl FromIterator<(usize, HedgeLayer)> for HedgingLayer {
    fn from_iter<T: IntoIterator<Item = (usize, HedgeLayer)>>(routes: T) -> Self {
        Self(routes.into_iter().collect())
    }
}

impl HedgingLayer {
    /// Of each route, by its ordinal.
    pub(super) fn handles(&self) -> impl Iterator<Item = (usize, HedgeHandle)> {
        self.0.iter().map(|(route, layer)| (*route, layer.handle()))
    }
}

impl<S> Layer<S> for HedgingLayer {
    type Service = Hedging<S>;

    fn layer(&self, inner: S) -> Hedging<S> {
        Hedging {
            inner,
            routes: self.clone(),
        }
    }
}

/// See [`HedgingLayer`].
#[derive(Debug, Clone)]
pub struct Hedging<S> {
    inner: S,
    routes: HedgingLayer,
}

impl<S, B, ResB> Service<Request<B>> for Hedging<S>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    S::Error: AttemptError,
    B: Body + Default,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = HedgingFuture<S::Future, <Hedge<S> as Service<Request<B>>>::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let hedges = &self.routes.0;
        let hedge = match hedges.is_empty() {
            true => None,
            false => {
                let route = request.extensions().get::<RouteMatch>();
                let ordinal = route.and_then(RouteMatch::ordinal);
                hedges.iter().find(|(of, _)| Some(*of) == ordinal)
            }
        };
        match hedge {
            None => call_into(&mut self.inner, request, |future| HedgingFuture::Once {
                future,
            }),
            Some((_, hedge)) => {
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                HedgingFuture::Hedged {
                    future: Box::pin(hedge.layer(ready).call(request)),
                }
            }
        }
    }
}

pin_project! {
    /// The future of [`Hedging`]. Dropping it drops the one inside, and nothing else.
    #[project = HedgingProj]
    pub enum HedgingFuture<F, H> {
        Once { #[pin] future: F },
        // Boxed: few routes ask for it.
        Hedged { future: Pin<Box<H>> },
    }
}

impl<F: Future, H: Future<Output = F::Output>> Future for HedgingFuture<F, H> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            HedgingProj::Once { future } => future.poll(cx),
            HedgingProj::Hedged { future } => future.as_mut().poll(cx),
        }
    }
}
