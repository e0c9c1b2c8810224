//! Telling who watches the endpoints what came of a request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::classify::{Classify as _, GrpcClassifier, HttpClassifier, Outcome};
use gw_core::endpoint::EndpointHealth;
use http::Response;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::after::is_grpc;
use super::error::Error;

/// Who watches the endpoints of an upstream, if anybody does.
#[derive(Clone, Default)]
pub(super) struct Watcher(pub(super) Option<Arc<dyn EndpointHealth>>);

impl Watcher {
    /// Whether the endpoint may be picked.
    pub(super) fn is_usable(&self, endpoint: usize, now: Instant) -> bool {
        let health = self.0.as_ref();
        health.is_none_or(|health| health.is_usable(endpoint, now))
    }

    /// Watches one request to `endpoint`, which begins `now`.
    pub(super) fn watch(&self, endpoint: usize, now: Instant) -> Option<Report> {
        self.0.as_ref().map(|health| Report {
            health: Arc::clone(health),
            endpoint,
            began: now,
            // Unless the answer says otherwise: a request that is dropped says nothing.
            outcome: Outcome::Ignored,
        })
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

/// One request, reported when its answer's head is there, when it has failed, or when it is dropped.
pub(super) struct Report {
    health: Arc<dyn EndpointHealth>,
    endpoint: usize,
    began: Instant,
    outcome: Outcome,
}

impl Drop for Report {
    fn drop(&mut self) {
        let now = Instant::now();
        let latency = now.duration_since(self.began);
        self.health
            .report(self.endpoint, self.outcome, latency, now);
    }
}

/// What the head of an answer says. A gRPC status that comes with the trailers is not waited for.
fn at_head<B>(response: &Response<B>) -> Outcome {
    let outcome = match is_grpc(response.headers()) {
        true => GrpcClassifier.head(response),
        false => HttpClassifier.head(response),
    };
    outcome.unwrap_or(Outcome::Success)
}

pin_project! {
    /// An exchange that is reported.
    pub(super) struct Reported<F> {
        #[pin]
        exchange: F,
        report: Option<Report>,
    }
}

impl<F> Reported<F> {
    pub(super) const fn new(exchange: F, report: Option<Report>) -> Self {
        Self { exchange, report }
    }
}

impl<F, B> Future for Reported<F>
where
    F: Future<Output = Result<Response<B>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.exchange.poll(cx));
        if let Some(mut report) = this.report.take() {
            report.outcome = match &result {
                Ok(response) => at_head(response),
                Err(error) => error.kind().failure().outcome(),
            };
        }
        Poll::Ready(result)
    }
}
