//! The future of a call.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use tokio::sync::oneshot;

use super::call::{Call, Order};
use super::shared::Shared;

/// Resolves when the test answers the call.
///
/// # Panics
///
/// When polled, if the test asked for that, or if it dropped the [`Call`] without an answer.
///
/// # Cancel safety
///
/// Dropping it abandons the call, which the handle counts and the [`Call`] sees.
#[must_use = "futures do nothing unless polled"]
pub struct ControlledFuture<ReqBody, ResBody, E> {
    order: oneshot::Receiver<Order<ResBody, E>>,
    flight: Flight<ReqBody, ResBody, E>,
}

/// Counts a call as in flight until it is resolved or dropped.
struct Flight<ReqBody, ResBody, E> {
    shared: Arc<Shared<ReqBody, ResBody, E>>,
    resolved: bool,
}

impl<ReqBody, ResBody, E> ControlledFuture<ReqBody, ResBody, E> {
    pub(super) fn start(
        shared: Arc<Shared<ReqBody, ResBody, E>>,
        instance: usize,
        request: Request<ReqBody>,
    ) -> Self {
        let (sender, order) = oneshot::channel();
        let automatic = shared.change(|state| {
            let counts = &mut state.counts;
            counts.in_flight += 1;
            counts.peak_in_flight = counts.peak_in_flight.max(counts.in_flight);
            state.automatic.clone()
        });
        let flight = Flight {
            shared,
            resolved: false,
        };
        let call = Call::new(request, instance, sender);
        match automatic {
            // The closure is the test's own and may use the handle, so it runs outside of the lock.
            Some(answer) => call.answer_with(&*answer),
            None => flight
                .shared
                .change(|state| state.waiting_calls.push_back(call)),
        }
        Self { order, flight }
    }
}

impl<ReqBody, ResBody, E> Future for ControlledFuture<ReqBody, ResBody, E> {
    type Output = Result<Response<ResBody>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let order = ready!(Pin::new(&mut self.order).poll(cx));
        self.flight.resolve();
        match order {
            Ok(Order::Answer(answer)) => Poll::Ready(answer),
            Ok(Order::Panic(message)) => panic!("{message}"),
            Err(_) => panic!("the test dropped a Call of a ControlledService without an answer"),
        }
    }
}

impl<ReqBody, ResBody, E> Flight<ReqBody, ResBody, E> {
    fn resolve(&mut self) {
        self.resolved = true;
        self.shared.change(|state| state.counts.in_flight -= 1);
    }
}

impl<ReqBody, ResBody, E> Drop for Flight<ReqBody, ResBody, E> {
    fn drop(&mut self) {
        if !self.resolved {
            self.shared.change(|state| {
                state.counts.in_flight -= 1;
                state.counts.abandoned += 1;
            });
        }
    }
}

impl<ReqBody, ResBody, E> fmt::Debug for ControlledFuture<ReqBody, ResBody, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolved = self.flight.resolved;
        f.debug_struct("ControlledFuture")
            .field("resolved", &resolved)
            .finish_non_exhaustive()
    }
}
