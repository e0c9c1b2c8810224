//! Telling a breaker when a request has been sent whole.
//!
//! A handler that reads its request's body answers late if the client sends that slowly. Where slow calls open a breaker, such
//! clients would; and where requests have deadlines, those that send until theirs has passed. [`UploadLayer`] stands right inside
//! of the breaker and watches the body, for [`LatencyFrom::Sent`]. It is not needed in front of the upstreams of gw-pipeline, which
//! tell it by themselves, and know of their queue as well.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::post};
//! use gw_breaker::upload::UploadLayer;
//! use gw_breaker::{BreakerConfig, BreakerLayer, LatencyFrom};
//!
//! # fn main() -> Result<(), gw_breaker::ConfigError> {
//! let config = BreakerConfig::new().slow_rate(0.8, Duration::from_millis(800));
//! let breaker = BreakerLayer::builder("orders")
//!     .config(config)
//!     .build()?
//!     .latency_from(LatencyFrom::Sent);
//! let app: Router = Router::new()
//!     .route("/orders", post(|body: String| async move { body }))
//!     .layer(UploadLayer)
//!     .layer(breaker);
//! # drop(app);
//! # Ok(())
//! # }
//! ```
//!
//! [`LatencyFrom::Sent`]: crate::LatencyFrom::Sent

use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::awaited::Awaited;
use gw_core::stage::{FactSet, Stage};
use http::Request;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

/// Applies an [`Upload`].
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadLayer;

impl<S> Layer<S> for UploadLayer {
    type Service = Upload<S>;

    fn layer(&self, inner: S) -> Upload<S> {
        Upload { inner }
    }
}

/// Needs nothing.
impl<F: FactSet> Stage<F> for UploadLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

/// Has the bodies of requests say when they are waited for. Made by an [`UploadLayer`].
///
/// Requests of which no breaker asks for that pass as they are.
#[derive(Debug, Clone)]
pub struct Upload<S> {
    inner: S,
}

impl<S> Upload<S> {
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

impl<S, B> Service<Request<B>> for Upload<S>
where
    S: Service<Request<RequestBody<B>>>,
    B: Body,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let awaited = Awaited::take(request.extensions_mut());
        let awaited = awaited.filter(|_| !request.body().is_end_stream());
        self.inner
            .call(request.map(|inner| RequestBody { inner, awaited }))
    }
}

pin_project! {
    /// The body of a request. While it has nothing to give, it is not the upstream that is waited for; nor once it has failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping it says that nobody waits for the client any more.
    #[derive(Debug, Default)]
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        // Nothing once it has ended or failed.
        awaited: Option<Awaited>,
    }

    impl<B> PinnedDrop for RequestBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let awaited = this.project().awaited.take();
            // What was waited for before is so still.
            if let Some(awaited) = awaited.filter(|awaited| awaited.since().is_none()) {
                awaited.starts(Instant::now());
            }
        }
    }
}

impl<B: Body> Body for RequestBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(awaited) = this.awaited.as_ref() else {
            return this.inner.poll_frame(cx);
        };
        let frame = match this.inner.as_mut().poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                awaited.pauses();
                return Poll::Pending;
            }
        };
        match &frame {
            // It was never sent whole, so how long the answer takes says nothing either.
            Some(Err(_)) => awaited.pauses(),
            Some(Ok(_)) | None => awaited.starts(Instant::now()),
        }
        let goes_on = matches!(&frame, Some(Ok(_))) && !this.inner.is_end_stream();
        if !goes_on {
            *this.awaited = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
