//! A gate that holds tasks until the test lets them pass.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

use crate::patience::within;
use crate::signal::Signal;

/// Holds whoever waits at it until it is opened or lets some of them pass.
///
/// A new gate is shut. Clones are the same gate. Waiters pass in the order in which they came.
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    passes: Semaphore,
    waiting: AtomicUsize,
    arrivals: Signal,
}

/// Counts a waiter for as long as it waits, also when its future is dropped.
struct Waiter<'a>(&'a Shared);

impl Gate {
    /// A gate that is shut.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                passes: Semaphore::new(0),
                waiting: AtomicUsize::new(0),
                arrivals: Signal::default(),
            }),
        }
    }

    /// Lets everybody pass, now and later.
    pub fn open(&self) {
        self.shared.passes.close();
    }

    /// Lets `count` waiters pass; those who have not come yet find their pass when they come.
    pub fn release(&self, count: usize) {
        self.shared.passes.add_permits(count);
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::SeqCst)
    }

    /// Waits, without a limit, until the gate lets the caller pass.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the place in the queue back and uses up no pass.
    pub async fn pass(&self) {
        let _waiter = Waiter::new(&self.shared);
        // An error means that the gate was opened for good.
        if let Ok(pass) = self.shared.passes.acquire().await {
            pass.forget();
        }
    }

    /// Waits until at least `count` wait at the gate at the same time.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[track_caller]
    pub fn reached(&self, count: usize) -> impl Future<Output = ()> {
        let gate = self.clone();
        within(&format!("{count} at the gate"), async move {
            let enough = || (gate.waiting() >= count).then_some(());
            gate.shared.arrivals.until(enough).await;
        })
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> Waiter<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.waiting.fetch_add(1, Ordering::SeqCst);
        shared.arrivals.changed();
        Self(shared)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn release_lets_exactly_so_many_pass() {
        let gate = Gate::new();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.pass().await })
            })
            .collect();
        gate.reached(3).await;
        gate.release(2);
        let mut tasks = tasks.into_iter();
        for task in tasks.by_ref().take(2) {
            within("a released task", task).await.unwrap();
        }
        assert_eq!(gate.waiting(), 1);
        gate.open();
        within("the last task", tasks.next().unwrap())
            .await
            .unwrap();
        within("an open gate", gate.pass()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_that_leaves_is_not_counted_and_takes_no_pass() {
        let gate = Gate::new();
        {
            let mut waiter = std::pin::pin!(gate.pass());
            tokio::select! {
                biased;
                () = &mut waiter => panic!("passed a shut gate"),
                () = gate.reached(1) => {}
            }
        }
        assert_eq!(gate.waiting(), 0);
        gate.release(1);
        within("the pass that nobody took", gate.pass()).await;
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "waited 30s in vain for 1 at the gate, asked for at")]
    async fn waiting_in_vain_fails_loudly() {
        Gate::new().reached(1).await;
    }
}
