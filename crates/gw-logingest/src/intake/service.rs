use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::{Body, BoxError, ConfigError, OnReject, Respond};
use http::{Request, Response};
use tower_service::Service;

use super::builder::{LogIngestBuilder, Shared};
use super::client::ByClient;
use super::future::IngestFuture;
use super::handle::IngestHandle;
use super::serve;
use crate::layer::IngestLayer;
use crate::queue::Queue;

/// The intake as a service: takes a POST of events, and answers 202 with a receipt once they are stored.
///
/// It answers on any path. If a request's body ends with an error, and the error has a [`Rejection`](gw_core::Rejection) among
/// its sources, then that is the answer: whoever cut the body off knows why. Clones share all state, so one may be made for each connection. It is always ready: what it
/// cannot take it refuses in `call`.
pub struct LogIngest<Q, R = Respond> {
    shared: Arc<Shared<Q>>,
    slot: &'static str,
    on_reject: R,
}

/// The slot that observers are told of, where no pipeline has said in which one the intake is: it can be at the end of one.
const SLOT: &str = "forward";

impl<Q: Queue> LogIngest<Q> {
    /// A builder with the defaults of each setting.
    pub fn builder(queue: Q) -> LogIngestBuilder<Q> {
        LogIngestBuilder::new(queue)
    }

    pub(super) fn new(shared: Shared<Q>) -> Self {
        Self {
            shared: Arc::new(shared),
            slot: SLOT,
            on_reject: Respond::new(),
        }
    }
}

impl<Q, R> LogIngest<Q, R> {
    /// Renders refusals with `on_reject` instead of the envelope.
    pub fn on_reject<R2>(self, on_reject: R2) -> LogIngest<Q, R2> {
        LogIngest {
            shared: self.shared,
            slot: self.slot,
            on_reject,
        }
    }

    /// A layer that answers `path`, and passes all other requests on to what it is applied to.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if no request has such a path: it begins with `/` and is the path alone, without a query.
    pub fn layer(&self, path: impl Into<Arc<str>>) -> Result<IngestLayer<Q, R>, ConfigError>
    where
        R: Clone,
    {
        IngestLayer::new(self.clone(), path.into())
    }

    /// The same, in this slot of a pipeline.
    pub(crate) fn in_slot(mut self, slot: &'static str) -> Self {
        self.slot = slot;
        self
    }

    /// The key by which the intake tells clients apart, for a rate limit in front of it.
    pub fn by_client(&self) -> ByClient {
        ByClient::new(Arc::clone(&self.shared.clients))
    }

    /// A handle for whoever operates the intake.
    pub fn handle(&self) -> IngestHandle {
        IngestHandle {
            ledger: Arc::clone(&self.shared.ledger),
            config: Arc::clone(&self.shared.config),
            mode: Arc::clone(&self.shared.mode),
        }
    }
}

// By hand: a derive would ask for `Q: Clone`.
impl<Q, R: Clone> Clone for LogIngest<Q, R> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            slot: self.slot,
            on_reject: self.on_reject.clone(),
        }
    }
}

impl<Q, R> fmt::Debug for LogIngest<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogIngest")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

impl<Q, R, B> Service<Request<B>> for LogIngest<Q, R>
where
    Q: Queue,
    R: OnReject<Response<Body>, Infallible, Error = Infallible> + Clone + Send + Sync + 'static,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = IngestFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> IngestFuture {
        let shared = Arc::clone(&self.shared);
        IngestFuture::new(serve::answer(
            shared,
            self.slot,
            self.on_reject.clone(),
            request,
        ))
    }
}
