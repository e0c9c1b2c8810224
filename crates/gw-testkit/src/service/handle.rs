//! The test's side of a controlled service.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use http::{Request, Response};

use super::call::Call;
use super::shared::{Instance, Readiness, Shared, Violation};
use crate::patience::within;

/// Drives all instances of one [`ControlledService`](super::ControlledService). Clones are the same handle.
pub struct ServiceHandle<ReqBody, ResBody, E> {
    shared: Arc<Shared<ReqBody, ResBody, E>>,
}

impl<ReqBody, ResBody, E> ServiceHandle<ReqBody, ResBody, E> {
    pub(super) fn new(shared: Arc<Shared<ReqBody, ResBody, E>>) -> Self {
        Self { shared }
    }

    /// Makes every instance ready that is polled from now on, and wakes those that wait.
    pub fn set_ready(&self) {
        self.shared.set_readiness(Readiness::Ready);
    }

    /// Makes every instance pending that is polled from now on. Instances polled ready before may be called.
    pub fn set_not_ready(&self) {
        self.shared.set_readiness(Readiness::NotReady);
    }

    /// Makes every instance fail that is polled from now on, and wakes those that wait.
    pub fn fail_ready(&self, error: impl Fn() -> E + Send + Sync + 'static) {
        self.shared
            .set_readiness(Readiness::Failing(Arc::new(error)));
    }

    /// Answers each later call at once by this function, instead of leaving it to the test.
    pub fn answer_with<F>(&self, answer: F)
    where
        F: Fn(Request<ReqBody>) -> Result<Response<ResBody>, E> + Send + Sync + 'static,
    {
        self.shared
            .change(|state| state.automatic = Some(Arc::new(answer)));
    }

    /// Waits for the next call that nobody has taken yet, in the order of calling. A call whose future was
    /// dropped meanwhile comes too; [`Call::is_abandoned`] tells.
    ///
    /// # Panics
    ///
    /// When none comes within [`PATIENCE`](crate::PATIENCE).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses no call.
    #[track_caller]
    pub fn next_call(&self) -> impl Future<Output = Call<ReqBody, ResBody, E>> {
        within("a call of the service", async move {
            let next = || self.shared.state().waiting_calls.pop_front();
            self.shared.changes.until(next).await
        })
    }

    /// How often any instance was called, violations included.
    pub fn calls(&self) -> usize {
        self.shared.state().counts.calls
    }

    /// Calls whose future is neither resolved nor dropped.
    pub fn in_flight(&self) -> usize {
        self.shared.state().counts.in_flight
    }

    /// The largest value of [`in_flight`](Self::in_flight) so far.
    pub fn peak_in_flight(&self) -> usize {
        self.shared.state().counts.peak_in_flight
    }

    /// How many futures were dropped before they were resolved.
    pub fn abandoned(&self) -> usize {
        self.shared.state().counts.abandoned
    }

    /// All instances by their number, those dropped included.
    pub fn instances(&self) -> Vec<Instance> {
        self.shared.state().instances.clone()
    }

    /// All calls on instances that had not been polled ready.
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.state().violations.clone()
    }

    /// Waits until `count` calls are in flight.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn flying(&self, count: usize) -> impl Future<Output = ()> {
        within(&format!("{count} calls in flight"), async move {
            self.shared
                .changes
                .until(|| (self.in_flight() == count).then_some(()))
                .await;
        })
    }
}

impl<ReqBody, ResBody, E> Clone for ServiceHandle<ReqBody, ResBody, E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<ReqBody, ResBody, E> fmt::Debug for ServiceHandle<ReqBody, ResBody, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state();
        f.debug_struct("ServiceHandle")
            .field("counts", &state.counts)
            .field("instances", &state.instances)
            .field("violations", &state.violations)
            .finish_non_exhaustive()
    }
}
