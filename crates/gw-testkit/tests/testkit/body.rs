//! The scripted body, polled by hand.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;
use gw_testkit::body::{BodyError, ScriptedBody};
use http_body::{Body, Frame, SizeHint};

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

fn poll(body: Pin<&mut ScriptedBody>) -> Polled {
    body.poll_frame(&mut Context::from_waker(Waker::noop()))
}

fn data(polled: Polled) -> Bytes {
    match polled {
        Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap(),
        other => panic!("no data frame: {other:?}"),
    }
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn frames_come_in_order_and_the_hints_are_honest() {
    let (body, handle) = ScriptedBody::script()
        .data("ab")
        .data("cde")
        .trailers([("x-sum", "7")])
        .build();
    let mut body = pin!(body);
    assert_eq!((handle.polls(), body.size_hint().exact()), (0, Some(5)));
    assert_eq!(data(poll(body.as_mut())), "ab");
    assert_eq!(body.size_hint().exact(), Some(3));
    assert_eq!(data(poll(body.as_mut())), "cde");
    assert!(!body.is_end_stream());
    match poll(body.as_mut()) {
        Poll::Ready(Some(Ok(frame))) => assert_eq!(frame.trailers_ref().unwrap()["x-sum"], "7"),
        other => panic!("no trailers: {other:?}"),
    }
    assert!(body.is_end_stream() && !handle.is_finished());
    assert!(matches!(poll(body.as_mut()), Poll::Ready(None)));
    assert!(handle.is_finished());
    assert_eq!((handle.polls(), handle.frames(), handle.bytes()), (4, 3, 5));
    assert_eq!(handle.polls_after_end(), 0);
    assert!(matches!(poll(body.as_mut()), Poll::Ready(None)));
    assert_eq!(handle.polls_after_end(), 1);
}

#[test]
fn an_error_comes_at_its_place_and_finishes_the_body() {
    let (body, handle) = ScriptedBody::script().data("ab").error("broken").build();
    let mut body = pin!(body);
    assert_eq!(data(poll(body.as_mut())), "ab");
    match poll(body.as_mut()) {
        Poll::Ready(Some(Err(error))) => assert_eq!(error.to_string(), "broken"),
        other => panic!("no error: {other:?}"),
    }
    assert!(handle.is_finished());
    assert!(matches!(poll(body.as_mut()), Poll::Ready(None)));
}

#[test]
fn a_hold_is_pending_until_resumed_and_wakes_the_last_waker_once() {
    let (body, handle) = ScriptedBody::script().hold().data("a").build();
    let mut body = pin!(body);
    let (old, new) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    for wakes in [&old, &new] {
        let waker = Waker::from(wakes.clone());
        assert!(
            body.as_mut()
                .poll_frame(&mut Context::from_waker(&waker))
                .is_pending()
        );
    }
    assert!(handle.is_held());
    handle.resume();
    assert_eq!(
        (old.0.load(Ordering::SeqCst), new.0.load(Ordering::SeqCst)),
        (0, 1)
    );
    assert!(!handle.is_held());
    assert_eq!(data(poll(body.as_mut())), "a");
}

#[test]
fn each_hold_takes_one_resume_and_a_resume_may_come_first() {
    let (body, handle) = ScriptedBody::script().hold().hold().data("a").build();
    let mut body = pin!(body);
    handle.resume();
    assert!(poll(body.as_mut()).is_pending());
    handle.resume();
    assert_eq!(data(poll(body.as_mut())), "a");
}

#[test]
fn a_panic_comes_at_its_place() {
    let (mut body, handle) = ScriptedBody::script().data("a").panic("told to").build();
    assert_eq!(data(poll(Pin::new(&mut body))), "a");
    let panicked = catch_unwind(AssertUnwindSafe(|| poll(Pin::new(&mut body)))).unwrap_err();
    assert_eq!(panicked.downcast_ref::<String>().unwrap(), "told to");
    drop(body);
    assert!(handle.is_dropped());
    assert_eq!(handle.polls(), 2);
}

#[test]
fn claims_replace_the_hints() {
    let mut claim = SizeHint::new();
    claim.set_upper(100);
    let (body, _handle) = ScriptedBody::script()
        .data("a")
        .claim_size(claim)
        .claim_end(true)
        .build();
    assert_eq!(
        (body.size_hint().lower(), body.size_hint().upper()),
        (0, Some(100))
    );
    assert!(body.is_end_stream());
}

#[test]
fn a_body_that_is_only_dropped_says_so() {
    let (body, handle) = ScriptedBody::script().data("a").build();
    assert!(!handle.is_dropped());
    drop(body);
    assert!(handle.is_dropped() && !handle.is_finished());
    assert_eq!(handle.polls(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_test_waits_for_hold_end_and_drop() {
    use http_body_util::BodyExt;

    let (body, handle) = ScriptedBody::script().hold().data("a").build();
    let reading = tokio::spawn(body.collect());
    handle.held().await;
    handle.resume();
    handle.finished().await;
    handle.dropped().await;
    assert_eq!(
        gw_testkit::within("the body", reading)
            .await
            .unwrap()
            .unwrap()
            .to_bytes(),
        "a"
    );
}

#[tokio::test(start_paused = true)]
#[should_panic(
    expected = "in vain for the body to be dropped, asked for at crates/gw-testkit/tests"
)]
async fn waiting_in_vain_names_the_place() {
    let (_body, handle) = ScriptedBody::script().build();
    handle.dropped().await;
}
