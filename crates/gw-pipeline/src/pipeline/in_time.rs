use std::fmt;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::attempt::Failure;
use gw_core::call::call_into;
use gw_core::context::Deadline;
use gw_core::record::Record;
use gw_core::{BoxError, Rejection};
use http::{Extensions, Request, Response};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

use super::slot::{self, Slot as _};
use crate::codes;

/// A service whose exchanges end at their [`Deadline`]: with 504 before the head, with a cut body after it.
///
/// [`Builder::forward`](super::Builder::forward) puts it around the service that ends a pipeline.
#[derive(Debug, Clone, Copy)]
pub struct InTime<S> {
    inner: S,
}

impl<S> InTime<S> {
    /// Puts the timer around `inner`.
    pub const fn new(inner: S) -> Self {
        Self { inner }
    }
}

impl<S, B, ResB> Service<Request<B>> for InTime<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<InTimeBody<ResB>>;
    type Error = BoxError;
    type Future = InTimeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut timer = Timer::of(request.extensions());
        if timer.has_passed() {
            return InTimeFuture {
                state: State::Refused {
                    refused: Some(timer.refusal(Failure::Refused)),
                },
            };
        }
        call_into(&mut self.inner, request, |future| InTimeFuture {
            state: State::Inner {
                future,
                timer: mem::take(&mut timer),
            },
        })
    }
}

pin_project! {
    /// The future of [`InTime`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and nothing else.
    #[derive(Debug)]
    pub struct InTimeFuture<Fut> {
        #[pin]
        state: State<Fut>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<Fut> {
        Inner { #[pin] future: Fut, timer: Timer },
        Refused { refused: Option<Rejection> },
    }
}

impl<Fut, B, E> Future for InTimeFuture<Fut>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<InTimeBody<B>>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            // An answer that is ready beats a timer that fires together with it.
            StateProj::Inner { future, timer } => match future.poll(cx) {
                Poll::Ready(Ok(response)) => {
                    let timer = mem::take(timer);
                    Poll::Ready(Ok(response.map(|body| InTimeBody {
                        body,
                        timer,
                        cut: false,
                    })))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
                Poll::Pending if timer.has_fired(cx) => {
                    Poll::Ready(Err(timer.refusal(timer.failure()).into()))
                }
                Poll::Pending => Poll::Pending,
            },
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::Refused { refused } => refused
                .take()
                .map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into()))),
        }
    }
}

pin_project! {
    /// The body of an answer, cut at the exchange's deadline unless what is ready then ends it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside, and nothing else.
    #[derive(Debug, Default)]
    pub struct InTimeBody<B> {
        #[pin]
        body: B,
        timer: Timer,
        cut: bool,
    }
}

impl<B: From<Bytes>> From<Bytes> for InTimeBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self {
            body: bytes.into(),
            timer: Timer::default(),
            cut: false,
        }
    }
}

impl<B> http_body::Body for InTimeBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        if *this.cut {
            return Poll::Ready(None);
        }
        let polled = this.body.as_mut().poll_frame(cx);
        let late = match &polled {
            // As with the head: the last frame, the end and an error beat the timer.
            Poll::Ready(Some(Ok(frame))) => {
                let last = frame.is_trailers() || this.body.is_end_stream();
                !last && this.timer.has_passed()
            }
            Poll::Ready(_) => false,
            Poll::Pending => this.timer.has_fired(cx),
        };
        if !late {
            return polled.map(|frame| frame.map(|result| result.map_err(Into::into)));
        }
        *this.cut = true;
        this.timer.note();
        Poll::Ready(Some(Err(DeadlinePassed.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// As an upstream's error says it for the same deadline.
const CAUSE: &str = "deadline_passed";

/// A timer that is only armed once something has to wait: most exchanges never get there.
#[derive(Debug, Default)]
struct Timer {
    deadline: Option<Deadline>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whoever reads it sees a 504, or an answer that broke off, and must not take it for the upstream's doing.
    record: Option<Record>,
}

impl Timer {
    fn of(extensions: &Extensions) -> Self {
        let Some(deadline) = extensions.get::<Deadline>() else {
            return Self::default();
        };
        Self {
            deadline: Some(*deadline),
            sleep: None,
            record: Record::of(extensions).cloned(),
        }
    }

    /// For bodies that always have more: they never wait, so no timer is ever looked at.
    fn has_passed(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline.instant())
    }

    fn has_fired(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(deadline) = self.deadline else {
            return false;
        };
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.instant())));
        sleep.as_mut().poll(cx).is_ready()
    }

    /// What the end of a wait for the head says of who was waited for: nothing if it is the client that gave the time.
    fn failure(&self) -> Failure {
        match self.deadline {
            Some(deadline) if deadline.is_by_client() => Failure::Local,
            _ => Failure::Unknown,
        }
    }

    /// What is said before the head.
    fn refusal(&self, failure: Failure) -> Rejection {
        self.note();
        Rejection::new(&codes::GATEWAY_TIMEOUT)
            .failed(failure)
            .caused_by(DeadlinePassed)
    }

    fn note(&self) {
        if let Some(record) = &self.record {
            record.update(|exchange| {
                exchange.refused_by = Some(slot::Forward::NAME);
                exchange.code = Some(&codes::GATEWAY_TIMEOUT);
                exchange.cause = Some(CAUSE);
            });
        }
    }
}

/// The exchange took longer than its route allows.
#[derive(Debug, Clone, Copy)]
struct DeadlinePassed;

impl fmt::Display for DeadlinePassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline of the exchange passed")
    }
}

impl std::error::Error for DeadlinePassed {}
