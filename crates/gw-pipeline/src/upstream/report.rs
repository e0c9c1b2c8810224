//! Telling who watches the endpoints what came of a request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use gw_core::awaited::Awaited;
use gw_core::classify::{
    Classify as _, ContentClassifier, Outcome, ends_out_of_time, is_out_of_time,
};
use gw_core::endpoint::EndpointHealth;
use gw_core::on_reject::Caller;
use http::{HeaderMap, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::body::UpstreamBody;
use super::error::Error;
use super::limits::Limits;

/// Who watches the endpoints of an upstream, if anybody does.
#[derive(Clone, Default)]
pub(super) struct Watcher(pub(super) Option<Arc<dyn EndpointHealth>>);

impl Watcher {
    /// Whether the endpoint may be picked.
    pub(super) fn is_usable(&self, endpoint: usize, now: Instant) -> bool {
        let health = self.0.as_ref();
        health.is_none_or(|health| health.is_usable(endpoint, now))
    }

    /// Says whom an exchange waits for, if anybody wants to know: who stands in front has `asked`, or endpoints are watched.
    pub(super) fn awaited(&self, asked: Option<Awaited>, now: Instant) -> Option<Awaited> {
        let awaited = asked.or_else(|| self.0.as_ref().map(|_| Awaited::new(now)))?;
        // The upstream is waited for when there is a slot, and not before.
        awaited.pauses();
        Some(awaited)
    }

    /// Watches one request to `endpoint`, which begins `now`.
    pub(super) fn watch(
        &self,
        endpoint: usize,
        awaited: Option<&Awaited>,
        limits: &Limits,
        caller: Caller,
        now: Instant,
    ) -> Option<Report> {
        let (health, awaited) = self.0.as_ref().zip(awaited)?;
        Some(Report {
            health: Arc::clone(health),
            endpoint,
            began: now,
            awaited: awaited.clone(),
            by_client: limits.deadline_is_by_client(),
            caller,
            latency: None,
            // Unless the answer says otherwise: a request that is dropped says no more than how long it was.
            outcome: Outcome::Ignored,
        })
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watcher").field(&self.0.is_some()).finish()
    }
}

/// One request, reported when its outcome is known: at the head of its answer if that is bad, else at the end, when it has
/// failed, when a good answer has gone on for long, or when it is dropped.
pub(super) struct Report {
    health: Arc<dyn EndpointHealth>,
    endpoint: usize,
    began: Instant,
    awaited: Awaited,
    /// It is the client that gave the time: that it was not enough says nothing.
    by_client: bool,
    caller: Caller,
    /// None until the head of the answer is there.
    latency: Option<Duration>,
    /// What is known so far.
    outcome: Outcome,
}

impl Report {
    /// How long the endpoint has been waited for: neither a queue of the gateway's nor the client.
    fn waited(&self, now: Instant) -> Duration {
        let since = self.awaited.since();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The head of the answer `came`, and its body is to come.
    pub(super) fn answered(&mut self, came: Instant) {
        self.latency = Some(self.waited(came));
    }

    /// So far all is well, and the end need not be waited for to say so.
    pub(super) fn is_good(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// The client has left while the endpoint owed it the rest of the answer.
    pub(super) fn left_waiting(mut self) {
        self.outcome = Outcome::Ignored;
    }

    /// The answer has ended as it should. If its head was good, that is all; else its trailers tell.
    pub(super) fn ended(mut self, trailers: Option<&HeaderMap>) {
        if self.outcome != Outcome::Success {
            let out_of_time = trailers.is_some_and(ends_out_of_time);
            self.judge(ContentClassifier.end(trailers), out_of_time);
        }
    }

    fn judge(&mut self, outcome: Outcome, out_of_time: bool) {
        self.outcome = match outcome {
            Outcome::Failure if out_of_time && self.by_client => Outcome::Ignored,
            outcome => outcome,
        };
    }

    /// There is no answer, or it broke off.
    pub(super) fn failed(mut self, error: &Error) {
        self.outcome = error.kind().failure().outcome();
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let now = Instant::now();
        let latency = self.latency.unwrap_or_else(|| self.waited(now));
        self.health
            .report_sent(self.endpoint, self.outcome, self.began, latency, now);
    }
}

pin_project! {
    /// An exchange that is reported.
    pub(super) struct Reported<F> {
        // Dropped before the exchange, which knows whom it waits for.
        report: Option<Report>,
        #[pin]
        exchange: F,
    }
}

impl<F> Reported<F> {
    pub(super) const fn new(exchange: F, report: Option<Report>) -> Self {
        Self { report, exchange }
    }
}

impl<F> Future for Reported<F>
where
    F: Future<Output = Result<Response<UpstreamBody>, Error>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.exchange.poll(cx));
        if let Some(mut report) = this.report.take() {
            match &mut result {
                Ok(response) => match ContentClassifier.head(report.caller, response) {
                    // A good answer may break off, and a gRPC status comes with the trailers.
                    head @ (Some(Outcome::Success) | None) => {
                        report.outcome = head.unwrap_or(Outcome::Ignored);
                        response.body_mut().judged_at_end(report);
                    }
                    Some(outcome) => report.judge(outcome, is_out_of_time(response)),
                },
                Err(error) => report.failed(error),
            }
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::timeouts::Timeouts;

    const SECOND: Duration = Duration::from_secs(1);

    /// Writes down what is reported, and how long before.
    #[derive(Default)]
    struct Noted(Mutex<Vec<(Outcome, Duration, Duration)>>);

    impl EndpointHealth for Noted {
        fn is_usable(&self, _: usize, _: Instant) -> bool {
            true
        }

        fn report(&self, _: usize, _: Outcome, _: Duration, _: Instant) {
            unreachable!("it is told when the request was sent");
        }

        fn report_sent(
            &self,
            _: usize,
            outcome: Outcome,
            sent: Instant,
            latency: Duration,
            now: Instant,
        ) {
            self.0.lock().unwrap().push((outcome, now - sent, latency));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn latency_is_the_wait_for_the_endpoint_up_to_the_head() {
        let noted = Arc::new(Noted::default());
        let watcher = Watcher(Some(Arc::clone(&noted) as Arc<dyn EndpointHealth>));
        let watched = |caller| {
            let now = Instant::now();
            let limits = Limits::new(now, Timeouts::default(), None, SECOND);
            let awaited = watcher.awaited(None, now).unwrap();
            let report = watcher
                .watch(0, Some(&awaited), &limits, caller, now)
                .unwrap();
            (awaited, report)
        };
        let pass = tokio::time::advance;
        // In the queue until the end.
        let (_, report) = watched(Caller::Http);
        pass(SECOND).await;
        drop(report);
        // Three seconds in the queue, and two until the head.
        let (awaited, report) = watched(Caller::Http);
        pass(3 * SECOND).await;
        awaited.starts(Instant::now());
        pass(2 * SECOND).await;
        let answer = |grpc| {
            let mut response = Response::new(UpstreamBody::from(bytes::Bytes::from_static(b"a")));
            if grpc {
                let grpc = http::HeaderValue::from_static("application/grpc");
                response.headers_mut().insert("content-type", grpc);
            }
            std::future::ready(Ok(response))
        };
        Reported::new(answer(false), Some(report)).await.unwrap();
        // A body that is there already has no status.
        let (awaited, report) = watched(Caller::Grpc);
        awaited.starts(Instant::now());
        pass(SECOND).await;
        Reported::new(answer(true), Some(report)).await.unwrap();
        // Given up while it was waited for.
        let (awaited, report) = watched(Caller::Http);
        pass(SECOND).await;
        awaited.starts(Instant::now());
        pass(4 * SECOND).await;
        drop(report);
        let expected = [
            (Outcome::Ignored, SECOND, Duration::ZERO),
            (Outcome::Success, 5 * SECOND, 2 * SECOND),
            (Outcome::Failure, SECOND, SECOND),
            (Outcome::Ignored, 5 * SECOND, 4 * SECOND),
        ];
        assert_eq!(*noted.0.lock().unwrap(), expected);
    }

    #[test]
    fn nobody_is_told_who_does_not_ask() {
        let now = Instant::now();
        assert!(Watcher::default().awaited(None, now).is_none());
        let asked = Awaited::new(now);
        let told = Watcher::default().awaited(Some(asked.clone()), now);
        assert!(told.is_some() && asked.since().is_none());
    }
}
