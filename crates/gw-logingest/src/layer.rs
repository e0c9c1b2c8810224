mod body;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::stage::{FactSet, Stage};
use gw_core::{Body, BoxError, ConfigError, OnReject, Respond};
use http::uri::PathAndQuery;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

pub use self::body::ResponseBody;
use crate::intake::LogIngest;
use crate::intake::future::IngestFuture;
use crate::queue::Queue;

/// Answers one path with a [`LogIngest`], and passes all other requests on. Made by [`LogIngest::layer`].
///
/// The path is compared as it stands, without the query. All methods on it are the intake's: those other than POST are
/// answered 405.
pub struct IngestLayer<Q, R = Respond> {
    ingest: LogIngest<Q, R>,
    path: Arc<str>,
}

/// The service of an [`IngestLayer`].
///
/// Readiness is the inner service's. A request for the intake does not touch the inner service: a clone takes the place of the instance that
/// was ready, so that nothing stays reserved.
pub struct Ingest<S, Q, R = Respond> {
    inner: S,
    ingest: LogIngest<Q, R>,
    path: Arc<str>,
}

impl<Q, R> IngestLayer<Q, R> {
    pub(crate) fn new(ingest: LogIngest<Q, R>, path: Arc<str>) -> Result<Self, ConfigError> {
        // As a request's target is read: of one with a query or a fragment less is its path.
        let parsed = path.parse::<PathAndQuery>();
        let is_path = parsed.is_ok_and(|parsed| parsed.path() == &*path);
        if !is_path || !path.starts_with('/') {
            return Err(ConfigError::new(
                "path",
                "must begin with `/`, and be a path without a query",
            ));
        }
        Ok(Self { ingest, path })
    }
}

// By hand: a derive would ask for `Q: Clone`.
impl<Q, R: Clone> Clone for IngestLayer<Q, R> {
    fn clone(&self) -> Self {
        Self {
            ingest: self.ingest.clone(),
            path: Arc::clone(&self.path),
        }
    }
}

impl<S: Clone, Q, R: Clone> Clone for Ingest<S, Q, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            ingest: self.ingest.clone(),
            path: Arc::clone(&self.path),
        }
    }
}

impl<Q, R> fmt::Debug for IngestLayer<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngestLayer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<S: fmt::Debug, Q, R> fmt::Debug for Ingest<S, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest")
            .field("inner", &self.inner)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<S, Q, R: Clone> Layer<S> for IngestLayer<Q, R> {
    type Service = Ingest<S, Q, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Ingest {
            inner,
            ingest: self.ingest.clone(),
            path: Arc::clone(&self.path),
        }
    }
}

impl<F: FactSet, Q, R> Stage<F> for IngestLayer<Q, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        self.ingest = self.ingest.in_slot(slot);
        self
    }
}

impl<S, Q, R> Ingest<S, Q, R> {
    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, Q, R, B, ResB> Service<Request<B>> for Ingest<S, Q, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    Q: Queue,
    R: OnReject<Response<Body>, Infallible, Error = Infallible> + Clone + Send + Sync + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let kind = if request.uri().path() == &*self.path {
            let future = self.ingest.call(request);
            // What the inner service has reserved is for a request that does not come, and a client that uploads may keep this
            // instance for as long as its connection lasts.
            self.inner = self.inner.clone();
            Kind::Intake { future }
        } else {
            // Decided without waiting, so the instance that is ready can be called in place.
            let future = self.inner.call(request);
            Kind::Inner { future }
        };
        ResponseFuture { kind }
    }
}

pin_project! {
    /// The future of [`Ingest`].
    ///
    /// # Cancel safety
    ///
    /// As the inner service's future, or [`IngestFuture`].
    pub struct ResponseFuture<F> {
        #[pin]
        kind: Kind<F>,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<F> {
        Intake { #[pin] future: IngestFuture },
        Inner { #[pin] future: F },
    }
}

impl<F> fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}

impl<F, ResB, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<ResB>, E>>,
{
    type Output = Result<Response<ResponseBody<ResB>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().kind.project() {
            KindProjection::Intake { future } => {
                let Ok(response) = ready!(future.poll(cx));
                Poll::Ready(Ok(response.map(ResponseBody::intake)))
            }
            KindProjection::Inner { future } => {
                let response = ready!(future.poll(cx));
                Poll::Ready(response.map(|response| response.map(ResponseBody::inner)))
            }
        }
    }
}
