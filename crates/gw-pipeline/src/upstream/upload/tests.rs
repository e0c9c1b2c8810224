use std::error::Error as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use gw_core::awaited::Awaited;
use gw_core::{Body, BoxError};
use gw_testkit::body::ScriptedBody;
use http_body::Body as _;
use http_body_util::BodyExt as _;

use super::*;
use crate::upstream::error::ErrorKind;

const SECOND: Duration = Duration::from_secs(1);

fn wrap(body: ScriptedBody, now: Instant) -> (RequestBody, Upload) {
    RequestBody::new(Body::new(body), now, None, None, None)
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
    // The upstream has read what it was given and asks for more: now the client is waited for, and was not before.
    tokio::time::advance(2 * SECOND).await;
    assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
    let asked = Instant::now();
    tokio::time::advance(SECOND).await;
    assert_eq!(upload.progress(start), Progress::Waiting(asked));
    assert_eq!(upload.waited_for_client(Instant::now()), SECOND);
    handle.resume();
    body.frame().await.unwrap().unwrap();
    assert_eq!(upload.progress(start), Progress::Unread(Instant::now()));
    tokio::time::advance(SECOND).await;
    drop(body);
    assert_eq!(upload.progress(start), Progress::Sent(Instant::now()));
    tokio::time::advance(SECOND).await;
    assert_eq!(upload.waited_for_client(Instant::now()), SECOND);
}

#[tokio::test(start_paused = true)]
async fn the_upstream_is_not_answerable_for_the_time_before_it_has_the_request() {
    let start = Instant::now();
    let (body, _handle) = ScriptedBody::script().data("a").hold().build();
    let (mut body, upload) = wrap(body, start);
    tokio::time::advance(SECOND).await;
    let begun = Instant::now();
    upload.begin(begun);
    assert_eq!(upload.progress(start), Progress::Unread(begun));
    body.frame().await.unwrap().unwrap();
    assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
    // What goes on already has begun.
    upload.begin(begun + SECOND);
    assert_eq!(upload.progress(start), Progress::Waiting(begun));
}

#[tokio::test(start_paused = true)]
async fn a_failed_body_tells_the_exchange_and_holds_the_connection() {
    let (body, _handle) = ScriptedBody::script().error("the client left").build();
    let (mut body, upload) = wrap(body, Instant::now());
    let start = Instant::now();
    let progress = upload.poll_progress(&no_waker(), start);
    assert_eq!(progress.unwrap(), Progress::Unread(start));
    assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
    assert_eq!(upload.ended(), Some(Ended::Failed));
    let fault = upload.poll_progress(&no_waker(), start).unwrap_err();
    assert_eq!(fault.kind(), ErrorKind::RequestBody);
    assert_eq!(fault.source().unwrap().to_string(), "the client left");
    drop(upload);
    // Over HTTP/2 the stream is reset for what the error says, and by default for a fault of the gateway's.
    let error = body.frame().await.unwrap().unwrap_err();
    let error = error.downcast_ref::<h2::Error>().unwrap();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

/// The stage that notes it need not be there.
#[cfg(feature = "server")]
#[tokio::test(start_paused = true)]
async fn an_upload_that_its_client_breaks_off_is_the_clients_fault() {
    let shared = Shared::new(Instant::now(), None, None);
    shared.fail(crate::server::BrokeOff.into());
    let fault = shared.lock().fault.take().unwrap();
    assert_eq!(fault.kind(), ErrorKind::Request);
}

/// A waker that looks, when it is woken, whether the client is waited for.
struct Told {
    shared: Arc<Shared>,
    client: AtomicBool,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        let client = matches!(self.shared.lock().progress, Progress::Waiting(_));
        self.client.store(client, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn who_learns_of_a_failed_body_knows_that_it_was_waited_for() {
    let (body, _handle) = ScriptedBody::script().error("the client left").build();
    let (mut body, upload) = wrap(body, Instant::now());
    let told = Arc::new(Told {
        shared: Arc::clone(body.shared.as_ref().unwrap()),
        client: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&told));
    let progress = upload.poll_progress(&Context::from_waker(&waker), Instant::now());
    assert!(progress.is_ok());
    assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
    assert!(told.client.load(Ordering::SeqCst));
}

/// Story: it did when the connection dropped the body, and a breaker that settled its probe after that opened again.
#[tokio::test(start_paused = true)]
async fn a_body_that_was_never_sent_whole_does_not_say_that_the_upstream_is_waited_for() {
    let failing = || ScriptedBody::script().data("a").error("the client left");
    let held = || ScriptedBody::script().data("a").hold();
    for script in [failing(), held()] {
        let now = Instant::now();
        let awaited = Awaited::new(now);
        let (body, handle) = script.build();
        let (mut body, upload) =
            RequestBody::new(Body::new(body), now, None, None, Some(awaited.clone()));
        body.frame().await.unwrap().unwrap();
        assert_eq!(awaited.since(), Some(now));
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
        assert_eq!(awaited.since(), None);
        drop(upload);
        // What comes now comes too late.
        handle.resume();
        assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_ready());
        drop(body);
        assert_eq!(awaited.since(), None);
    }
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
    let (body, upload) = RequestBody::new(Body::empty(), start, None, None, None);
    assert!(body.is_end_stream());
    assert_eq!(upload.progress(start), Progress::Sent(start));
    let progress = upload.poll_progress(&no_waker(), start);
    assert_eq!(progress.unwrap(), Progress::Sent(start));
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
    let progress = upload.poll_progress(&Context::from_waker(&first), Instant::now());
    assert!(progress.is_ok());
    drop(first);
    assert!(upload.poll_ended(&no_waker()).is_pending());
    let polled = Pin::new(&mut body).poll_frame(&mut Context::from_waker(&second));
    assert!(polled.is_pending());
    drop(second);
    assert!(Pin::new(&mut body).poll_frame(&mut no_waker()).is_pending());
    assert!(!locked.load(Ordering::SeqCst));
}
