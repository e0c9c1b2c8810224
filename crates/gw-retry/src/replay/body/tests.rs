use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use http::HeaderMap;
use proptest::prelude::*;

use super::super::pool::ReplayPool;
use super::super::source::Replayable;
use super::*;

/// Stands for a panic in place of the frame.
const PANIC: &str = "panic";

/// A body in frames; `None` stands for "not yet".
struct Frames {
    frames: VecDeque<Option<Bytes>>,
    trailers: Option<HeaderMap>,
    fails: bool,
    knows_size: bool,
}

impl Frames {
    fn of<const N: usize>(frames: [&'static str; N]) -> Self {
        Self {
            frames: frames.into_iter().map(|f| Some(Bytes::from(f))).collect(),
            trailers: None,
            fails: false,
            knows_size: false,
        }
    }

    fn with_trailers(mut self) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-end", "1".parse().unwrap());
        self.trailers = Some(trailers);
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        match self.frames.pop_front() {
            Some(None) => Poll::Pending,
            Some(Some(data)) if data == PANIC => panic!("at this frame"),
            Some(Some(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            None if self.fails => Poll::Ready(Some(Err("cut"))),
            None => Poll::Ready(self.trailers.take().map(|t| Ok(Frame::trailers(t)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.knows_size && self.frames.is_empty() && self.trailers.is_none() && !self.fails
    }

    fn size_hint(&self) -> SizeHint {
        if self.knows_size {
            let left = self.frames.iter().flatten().map(|f| f.len() as u64).sum();
            SizeHint::with_exact(left)
        } else {
            SizeHint::default()
        }
    }
}

type Tested = ReplayBody<Frames>;

struct Case {
    slot: Slot<Frames>,
    pool: ReplayPool,
}

fn tee(body: Frames, max: usize) -> (Tested, Case) {
    let pool = ReplayPool::new(1 << 20);
    let slot = Slot::empty();
    let source = Source::new(body, max, pool.clone());
    let body = ReplayBody::tee(source, &slot);
    (body, Case { slot, pool })
}

impl Case {
    fn again(&self) -> Tested {
        let source = self.slot.take().expect("the body is back");
        ReplayBody::tee(source, &self.slot)
    }
}

/// Everything that is still to come; trailers are `end`.
fn read(body: &mut Tested) -> (Vec<u8>, bool) {
    let (mut data, mut trailers) = (Vec::new(), false);
    while let Some(frame) = next(body) {
        match frame.unwrap().into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => trailers = frame.is_trailers(),
        }
    }
    (data, trailers)
}

/// The next frame; those that are not there yet are asked for again.
fn next(body: &mut Tested) -> Option<Result<Frame<Bytes>, &'static str>> {
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(&mut cx) {
            return frame;
        }
    }
}

fn data(body: &mut Tested) -> Bytes {
    next(body).unwrap().unwrap().into_data().unwrap()
}

#[test]
fn comes_again_with_its_trailers() {
    let (mut body, case) = tee(Frames::of(["da", "ta"]).with_trailers(), 1000);
    assert_eq!(read(&mut body), (b"data".to_vec(), true));
    for _ in 0..3 {
        assert_eq!(case.slot.replayable(true), Replayable::Yes);
        let mut again = case.again();
        assert!(!again.is_end_stream());
        assert_eq!(read(&mut again), (b"data".to_vec(), true));
        assert!(again.is_end_stream());
        assert_eq!(again.size_hint().exact(), Some(0));
    }
}

#[test]
fn is_shared_and_not_copied() {
    let (mut body, case) = tee(
        Frames::of(["a frame that is longer than any inline buffer"]),
        1000,
    );
    let first = data(&mut body);
    drop(body);
    assert_eq!(data(&mut case.again()).as_ptr(), first.as_ptr());
}

#[test]
fn goes_on_where_a_dropped_attempt_stopped() {
    let (mut body, case) = tee(Frames::of(["a", "b", "c"]), 1000);
    assert_eq!(data(&mut body), "a");
    assert_eq!(case.slot.replayable(false), Replayable::No, "still out");
    drop(body);
    assert_eq!(case.slot.replayable(false), Replayable::Yes);
    assert_eq!(case.slot.replayable(true), Replayable::No, "not whole");
    let mut second = case.again();
    assert_eq!(data(&mut second), "a");
    assert_eq!(data(&mut second), "b");
    drop(second);
    assert_eq!(read(&mut case.again()).0, b"abc");
}

#[test]
fn one_that_was_never_read_can_be_sent_again_whatever_its_size() {
    let (body, case) = tee(Frames::of(["much more than is kept"]), 0);
    drop(body);
    assert_eq!(case.slot.replayable(false), Replayable::Yes);
    let mut again = case.again();
    assert_eq!(read(&mut again).0, b"much more than is kept");
    assert_eq!(case.slot.replayable(false), Replayable::No);
}

#[test]
fn past_the_cap_it_streams_on_and_is_not_kept() {
    let (mut body, case) = tee(Frames::of(["x", "y", "z"]), 128);
    assert_eq!(data(&mut body), "x");
    assert_eq!(data(&mut body), "y");
    assert_eq!(case.pool.used(), 128);
    assert_eq!(data(&mut body), "z");
    assert_eq!(case.pool.used(), 0, "what was kept is given back");
    assert!(next(&mut body).is_none());
    drop(body);
    assert_eq!(case.slot.replayable(false), Replayable::No);
}

#[test]
fn a_full_pool_is_no_error() {
    let pool = ReplayPool::new(100);
    let slot = || {
        let slot = Slot::empty();
        let source = Source::new(Frames::of(["a", "b"]), 1000, pool.clone());
        (ReplayBody::tee(source, &slot), slot)
    };
    let ((mut first, kept), (mut second, lost)) = (slot(), slot());
    assert_eq!(data(&mut first), "a");
    assert_eq!(read(&mut second).0, b"ab");
    assert_eq!(lost.replayable(true), Replayable::No);
    drop(first);
    assert_eq!(kept.replayable(false), Replayable::Yes);
    drop(kept);
    assert_eq!(pool.used(), 0);
}

#[test]
fn nothing_is_kept_once_nobody_can_send_it_again() {
    let (mut body, case) = tee(Frames::of(["a", "b", "c"]), 1000);
    assert_eq!(data(&mut body), "a");
    assert_eq!(case.pool.used(), 64);
    let Case { slot, pool } = case;
    drop(slot);
    assert_eq!(data(&mut body), "b");
    assert_eq!(pool.used(), 0);
    assert_eq!(data(&mut body), "c");
    assert!(next(&mut body).is_none());
}

#[test]
fn nor_while_it_waits_for_more() {
    let mut frames = Frames::of(["a"]);
    frames.frames.extend([None, None, Some("b".into())]);
    let (mut body, Case { slot, pool }) = tee(frames, 1000);
    assert_eq!(data(&mut body), "a");
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    assert_eq!((woken.times(), pool.used()), (0, 64));
    drop(slot);
    assert_eq!(woken.times(), 1);
    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    assert_eq!((woken.times(), pool.used()), (1, 0));
    assert_eq!(data(&mut body), "b");
    assert_eq!(pool.used(), 0);
}

/// As on another thread: the layer has said so, and has not let go yet.
#[test]
fn nor_if_the_layer_is_done_just_when_it_begins_to_wait() {
    let mut frames = Frames::of(["a"]);
    frames.frames.extend([None, Some("b".into())]);
    let (mut body, Case { slot, pool }) = tee(frames, 1000);
    assert_eq!(data(&mut body), "a");
    let place = slot.place();
    drop(slot);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    assert_eq!(pool.used(), 0);
    drop(place);
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_body_that_failed_is_not_sent_again() {
    let mut frames = Frames::of(["a"]);
    frames.fails = true;
    let (mut body, case) = tee(frames, 1000);
    assert_eq!(data(&mut body), "a");
    assert!(next(&mut body).unwrap().is_err());
    assert_eq!(case.slot.replayable(false), Replayable::Broken);
    assert!(next(&mut body).is_none());
}

#[test]
fn a_body_that_panicked_is_not_sent_again() {
    // Story: the attempt ran in a task of its own, whose panic was told as a failure like any other. The next one sent what
    // was kept and then what the body went on with after the frame it had panicked at, and that had a clean end.
    let mut frames = Frames::of(["a", PANIC, "c"]);
    frames.knows_size = true;
    let (mut body, case) = tee(frames, 1000);
    assert_eq!(data(&mut body), "a");
    let attempt = std::thread::spawn(move || drop(next(&mut body)));
    assert!(attempt.join().is_err());
    for whole in [false, true] {
        assert_eq!(case.slot.replayable(whole), Replayable::No);
    }
    let Case { slot, pool } = case;
    drop(slot);
    assert_eq!(pool.used(), 0);
}

#[test]
fn says_how_much_is_to_come() {
    let mut frames = Frames::of(["abc", "de"]);
    frames.knows_size = true;
    let (mut body, case) = tee(frames, 1000);
    assert_eq!(body.size_hint().exact(), Some(5));
    assert_eq!(data(&mut body), "abc");
    assert_eq!(body.size_hint().exact(), Some(2));
    drop(body);
    let mut again = case.again();
    assert_eq!(again.size_hint().exact(), Some(5));
    assert_eq!(data(&mut again), "abc");
    assert_eq!(data(&mut again), "de");
    // Known at the last frame, not at the poll after it: who sends it need not poll again.
    assert!(again.is_end_stream());
    assert_eq!(case.slot.replayable(true), Replayable::Yes);
    // The same for one that comes out of what was kept alone.
    let mut third = case.again();
    assert_eq!(data(&mut third), "abc");
    assert_eq!(case.slot.replayable(true), Replayable::No);
    assert_eq!(data(&mut third), "de");
    assert!(third.is_end_stream());
    assert_eq!(case.slot.replayable(true), Replayable::Yes);
}

#[test]
fn once_and_nothing_are_what_they_are() {
    let mut frames = Frames::of(["abc"]).with_trailers();
    frames.knows_size = true;
    let mut once = Tested::once(frames);
    assert_eq!(once.size_hint().exact(), Some(3));
    assert_eq!(read(&mut once), (b"abc".to_vec(), true));
    let mut nothing = Tested::default();
    assert!(nothing.is_end_stream() && nothing.size_hint().exact() == Some(0));
    assert_eq!(read(&mut nothing), (Vec::new(), false));
}

fn chunks() -> impl Strategy<Value = Vec<Option<Vec<u8>>>> {
    let chunk = prop::option::weighted(0.8, prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(chunk, 0..20)
}

proptest! {
    /// However the body is cut into frames, and wherever attempts are given up: each attempt sees the body from its first
    /// byte on, and the last one all of it.
    #[test]
    fn byte_exact(
        chunks in chunks(),
        cuts in prop::collection::vec(0..25usize, 0..4),
        (trailers, knows_size) in any::<(bool, bool)>(),
        max in prop_oneof![Just(1 << 20), 0..3000usize],
    ) {
        let whole: Vec<u8> = chunks.iter().flatten().flatten().copied().collect();
        let mut frames = if trailers { Frames::of([]).with_trailers() } else { Frames::of([]) };
        frames.frames = chunks.iter().map(|c| c.clone().map(Bytes::from)).collect();
        frames.knows_size = knows_size;
        let (mut body, case) = tee(frames, max);
        let mut cx = Context::from_waker(Waker::noop());
        for polls in cuts {
            // Each attempt is framed as the first one was.
            prop_assert_eq!(body.size_hint().exact().is_some(), knows_size);
            let mut seen = Vec::new();
            for _ in 0..polls {
                match Pin::new(&mut body).poll_frame(&mut cx) {
                    Poll::Ready(Some(frame)) => if let Ok(data) = frame.unwrap().into_data() {
                        seen.extend_from_slice(&data);
                    },
                    Poll::Ready(None) => break,
                    Poll::Pending => {}
                }
                let hint = body.size_hint();
                prop_assert!(hint.upper().is_none_or(|upper| upper >= hint.lower()));
                if knows_size {
                    prop_assert_eq!(hint.exact(), Some((whole.len() - seen.len()) as u64));
                }
            }
            prop_assert!(whole.starts_with(&seen));
            drop(body);
            if case.slot.replayable(false) == Replayable::No {
                prop_assert!(max < 20 * 300);
                prop_assert_eq!(case.pool.used(), 0);
                return Ok(());
            }
            prop_assert!(case.pool.used() <= max as u64);
            body = case.again();
        }
        let (data, ended) = read(&mut body);
        prop_assert_eq!(data, whole);
        prop_assert_eq!(ended, trailers);
        drop((body, case.slot));
        prop_assert_eq!(case.pool.used(), 0);
    }
}

static_assertions::assert_impl_all!(ReplayBody<http_body_util::Full<Bytes>>: Send, Sync, Unpin);

/// A buffer of a connection, of which a frame is a part.
struct Buffer {
    _held: Arc<()>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &[0; 8192]
    }
}

#[test]
fn frames_that_trickle_in_do_not_keep_their_buffers() {
    // Story: hyper reads each frame into a buffer of 8 KiB as long as those before are kept. A client that sends a byte at
    // a time made the pool of 64 MiB hold 8 GiB.
    let buffers = Arc::new(());
    let frame = || {
        let _held = Arc::clone(&buffers);
        Some(Bytes::from_owner(Buffer { _held }).slice(..1))
    };
    let mut frames = Frames::of([]);
    frames.frames = std::iter::repeat_with(frame).take(1000).collect();
    let (mut body, case) = tee(frames, 1 << 20);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..1000 {
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_ready());
    }
    assert_eq!(case.pool.used(), 64_000);
    let held = Arc::strong_count(&buffers) - 1;
    assert!(held <= 4, "{held} buffers are held");
}
