//! The state of an upload, which the body and the exchange share.

use std::error::Error as StdError;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gw_core::BoxError;
use gw_core::awaited::Awaited;
use tokio::time::Instant;

use super::{Ended, Progress};
use crate::inbound::{ClientFault, Fault};
use crate::upstream::error::{Error, ErrorKind};
use crate::waker::{remember, wake};

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Tells whether a failure is the client's.
    client: Option<ClientFault>,
    /// Is told whom the exchange waits for.
    awaited: Option<Awaited>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) progress: Progress,
    /// For how long the connection asked for pieces that have come by now.
    waited: Duration,
    pub(super) fault: Option<Error>,
    failed: bool,
    pub(super) given_up: bool,
    /// Since when the client was waited for when the connection let go of the body.
    left_waiting: Option<Instant>,
    pub(super) connection: Option<Waker>,
    pub(super) exchange: Option<Waker>,
}

impl State {
    /// It goes on to `progress`, `now`.
    fn advance(&mut self, progress: Progress, now: Instant) {
        self.waited = self.waited_until(now);
        self.progress = progress;
    }

    /// For how long the connection has asked for what had not come.
    pub(super) fn waited_until(&self, now: Instant) -> Duration {
        let current = match self.progress {
            Progress::Waiting(since) => now.saturating_duration_since(since),
            Progress::Sent(_) | Progress::Unread(_) => Duration::ZERO,
        };
        self.waited.saturating_add(current)
    }

    /// Since when the client is waited for, or was when the connection let go of the body.
    pub(super) const fn awaits_client_since(&self) -> Option<Instant> {
        match self.progress {
            Progress::Waiting(since) => Some(since),
            Progress::Sent(_) | Progress::Unread(_) => self.left_waiting,
        }
    }

    pub(super) const fn ended(&self) -> Option<Ended> {
        match self.progress {
            _ if self.failed => Some(Ended::Failed),
            Progress::Sent(_) => Some(Ended::Sent),
            Progress::Unread(_) | Progress::Waiting(_) => None,
        }
    }
}

impl Shared {
    pub(super) fn new(now: Instant, client: Option<ClientFault>, awaited: Option<Awaited>) -> Self {
        let state = Mutex::new(State {
            progress: Progress::Unread(now),
            waited: Duration::ZERO,
            fault: None,
            failed: false,
            given_up: false,
            left_waiting: None,
            connection: None,
            exchange: None,
        });
        Self {
            state,
            client,
            awaited,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics between the assignments of a change, so a poisoned state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handed_over(&self) {
        let now = Instant::now();
        let mut state = self.lock();
        state.advance(Progress::Unread(now), now);
        self.awaits_upstream(&state, now);
    }

    /// The connection has asked for more, and it is not there.
    fn awaits_client(&self, state: &mut State) {
        match state.progress {
            // Not since the last piece was handed over: how long that took to be read is the upstream's affair.
            Progress::Unread(_) => state.progress = Progress::Waiting(Instant::now()),
            Progress::Waiting(_) => {}
            Progress::Sent(_) => return,
        }
        if let Some(awaited) = &self.awaited {
            awaited.pauses();
        }
    }

    /// The connection has been given what it asked for. Not if the request will never be sent whole: how long the upstream takes
    /// then says nothing.
    fn awaits_upstream(&self, state: &State, now: Instant) {
        if let Some(awaited) = &self.awaited
            && !(state.failed || state.given_up)
        {
            awaited.starts(now);
        }
    }

    /// The connection has let go of the body. One that knows the length does so after the last byte, without asking for the end;
    /// one that waits for more has been lost.
    pub(super) fn dropped(&self) {
        {
            let mut state = self.lock();
            if let Progress::Waiting(since) = state.progress {
                state.left_waiting = Some(since);
            }
        }
        self.ended();
    }

    pub(super) fn ended(&self) {
        let waker = {
            let mut state = self.lock();
            if matches!(state.progress, Progress::Sent(_)) {
                return;
            }
            let now = Instant::now();
            state.advance(Progress::Sent(now), now);
            self.awaits_upstream(&state, now);
            state.exchange.take()
        };
        wake(waker);
    }

    pub(super) fn fail(&self, error: BoxError) {
        let kind = if self.client_fault().is_some() || is_from_the_client(&*error) {
            ErrorKind::Request
        } else {
            ErrorKind::RequestBody
        };
        let waker = {
            let mut state = self.lock();
            // Before the exchange learns of it: it was not the upstream that was waited for.
            self.awaits_client(&mut state);
            state.failed = true;
            state.fault = Some(Error::because(kind, error));
            state.exchange.take()
        };
        wake(waker);
    }

    pub(super) fn client_fault(&self) -> Option<Fault> {
        self.client.as_ref()?.get()
    }

    /// There is nothing to hand over: waits until the exchange gives the body up.
    pub(super) fn poll_idle(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_until_given_up(cx, |state| self.awaits_client(state))
    }

    /// Ready once the exchange has given the body up. The body waits for the same on the same task, so one waker does for both.
    pub(super) fn poll_given_up(&self, cx: &Context<'_>) -> Poll<()> {
        self.poll_until_given_up(cx, |_| {})
    }

    fn poll_until_given_up(
        &self,
        cx: &Context<'_>,
        otherwise: impl FnOnce(&mut State),
    ) -> Poll<()> {
        let replaced = {
            let mut state = self.lock();
            if state.given_up {
                return Poll::Ready(());
            }
            otherwise(&mut state);
            remember(&mut state.connection, cx)
        };
        drop(replaced);
        Poll::Pending
    }
}

/// Whether the server's own reader of requests found the fault: the client broke off, or broke the rules. A pipeline
/// without the stage that notes it is told so by the error only.
fn is_from_the_client(error: &(dyn StdError + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&error| error.source());
    causes.any(|cause| cause.is::<hyper::Error>() || is_of_our_server(cause))
}

#[cfg(feature = "server")]
fn is_of_our_server(error: &(dyn StdError + 'static)) -> bool {
    error.is::<crate::server::BrokeOff>()
}

#[cfg(not(feature = "server"))]
const fn is_of_our_server(_: &(dyn StdError + 'static)) -> bool {
    false
}
