//! The body of a request on its way to the upstream, and what the exchange knows of it.
//!
//! The connection's task polls the body, the exchange waits for the answer. A body that fails must not end the
//! connection behind the exchange's back: the answer may be there already, and then it wins. So a failed body tells the
//! exchange and stays pending; the connection ends when the exchange gives it up.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gw_core::{Body, BoxError};
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::Instant;

use super::error::{Error, ErrorKind};
use super::stated::Stated;
use crate::inbound::{ClientFault, Fault};
use crate::waker::{remember, wake};

/// The body of a request as the connection sees it.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Body,
    // None if the body had ended before it was sent: there is nothing to tell.
    shared: Option<Arc<Shared>>,
    // Boxed: hardly any body needs it.
    stated: Option<Box<Stated>>,
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
    /// The connection has room, and the client has not sent more since it sent what was handed over then.
    Waiting(Instant),
}

/// How the upload of a body has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The connection has all of it.
    Sent,
    /// It failed, and the connection can serve no other request.
    Failed,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Tells whether a failure is the client's.
    client: Option<ClientFault>,
}

#[derive(Debug)]
struct State {
    progress: Progress,
    fault: Option<Error>,
    failed: bool,
    given_up: bool,
    connection: Option<Waker>,
    exchange: Option<Waker>,
}

impl RequestBody {
    /// Wraps `body`; both sides count from `now`.
    ///
    /// `stated` is the length that the request's fields state where the body does not tell its own; `client` is asked
    /// whose fault a failure is.
    pub(super) fn new(
        body: Body,
        now: Instant,
        stated: Option<u64>,
        client: Option<ClientFault>,
    ) -> (Self, Upload) {
        let shared = (!body.is_end_stream()).then(|| {
            let state = Mutex::new(State {
                progress: Progress::Unread(now),
                fault: None,
                failed: false,
                given_up: false,
                connection: None,
                exchange: None,
            });
            Arc::new(Shared { state, client })
        });
        let upload = Upload(shared.clone());
        let stated = stated.map(|length| Box::new(Stated::new(length)));
        let body = Self {
            body,
            shared,
            stated,
        };
        (body, upload)
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
    pub(super) fn poll_fault(&self, cx: &Context<'_>) -> Option<Error> {
        let (fault, replaced) = {
            let mut state = self.0.as_deref()?.lock();
            match state.fault.take() {
                Some(fault) => (Some(fault), None),
                None => (None, remember(&mut state.exchange, cx)),
            }
        };
        drop(replaced);
        fault
    }

    /// What was noted of the client's fault in a body that has failed.
    pub(super) fn client_fault(&self) -> Option<Fault> {
        self.0.as_deref()?.client_fault()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&self) -> Option<Ended> {
        match &self.0 {
            Some(shared) => shared.lock().ended(),
            None => Some(Ended::Sent),
        }
    }

    /// Waits until it has ended.
    pub(super) fn poll_ended(&self, cx: &Context<'_>) -> Poll<Ended> {
        let Some(shared) = &self.0 else {
            return Poll::Ready(Ended::Sent);
        };
        let (ended, replaced) = {
            let mut state = shared.lock();
            match state.ended() {
                Some(ended) => (Poll::Ready(ended), None),
                None => (Poll::Pending, remember(&mut state.exchange, cx)),
            }
        };
        drop(replaced);
        ended
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

impl State {
    const fn ended(&self) -> Option<Ended> {
        match self.progress {
            _ if self.failed => Some(Ended::Failed),
            Progress::Sent(_) => Some(Ended::Sent),
            Progress::Unread(_) | Progress::Waiting(_) => None,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked_for_more(&self) {
        let mut state = self.lock();
        if let Progress::Unread(since) = state.progress {
            state.progress = Progress::Waiting(since);
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
        let kind = if self.client_fault().is_some() || is_from_the_client(&*error) {
            ErrorKind::Request
        } else {
            ErrorKind::RequestBody
        };
        let waker = {
            let mut state = self.lock();
            state.failed = true;
            state.fault = Some(Error::because(kind, error));
            state.exchange.take()
        };
        wake(waker);
    }

    fn client_fault(&self) -> Option<Fault> {
        self.client.as_ref()?.get()
    }

    fn has_failed(&self) -> bool {
        self.lock().failed
    }

    fn poll_given_up(&self, cx: &Context<'_>) -> Poll<()> {
        let replaced = {
            let mut state = self.lock();
            if state.given_up {
                return Poll::Ready(());
            }
            remember(&mut state.connection, cx)
        };
        drop(replaced);
        Poll::Pending
    }
}

/// Whether the server's own reader of requests found the fault: the client broke off, or broke the rules. A pipeline
/// without the stage that notes it is told so by the error only.
fn is_from_the_client(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<hyper::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
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
            let body = Pin::new(&mut this.body);
            let polled = match &mut this.stated {
                None => body.poll_frame(cx),
                Some(stated) => stated.poll_frame(body, cx),
            };
            match polled {
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
        match &self.stated {
            None => self.body.is_end_stream(),
            Some(stated) => stated.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.stated {
            None => self.body.size_hint(),
            // The field says it.
            Some(_) => SizeHint::default(),
        }
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
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    use gw_testkit::body::ScriptedBody;
    use http_body_util::BodyExt as _;

    use super::*;

    fn wrap(body: ScriptedBody, now: Instant) -> (RequestBody, Upload) {
        RequestBody::new(Body::new(body), now, None, None)
    }

    fn no_waker() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[tokio::test(start_paused = true)]
    async fn tells_who_is_slow() {
        let start = Instant::now();
        let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
        let (mut body, upload) = wrap(body, start);
        assert_eq!(upload.progress(start), Progress::Unread(start));
        body.frame().await.unwrap().unwrap();
        assert_eq!(upload.progress(start), Progress::Unread(start));
        // The upstream has read what it was given and asks for more: now the client is waited for.
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(upload.progress(start), Progress::Waiting(start));
        handle.resume();
        body.frame().await.unwrap().unwrap();
        assert_eq!(upload.progress(start), Progress::Unread(Instant::now()));
        drop(body);
        assert_eq!(upload.progress(start), Progress::Sent(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_body_tells_the_exchange_and_holds_the_connection() {
        let (body, _handle) = ScriptedBody::script().error("the client left").build();
        let (mut body, upload) = wrap(body, Instant::now());
        assert!(upload.poll_fault(&no_waker()).is_none());
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        assert_eq!(upload.ended(), Some(Ended::Failed));
        let fault = upload.poll_fault(&no_waker()).unwrap();
        assert_eq!(fault.kind(), ErrorKind::RequestBody);
        assert_eq!(fault.source().unwrap().to_string(), "the client left");
        drop(upload);
        let error = body.frame().await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "the exchange has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn giving_up_wakes_a_waiting_connection() {
        let (body, handle) = ScriptedBody::script().data("a").hold().build();
        let (mut body, upload) = wrap(body, Instant::now());
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
        let (body, upload) = RequestBody::new(Body::empty(), start, None, None);
        assert!(body.is_end_stream());
        assert_eq!(upload.progress(start), Progress::Sent(start));
        assert!(upload.poll_fault(&no_waker()).is_none());
    }

    /// A waker that looks, when it goes, whether the state is locked.
    struct Looking {
        shared: Arc<Shared>,
        locked: Arc<AtomicBool>,
    }

    impl Wake for Looking {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for Looking {
        fn drop(&mut self) {
            let locked = self.shared.state.try_lock().is_err();
            self.locked.fetch_or(locked, Ordering::SeqCst);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_waker_is_dropped_under_the_lock() {
        // Story: dropping a waker may drop its task, and with it an exchange that takes the same lock.
        let (body, _handle) = ScriptedBody::script().hold().build();
        let (mut body, upload) = wrap(body, Instant::now());
        let locked = Arc::new(AtomicBool::new(false));
        let waker = || {
            Waker::from(Arc::new(Looking {
                shared: Arc::clone(body.shared.as_ref().unwrap()),
                locked: Arc::clone(&locked),
            }))
        };
        let (first, second) = (waker(), waker());
        assert!(upload.poll_fault(&Context::from_waker(&first)).is_none());
        drop(first);
        assert!(upload.poll_ended(&no_waker()).is_pending());
        let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(&second));
        assert!(polled.is_pending());
        drop(second);
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        assert!(!locked.load(Ordering::SeqCst));
    }
}
