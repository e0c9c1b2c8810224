//! The body of a request on its way to the upstream, and what the exchange knows of it.
//!
//! The connection's task polls the body, the exchange waits for the answer. A body that fails must not end the
//! connection behind the exchange's back: the answer may be there already, and then it wins. So a failed body tells the
//! exchange and stays pending; the connection ends when the exchange gives it up.

mod body;
mod shared;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::body::RequestBody;
use self::shared::Shared;
use super::error::{Error, ErrorKind};
use crate::inbound::Fault;
use crate::waker::{remember, wake};

/// An upstream that breaks off within this time has not grown tired of waiting for the client.
const PATIENCE: Duration = Duration::from_secs(1);

/// The exchange's side of a [`RequestBody`]. Dropping it ends a body that has not ended with an error.
#[derive(Debug)]
pub(super) struct Upload(Option<Arc<Shared>>);

/// The exchange's interest in a body that is on its way, for a task that sends it.
#[derive(Debug)]
pub(super) struct Interest(Arc<Shared>);

/// How far a request's body has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The connection has all of it, since then.
    Sent(Instant),
    /// The connection has not asked for more since then.
    Unread(Instant),
    /// The connection has asked for more since then, and the client has not sent it.
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

impl Upload {
    /// A connection gets the request `now`: it is not answerable for the time before.
    pub(super) fn begin(&self, now: Instant) {
        if let Some(shared) = &self.0 {
            let mut state = shared.lock();
            if matches!(state.progress, Progress::Unread(_)) {
                state.progress = Progress::Unread(now);
            }
        }
    }

    /// For how long the client has been waited for until `now`.
    pub(super) fn waited_for_client(&self, now: Instant) -> Duration {
        let shared = self.0.as_deref();
        shared.map_or(Duration::ZERO, |shared| shared.lock().waited_until(now))
    }

    /// How far the body has come; a request without one was sent at `start`.
    pub(super) fn progress(&self, start: Instant) -> Progress {
        match &self.0 {
            Some(shared) => shared.lock().progress,
            None => Progress::Sent(start),
        }
    }

    /// How far the body has come, as [`Upload::progress`] says; or why it failed, once. While it has not, wakes the task when
    /// it does, and when all of it is sent.
    pub(super) fn poll_progress(
        &self,
        cx: &Context<'_>,
        start: Instant,
    ) -> Result<Progress, Error> {
        let Some(shared) = &self.0 else {
            return Ok(Progress::Sent(start));
        };
        let (progress, replaced) = {
            let mut state = shared.lock();
            match state.fault.take() {
                Some(fault) => (Err(fault), None),
                None => (Ok(state.progress), remember(&mut state.exchange, cx)),
            }
        };
        drop(replaced);
        progress
    }

    /// The upstream has broken off at `now` without an answer. It has timers for uploads, too: where it was waiting for the client
    /// it is the client's doing, or whoever sends slowly could have its breaker opened.
    pub(super) fn broken_off(&self, error: Error, now: Instant) -> Error {
        let since = self
            .0
            .as_deref()
            .and_then(|shared| shared.lock().awaits_client_since());
        match since {
            Some(since) if now.saturating_duration_since(since) > PATIENCE => {
                Error::because(ErrorKind::UploadTimeout, error)
            }
            _ => error,
        }
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

impl Interest {
    /// Ready once there is none any more.
    pub(super) fn poll_lost(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.poll_given_up(cx)
    }

    /// Whether the connection has let go of the body.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.0.lock().progress, Progress::Sent(_))
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
