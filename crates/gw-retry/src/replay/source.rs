use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Frames were read that are not kept.
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

/// Where a body waits for the next attempt.
pub(crate) struct Slot<B>(Mutex<Option<Pin<Box<Source<B>>>>>);

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
    pub(crate) fn empty() -> Arc<Self> {
        Arc::new(Self(Mutex::new(None)))
    }

    pub(super) fn put(&self, source: Pin<Box<Source<B>>>) {
        *self.lock() = Some(source);
    }

    /// Whether the body is back and can be sent again; `whole` if it must have been read to its end as well.
    pub(crate) fn replayable(&self, whole: bool) -> Replayable {
        let slot = self.lock();
        let Some(source) = slot.as_ref() else {
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
        self.lock().take()
    }

    /// The lock is held for a move or a look at lengths, and the body is never polled under it.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Pin<Box<Source<B>>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
