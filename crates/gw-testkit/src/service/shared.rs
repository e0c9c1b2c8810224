//! What all instances of a controlled service, their futures and the handle share.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use http::{Request, Response};

use super::call::Call;
use crate::signal::Signal;

/// One instance of a [`ControlledService`](super::ControlledService), as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Instance {
    /// The instance it was cloned from.
    pub cloned_from: Option<usize>,
    /// How often it was polled for readiness.
    pub ready_polls: usize,
    /// Whether it has been polled ready and not been called since.
    pub ready: bool,
    /// How often it was called.
    pub calls: usize,
    /// Whether it was dropped.
    pub dropped: bool,
}

/// A call on an instance that had not been polled ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// The instance called.
    pub instance: usize,
    /// How often it had been called before.
    pub earlier_calls: usize,
}

pub(super) type Answer<ResBody, E> = Result<Response<ResBody>, E>;

/// Answers calls without the test's help.
pub(super) type Automatic<ReqBody, ResBody, E> =
    Arc<dyn Fn(Request<ReqBody>) -> Answer<ResBody, E> + Send + Sync>;

pub(super) enum Readiness<E> {
    Ready,
    NotReady,
    Failing(Arc<dyn Fn() -> E + Send + Sync>),
}

pub(super) struct Shared<ReqBody, ResBody, E> {
    state: Mutex<State<ReqBody, ResBody, E>>,
    pub(super) changes: Signal,
}

pub(super) struct State<ReqBody, ResBody, E> {
    pub(super) readiness: Readiness<E>,
    pub(super) automatic: Option<Automatic<ReqBody, ResBody, E>>,
    pub(super) instances: Vec<Instance>,
    pub(super) violations: Vec<Violation>,
    pub(super) waiting_calls: VecDeque<Call<ReqBody, ResBody, E>>,
    pub(super) counts: Counts,
    /// The last waker of each instance that is pending.
    wakers: Vec<(usize, Waker)>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) calls: usize,
    pub(super) in_flight: usize,
    pub(super) peak_in_flight: usize,
    pub(super) abandoned: usize,
}

impl<ReqBody, ResBody, E> Shared<ReqBody, ResBody, E> {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                readiness: Readiness::Ready,
                automatic: None,
                instances: Vec::new(),
                violations: Vec::new(),
                waiting_calls: VecDeque::new(),
                counts: Counts::default(),
                wakers: Vec::new(),
            }),
            changes: Signal::default(),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State<ReqBody, ResBody, E>> {
        self.state
            .lock()
            .expect("no code panics while it holds the state")
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State<ReqBody, ResBody, E>) -> T) -> T {
        let result = change(&mut self.state());
        self.changes.changed();
        result
    }

    pub(super) fn add_instance(&self, cloned_from: Option<usize>) -> usize {
        self.change(|state| {
            state.instances.push(Instance {
                cloned_from,
                ready_polls: 0,
                ready: false,
                calls: 0,
                dropped: false,
            });
            state.instances.len() - 1
        })
    }

    pub(super) fn drop_instance(&self, number: usize) {
        // Wakers are dropped and woken outside of the lock: either may run code that comes back here.
        let _waker = self.change(|state| {
            let instance = &mut state.instances[number];
            instance.dropped = true;
            instance.ready = false;
            state.take_waker(number)
        });
    }

    pub(super) fn poll_ready(&self, number: usize, cx: &Context<'_>) -> Poll<Result<(), E>> {
        let (failing, _old_waker) = self.change(|state| {
            let instance = &mut state.instances[number];
            instance.ready_polls += 1;
            instance.ready = matches!(state.readiness, Readiness::Ready);
            let old = state.take_waker(number);
            match &state.readiness {
                Readiness::Ready => (Poll::Ready(None), old),
                Readiness::Failing(error) => (Poll::Ready(Some(error.clone())), old),
                Readiness::NotReady => {
                    state.wakers.push((number, cx.waker().clone()));
                    (Poll::Pending, old)
                }
            }
        });
        // The closure is the test's own, so it runs outside of the lock too.
        failing.map(|error| error.map_or(Ok(()), |error| Err(error())))
    }

    pub(super) fn set_readiness(&self, readiness: Readiness<E>) {
        let (wakers, _old) = self.change(|state| {
            let old = std::mem::replace(&mut state.readiness, readiness);
            (std::mem::take(&mut state.wakers), old)
        });
        for (_, waker) in wakers {
            waker.wake();
        }
    }

    /// Uses up the readiness of the instance and counts the call, or records why there must be none.
    pub(super) fn start_call(&self, number: usize) -> Result<(), Violation> {
        self.change(|state| {
            let instance = &mut state.instances[number];
            let earlier_calls = instance.calls;
            instance.calls += 1;
            state.counts.calls += 1;
            if std::mem::take(&mut instance.ready) {
                return Ok(());
            }
            let violation = Violation {
                instance: number,
                earlier_calls,
            };
            state.violations.push(violation);
            Err(violation)
        })
    }
}

impl<ReqBody, ResBody, E> State<ReqBody, ResBody, E> {
    fn take_waker(&mut self, number: usize) -> Option<Waker> {
        let place = self
            .wakers
            .iter()
            .position(|(instance, _)| *instance == number)?;
        Some(self.wakers.swap_remove(place).1)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            instance,
            earlier_calls,
        } = self;
        write!(
            f,
            "`call` on instance {instance} of a ControlledService, which was not polled ready \
             (calls before: {earlier_calls})"
        )
    }
}
