use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use gw_core::stage::{FactSet, Stage};
use gw_core::{Body, BoxError, OnReject, Respond};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

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
/// Readiness is the inner service's. A request for the intake does not touch the inner service, whose readiness stays
/// for the next call.
pub struct Ingest<S, Q, R = Respond> {
    inner: S,
    ingest: LogIngest<Q, R>,
    path: Arc<str>,
}

impl<Q, R> IngestLayer<Q, R> {
    pub(crate) const fn new(ingest: LogIngest<Q, R>, path: Arc<str>) -> Self {
        Self { ingest, path }
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
    S: Service<Request<B>, Response = Response<ResB>>,
    Q: Queue,
    R: OnReject<Response<Body>, Infallible, Error = Infallible> + Clone + Send + Sync + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
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

pin_project! {
    /// The body of an answer: the inner service's as it is, or the intake's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside.
    pub struct ResponseBody<B> {
        #[pin]
        origin: Origin<B>,
    }
}

pin_project! {
    #[project = OriginProjection]
    enum Origin<B> {
        Intake { body: Body },
        Inner { #[pin] body: B },
    }
}

impl<B> ResponseBody<B> {
    const fn intake(body: Body) -> Self {
        Self {
            origin: Origin::Intake { body },
        }
    }

    const fn inner(body: B) -> Self {
        Self {
            origin: Origin::Inner { body },
        }
    }
}

impl<B> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::intake(bytes.into())
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::Intake { .. } => "intake",
            Origin::Inner { .. } => "inner service",
        };
        f.debug_tuple("ResponseBody").field(&origin).finish()
    }
}

impl<B> http_body::Body for ResponseBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().origin.project() {
            OriginProjection::Intake { body } => Pin::new(body).poll_frame(cx),
            OriginProjection::Inner { body } => {
                let frame = ready!(body.poll_frame(cx));
                // For `Bytes` this hands the same bytes on; they are not copied.
                let whole = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                Poll::Ready(
                    frame.map(|frame| frame.map(|frame| frame.map_data(whole)).map_err(Into::into)),
                )
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Intake { body } => body.is_end_stream(),
            Origin::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Intake { body } => body.size_hint(),
            Origin::Inner { body } => body.size_hint(),
        }
    }
}
