//! The body of a request on its way to the upstream, and what the exchange knows of it.
//!
//! The connection's task polls the body, the exchange waits for the answer. A body that fails must not end the
//! connection behind the exchange's back: the answer may be there already, and then it wins. So a failed body tells the
//! exchange and stays pending; the connection ends when the exchange gives it up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gw_core::{Body, BoxError};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

/// The body of a request as the connection sees it.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Body,
    // None if the body had ended before it was sent: there is nothing to tell.
    shared: Option<Arc<Shared>>,
}

/// The exchange's side of a [`RequestBody`]. Dropping it ends a body that has not ended with an error.
#[derive(Debug)]
pub(super) struct Upload(Option<Arc<Shared>>);

/// How far a request's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The connection has all of it, since then.
    Sent(Instant),
    /// The connection has had no room for more since then.
    Unread(Instant),
    /// The connection has room, the client has not sent more.
    Waiting,
}

#[derive(Debug)]
struct Shared(Mutex<State>);

#[derive(Debug)]
struct State {
    progress: Progress,
    fault: Option<BoxError>,
    failed: bool,
    given_up: bool,
    connection: Option<Waker>,
    exchange: Option<Waker>,
}

impl RequestBody {
    /// Wraps `body`; both sides count from `now`.
    pub(super) fn new(body: Body, now: Instant) -> (Self, Upload) {
        let shared = (!body.is_end_stream()).then(|| {
            Arc::new(Shared(Mutex::new(State {
                progress: Progress::Unread(now),
                fault: None,
                failed: false,
                given_up: false,
                connection: None,
                exchange: None,
            })))
        });
        let upload = Upload(shared.clone());
        (Self { body, shared }, upload)
    }
}

impl Upload {
    /// How far the body has come; a request without one was sent at `start`.
    pub(super) fn progress(&self, start: Instant) -> Progress {
        match &self.0 {
            Some(shared) => shared.lock().progress,
            None => Progress::Sent(start),
        }
    }

    /// Why the body failed, once. While it has not, wakes the task when it does, and when all of it is sent.
    pub(super) fn poll_fault(&self, cx: &Context<'_>) -> Option<BoxError> {
        let mut state = self.0.as_deref()?.lock();
        let fault = state.fault.take();
        if fault.is_none() {
            remember(&mut state.exchange, cx);
        }
        fault
    }

    /// Whether the connection can still be used for another request.
    pub(super) fn has_failed(&self) -> bool {
        self.0.as_deref().is_some_and(|shared| shared.lock().failed)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            let waker = {
                let mut state = shared.lock();
                state.given_up = true;
                state.connection.take()
            };
            wake(waker);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a poisoned state is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked_for_more(&self) {
        let mut state = self.lock();
        if !matches!(state.progress, Progress::Sent(_)) {
            state.progress = Progress::Waiting;
        }
    }

    fn handed_over(&self) {
        self.lock().progress = Progress::Unread(Instant::now());
    }

    fn ended(&self) {
        let waker = {
            let mut state = self.lock();
            if matches!(state.progress, Progress::Sent(_)) {
                return;
            }
            state.progress = Progress::Sent(Instant::now());
            state.exchange.take()
        };
        wake(waker);
    }

    fn fail(&self, error: BoxError) {
        let waker = {
            let mut state = self.lock();
            state.failed = true;
            state.fault = Some(error);
            state.exchange.take()
        };
        wake(waker);
    }

    fn has_failed(&self) -> bool {
        self.lock().failed
    }

    fn poll_given_up(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.given_up {
            return Poll::Ready(());
        }
        remember(&mut state.connection, cx);
        Poll::Pending
    }
}

fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => {}
        _ => *slot = Some(cx.waker().clone()),
    }
}

/// Outside of the lock: a waker may run foreign code.
fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let Some(shared) = &this.shared else {
            return Pin::new(&mut this.body).poll_frame(cx);
        };
        if !shared.has_failed() {
            shared.asked_for_more();
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    shared.handed_over();
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => shared.fail(error),
                Poll::Ready(None) => {
                    shared.ended();
                    return Poll::Ready(None);
                }
                Poll::Pending => {}
            }
        }
        match shared.poll_given_up(cx) {
            Poll::Ready(()) => Poll::Ready(Some(Err("the exchange has ended".into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for RequestBody {
    /// A connection that knows the length drops the body after the last byte without asking for its end.
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gw_testkit::body::ScriptedBody;
    use http_body_util::BodyExt as _;

    use super::*;

    fn no_waker() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test(start_paused = true)]
    async fn tells_who_is_slow() {
        let start = Instant::now();
        let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
        let (mut body, upload) = RequestBody::new(Body::new(body), start);
        assert_eq!(upload.progress(start), Progress::Unread(start));
        body.frame().await.unwrap().unwrap();
        assert_eq!(upload.progress(start), Progress::Unread(start));
        // The upstream has read what it was given and asks for more: now the client is waited for.
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        assert_eq!(upload.progress(start), Progress::Waiting);
        handle.resume();
        tokio::time::advance(Duration::from_secs(1)).await;
        body.frame().await.unwrap().unwrap();
        assert_eq!(upload.progress(start), Progress::Unread(Instant::now()));
        drop(body);
        assert_eq!(upload.progress(start), Progress::Sent(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_body_tells_the_exchange_and_holds_the_connection() {
        let (body, _handle) = ScriptedBody::script().error("the client left").build();
        let (mut body, upload) = RequestBody::new(Body::new(body), Instant::now());
        assert!(upload.poll_fault(&no_waker()).is_none());
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        assert!(upload.has_failed());
        let fault = upload.poll_fault(&no_waker()).unwrap();
        assert_eq!(fault.to_string(), "the client left");
        drop(upload);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the exchange has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_wakes_a_waiting_connection() {
        let (body, handle) = ScriptedBody::script().data("a").hold().build();
        let (mut body, upload) = RequestBody::new(Body::new(body), Instant::now());
        let connection = tokio::spawn(async move {
            while let Some(frame) = body.frame().await {
                frame?;
            }
            Ok::<_, BoxError>(())
        });
        handle.held().await;
        drop(upload);
        assert!(connection.await.unwrap().is_err());
    }

    #[test]
    fn an_ended_body_is_sent_at_once() {
        let start = Instant::now();
        let (body, upload) = RequestBody::new(Body::empty(), start);
        assert!(body.is_end_stream());
        assert_eq!(upload.progress(start), Progress::Sent(start));
        assert!(upload.poll_fault(&no_waker()).is_none());
    }
}
