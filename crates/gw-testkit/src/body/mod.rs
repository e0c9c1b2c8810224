//! Bodies that do what the test says, frame by frame.
//!
//! A [`ScriptedBody`] yields the frames it was built with, errs, stays pending until its [`BodyHandle`] lets it
//! go on, or panics. The handle also sees what became of the body: polled, finished, dropped.

mod handle;
mod script;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

pub use self::handle::BodyHandle;
pub use self::script::BodyScript;

use self::handle::Shared;
use self::script::Step;

/// A body with a script. See [`ScriptedBody::script`].
pub struct ScriptedBody {
    script: BodyScript,
    shared: Arc<Shared>,
}

/// The error of a [`ScriptedBody`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyError {
    message: String,
}

impl ScriptedBody {
    /// An empty script; add steps and then [build](BodyScript::build) the body.
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_testkit::body::ScriptedBody;
    /// use http_body_util::BodyExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let (body, handle) = ScriptedBody::script().data("a").hold().data("b").build();
    /// let reading = tokio::spawn(body.collect());
    /// handle.held().await;
    /// assert_eq!(handle.frames(), 1);
    /// handle.resume();
    /// assert_eq!(reading.await.unwrap().unwrap().to_bytes(), "ab");
    /// assert!(handle.is_finished() && handle.is_dropped());
    /// # }
    /// ```
    pub fn script() -> BodyScript {
        BodyScript::default()
    }

    pub(crate) fn new(script: BodyScript) -> (Self, BodyHandle) {
        let shared = Arc::new(Shared::default());
        let handle = BodyHandle::new(shared.clone());
        (Self { script, shared }, handle)
    }
}

impl Body for ScriptedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.shared.note_poll();
        // Two holds in a row ask for two resumes.
        while let Some(Step::Hold) = self.script.steps.front() {
            ready!(self.shared.poll_resumed(cx));
            self.script.steps.pop_front();
        }
        Poll::Ready(match self.script.steps.pop_front() {
            Some(Step::Frame(frame)) => {
                self.shared
                    .note_frame(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Some(Step::Error(message)) => {
                self.shared.note_finished();
                Some(Err(BodyError { message }))
            }
            Some(Step::Panic(message)) => panic!("{message}"),
            // A hold cannot be here: the loop above has taken them all.
            Some(Step::Hold) | None => {
                self.shared.note_finished();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.script
            .claimed_end
            .unwrap_or(self.script.steps.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let claimed = self.script.claimed_size;
        claimed.unwrap_or_else(|| SizeHint::with_exact(self.script.data_left()))
    }
}

impl Drop for ScriptedBody {
    fn drop(&mut self) {
        self.shared.note_dropped();
    }
}

impl fmt::Debug for ScriptedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScriptedBody")
            .field("script", &self.script)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for BodyError {}
