//! Wakers that are kept under a lock.
//!
//! Waking one and dropping one may run foreign code: the task that it belongs to may go with it, and with the task what
//! takes the same lock. Both are done outside of the lock.

use std::task::{Context, Waker};

/// Keeps the waker of `cx` in `slot`. Returns the one that it replaces, to be dropped outside of the lock.
#[must_use]
pub(crate) fn remember(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => slot.replace(cx.waker().clone()),
    }
}

/// To be called outside of the lock.
pub(crate) fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
