//! The test's side of a scripted body.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::patience::within;
use crate::signal::Signal;

/// Lets a body go on, and sees what became of it. Clones are the same handle.
#[derive(Clone)]
pub struct BodyHandle {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changes: Signal,
}

#[derive(Clone, Debug, Default)]
struct State {
    polls: usize,
    polls_after_end: usize,
    frames: usize,
    bytes: u64,
    finished: bool,
    dropped: bool,
    resumes: usize,
    waker: Option<Waker>,
}

impl BodyHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Lets the body pass one hold; if it is not there yet, it will not stop at it.
    pub fn resume(&self) {
        let waker = self.shared.change(|state| {
            state.resumes += 1;
            state.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// How often the body was polled for a frame.
    pub fn polls(&self) -> usize {
        self.shared.state().polls
    }

    /// How often it was polled after it had ended or failed.
    pub fn polls_after_end(&self) -> usize {
        self.shared.state().polls_after_end
    }

    /// How many frames it has yielded.
    pub fn frames(&self) -> usize {
        self.shared.state().frames
    }

    /// How many bytes of data it has yielded.
    pub fn bytes(&self) -> u64 {
        self.shared.state().bytes
    }

    /// Whether it is pending at a hold, with a waker to call.
    pub fn is_held(&self) -> bool {
        self.shared.state().waker.is_some()
    }

    /// Whether it has yielded its end or an error.
    pub fn is_finished(&self) -> bool {
        self.shared.state().finished
    }

    /// Whether it was dropped.
    pub fn is_dropped(&self) -> bool {
        self.shared.state().dropped
    }

    /// Waits until the body is pending at a hold.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn held(&self) -> impl Future<Output = ()> + use<> {
        self.until("the body to be held", |state| state.waker.is_some())
    }

    /// Waits until the body has yielded its end or an error.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn finished(&self) -> impl Future<Output = ()> + use<> {
        self.until("the body to finish", |state| state.finished)
    }

    /// Waits until the body is dropped.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn dropped(&self) -> impl Future<Output = ()> + use<> {
        self.until("the body to be dropped", |state| state.dropped)
    }

    #[track_caller]
    fn until(&self, what: &str, so: fn(&State) -> bool) -> impl Future<Output = ()> + use<> {
        let shared = self.shared.clone();
        within(what, async move {
            shared
                .changes
                .until(|| so(&shared.state()).then_some(()))
                .await;
        })
    }
}

impl fmt::Debug for BodyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state().clone();
        f.debug_tuple("BodyHandle").field(&state).finish()
    }
}

impl Shared {
    pub(super) fn note_poll(&self) {
        self.change(|state| {
            state.polls += 1;
            state.polls_after_end += usize::from(state.finished);
        });
    }

    pub(super) fn note_frame(&self, bytes: usize) {
        self.change(|state| {
            state.frames += 1;
            state.bytes += bytes as u64;
        });
    }

    pub(super) fn note_finished(&self) {
        self.change(|state| state.finished = true);
    }

    pub(super) fn note_dropped(&self) {
        // A waker may own the last reference to a task, so it is never dropped under the lock.
        let _waker = self.change(|state| {
            state.dropped = true;
            state.waker.take()
        });
    }

    /// Takes one resume, or leaves the waker for it.
    pub(super) fn poll_resumed(&self, cx: &Context<'_>) -> Poll<()> {
        let (poll, _old_waker) = self.change(|state| match state.resumes.checked_sub(1) {
            Some(left) => {
                state.resumes = left;
                (Poll::Ready(()), state.waker.take())
            }
            None => (Poll::Pending, state.waker.replace(cx.waker().clone())),
        });
        poll
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changes.changed();
        result
    }
}
