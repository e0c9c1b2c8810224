use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use pin_project_lite::pin_project;

use super::pool::ReplayPool;

pin_project! {
    /// A request's body, and what has been read of it.
    ///
    /// One attempt has it at a time; when that attempt has ended or given up, it goes back to the [`Slot`], and the next one
    /// reads what was kept and then goes on where the first stopped.
    pub(crate) struct Source<B> {
        #[pin]
        pub(super) body: B,
        pub(super) kept: Kept,
        pub(super) end: End,
        // Whether its length was known before it was read.
        pub(super) sized: bool,
    }
}

/// How far the body has been read.
#[derive(Debug, Default)]
pub(super) enum End {
    /// There is more.
    #[default]
    Open,
    /// It has ended, perhaps with trailers.
    Ended(Option<HeaderMap>),
    /// It has failed: the request cannot be sent again, and that is not the upstream's doing.
    Failed,
}

/// What is kept of the frames that were read.
pub(super) struct Kept {
    /// Shared with those who read them: the bytes themselves are not copied, but for many small ones.
    pub(super) frames: Vec<Bytes>,
    /// What they count in the pool.
    reserved: u64,
    max: u64,
    pool: ReplayPool,
    /// Frames were read that are not kept, or may have been: a poll has not returned.
    pub(super) lost: bool,
}

/// What a frame counts at least, so that a body in tiny frames cannot cost many times its bytes.
const FRAME_MIN: u64 = 64;

/// A frame smaller than this is copied,
const COPIED_BELOW: usize = 4096;

/// once there are so many before it. A server reads what trickles in into a new buffer for each frame as long as the one
/// before is kept, and a byte would hold on to all of its own, which are 8 KiB with hyper.
const SHARED: usize = 4;

impl Kept {
    /// Keeps a frame, or gives up on all of them if that would be too much.
    pub(super) fn push(&mut self, frame: &Bytes) {
        if self.lost || frame.is_empty() {
            return;
        }
        let size = (frame.len() as u64).max(FRAME_MIN);
        if self.reserved.saturating_add(size) <= self.max && self.pool.reserve(size) {
            self.reserved += size;
            self.frames.push(
                match self.frames.len() >= SHARED && frame.len() < COPIED_BELOW {
                    true => Bytes::copy_from_slice(frame),
                    false => frame.clone(),
                },
            );
        } else {
            self.lose();
        }
    }

    pub(super) fn lose(&mut self) {
        self.lost = true;
        self.frames = Vec::new();
        self.pool.release(mem::take(&mut self.reserved));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.pool.release(self.reserved);
    }
}

impl<B: Body> Source<B> {
    pub(crate) fn new(body: B, max: usize, pool: ReplayPool) -> Pin<Box<Self>> {
        Box::pin(Self {
            sized: body.size_hint().exact().is_some(),
            body,
            kept: Kept {
                frames: Vec::new(),
                reserved: 0,
                max: max as u64,
                pool,
                lost: false,
            },
            end: End::Open,
        })
    }
}

/// Where a body comes back to and waits for the next attempt, for as long as there may be one: until this is dropped.
pub(crate) struct Slot<B>(Arc<Place<B>>);

/// Where an attempt gives its body back.
pub(super) struct Place<B>(Mutex<State<B>>);

enum State<B> {
    /// An attempt has the body; with who waits for more of it.
    Out(Option<Waker>),
    /// It waits for the next attempt.
    Back(Pin<Box<Source<B>>>),
    /// There will be no other attempt.
    Over,
}

/// What can be done with the body of an attempt that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replayable {
    /// It can be sent again.
    Yes,
    /// The attempt still has it, or it was too much to be kept.
    No,
    /// It has failed by itself.
    Broken,
}

impl<B: Body> Slot<B> {
    pub(crate) fn empty() -> Self {
        Self(Arc::new(Place(Mutex::new(State::Out(None)))))
    }

    /// For an attempt.
    pub(super) fn place(&self) -> Arc<Place<B>> {
        Arc::clone(&self.0)
    }

    /// Whether the body is back and can be sent again; `whole` if it must have been read to its end as well.
    pub(crate) fn replayable(&self, whole: bool) -> Replayable {
        let state = self.0.lock();
        let State::Back(source) = &*state else {
            return Replayable::No;
        };
        let ended = match source.end {
            End::Failed => return Replayable::Broken,
            End::Ended(_) => true,
            // Who knows the length need not ask for the end.
            End::Open => source.body.size_hint().exact() == Some(0),
        };
        if source.kept.lost || whole && !ended {
            Replayable::No
        } else {
            Replayable::Yes
        }
    }

    /// Takes the body out for another attempt.
    pub(crate) fn take(&self) -> Option<Pin<Box<Source<B>>>> {
        match self.0.turn_into(State::Out(None)) {
            State::Back(source) => Some(source),
            State::Out(_) | State::Over => None,
        }
    }
}

impl<B> Place<B> {
    pub(super) fn put(&self, source: Pin<Box<Source<B>>>) {
        self.turn_into(State::Back(source));
    }

    /// Whether there will be no other attempt. Else the one that has the body waits for more of it, and is woken when that is known.
    pub(super) fn is_over(&self, waker: &Waker) -> bool {
        // Cloned before the lock is taken, and the one that it replaces dropped after it is free: both are foreign code, and a task
        // that goes with its last waker may come back for the lock, as what sends the request does when it is dropped.
        let mut waker = Some(waker.clone());
        let mut state = self.lock();
        if let State::Out(known) = &mut *state {
            mem::swap(known, &mut waker);
        }
        let over = matches!(*state, State::Over);
        drop(state);
        over
    }

    fn turn_into(&self, state: State<B>) -> State<B> {
        mem::replace(&mut *self.lock(), state)
    }

    /// The lock is held for a move or a look at lengths. Under it the body is neither polled nor dropped, and no waker is woken, cloned
    /// or dropped.
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Drop for Slot<B> {
    fn drop(&mut self) {
        // Nobody has the body if nobody has its place: nearly all are read to their end before there is an answer.
        if Arc::strong_count(&self.0) > 1
            && let State::Out(Some(waker)) = self.0.turn_into(State::Over)
        {
            waker.wake();
        }
    }
}

impl<B> fmt::Debug for Source<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("frames", &self.kept.frames.len())
            .field("lost", &self.kept.lost)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for Slot<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gw_testkit::nosy_waker;
    use http_body_util::Empty;

    use super::*;

    /// What is counted instead of a look that met the lock: more than there ever are looks.
    const LOCKED: usize = 1_000_000;

    #[test]
    fn no_waker_is_woken_or_dropped_under_the_lock() {
        // Story: the body of an attempt that was polled by another task left its old waker to be dropped under the lock. Where this
        // was the last one of the task that waits for the answer, the task's end waited for that lock, for ever.
        let slot = Slot::empty();
        let place: Arc<Place<Empty<Bytes>>> = slot.place();
        let asked = Arc::new(AtomicUsize::new(0));
        let is_over = || {
            let (looked_at, asked_by) = (Arc::clone(&place), Arc::clone(&asked));
            let waker = nosy_waker(move || {
                let free = looked_at.0.try_lock().is_ok();
                asked_by.fetch_add(if free { 1 } else { LOCKED }, Ordering::SeqCst);
            });
            let over = place.is_over(&waker);
            // From here on the place alone keeps it.
            drop(waker);
            (over, asked.swap(0, Ordering::SeqCst))
        };
        assert_eq!(is_over(), (false, 0), "kept");
        assert_eq!(is_over(), (false, 1), "dropped when replaced");
        drop(slot);
        assert_eq!(asked.swap(0, Ordering::SeqCst), 2, "woken and dropped");
        assert_eq!(is_over(), (true, 1), "not kept");
    }
}
